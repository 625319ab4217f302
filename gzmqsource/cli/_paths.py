"""Paths of options, which a module that changes the directory does not change."""

from __future__ import annotations

import contextlib
import os


def here(path: str) -> str:
    """Return a path that is still the same when the working directory is another one."""
    with contextlib.suppress(FileNotFoundError):  # the directory was removed
        return os.path.join(os.getcwd(), path)
    return path
