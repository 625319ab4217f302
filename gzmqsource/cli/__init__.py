"""The ``gzmqsource`` command; it needs the extra ``cli``."""

from __future__ import annotations

import errno
from importlib.util import find_spec

from gzmqsource.cli._early import (
    end_by_interrupts,
    hold_hangups,
    is_output_closed,
    leave_stops,
    open_streams,
)

#: No room: on the disk, in what the user may have of it, and in a file (``ulimit -f``).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Run the command, or exit with a message that names the package it lacks."""
    open_streams()
    end_by_interrupts()
    hold_hangups()
    leave_stops()
    for name in ("click", "rich"):
        if find_spec(name) is None:
            raise SystemExit(f"gzmqsource: {name} is missing: pip install 'gzmqsource[cli]'")
    from gzmqsource.cli._command import gzmqsource

    try:
        gzmqsource()
    except OSError as error:
        # A full disk, or a closed output. A descriptor of anything else is not the output.
        is_output = error.errno == errno.EBADF and is_output_closed()
        if error.errno not in _FULL and not is_output:
            raise
        raise SystemExit(f"gzmqsource: cannot write: {error.strerror}") from error
