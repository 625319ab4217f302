"""The ``gzmqsource`` command; it needs the extra ``cli``."""

from __future__ import annotations

import errno
from importlib.util import find_spec

from gzmqsource.cli._early import end_by_interrupts, hold_hangups, open_streams


def main() -> None:
    """Run the command, or exit with a message that names the package it lacks."""
    open_streams()
    end_by_interrupts()
    hold_hangups()
    for name in ("click", "rich"):
        if find_spec(name) is None:
            raise SystemExit(f"gzmqsource: {name} is missing: pip install 'gzmqsource[cli]'")
    from gzmqsource.cli._command import gzmqsource

    try:
        gzmqsource()
    except OSError as error:
        # A disk that is full, or an output that was closed at the start.
        if error.errno not in (errno.ENOSPC, errno.EBADF):
            raise
        raise SystemExit(f"gzmqsource: cannot write: {error.strerror}") from error
