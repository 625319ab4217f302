"""What a master and its worker say to each other, over a pair of connected sockets.

A worker says words of one byte, which are not in any text: all else that comes from it is the
stack of its main thread. The master says within how many seconds to leave, in a line. That its end
is closed says the same, for good: it is gone.
"""

from __future__ import annotations

import signal

#: I have joined. My hub runs. Have somebody take my place.
READY, RUNS, ENOUGH = b"\1", b"\2", b"\3"

#: How often a worker says that its hub runs, in the time after which it counts as stuck.
RUNS_SAID = 8

#: The signal at which a worker writes the stack of its main thread, and ends.
TELL_STACK: int = getattr(signal, "SIGRTMAX", signal.SIGUSR2)


def words_in(data: bytes) -> set[bytes]:
    """Return the words in what a worker has sent."""
    return {word for word in (READY, RUNS, ENOUGH) if word in data}


def text_in(data: bytes) -> str:
    """Return all else, one line of a stack after another."""
    return data.translate(None, READY + RUNS + ENOUGH).decode(errors="replace")
