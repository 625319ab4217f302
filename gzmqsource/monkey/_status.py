"""A patched process reports that to processes that may read it: ``gzmqsource doctor --pid``.

Each patch leaves a file in memory, which has a name in ``/proc/PID/fd`` and ends with the process.
That needs no thread, no signal and no hub, which may be blocked. A forked child, which is patched
like its parent, inherits the file; another program does not.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

_PREFIX = "gzmqsource-patch-"

#: The most bytes that are read of such a file.
_MOST = 1 << 20

#: The folders of the extensions of a package, by the name of the package.
_EXTENSIONS = {"gevent": "/gevent/", "pyzmq": "/zmq/backend/"}


def publish(module: str, left: list[str]) -> None:
    """Publish that a module is patched, and the objects that were left as they were."""
    if not hasattr(os, "memfd_create"):
        return
    with contextlib.suppress(OSError):  # no descriptor is left, or a sandbox forbids the call
        descriptor = os.memfd_create(f"{_PREFIX}{module}")
        os.write(descriptor, json.dumps(left).encode())


def patches_of(pid: int) -> dict[str, list[str]]:
    """Return the patched modules of a process, each with the objects that were left as they were.

    Raises
    ------
    OSError
        There is no such process, or it is another user's.
    """
    found = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            name = os.readlink(descriptor).removeprefix("/memfd:").removesuffix(" (deleted)")
            if name.startswith(_PREFIX):
                found[name.removeprefix(_PREFIX)] = _left_in(descriptor)
    return found


def _left_in(file: Path) -> list[str]:
    """Return what `publish` has written; any program may have a file of that name."""
    with open(file, "rb") as opened:
        text = opened.read(_MOST)
    try:
        left = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [each for each in left if isinstance(each, str)] if isinstance(left, list) else []


def packages_of(pid: int) -> list[str]:
    """Return which of gevent and pyzmq a process has loaded; raise as `patches_of`."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return [package for package, place in _EXTENSIONS.items() if place in maps]
