"""The words of a master and its worker, over a pair of connected sockets.

A worker sends words of one byte, which are not in any text. The bytes between two of them,
`NUMBERS` and `END`, are its numbers in base 64, with other words anywhere among them. All else is
text: the reason why it does not start, or the stack of its main thread. The master sends lines:
`ASK` for the numbers, or the seconds within which to leave. A worker whose master has closed its
end has to leave, too: the master is gone.
"""

from __future__ import annotations

import signal

#: I have joined. My hub runs. I need a successor.
READY, RUNS, ENOUGH = b"\1", b"\2", b"\3"

#: These are my numbers. That was all of them.
NUMBERS, END = b"\4", b"\5"

#: What are your numbers?
ASK = b"numbers"

#: The most bytes of a worker's numbers; an answer with more is empty.
MOST = 1 << 24

#: How often a worker reports that its hub runs, in the time after which it counts as stuck.
RUNS_SAID = 8

#: The signal at which a worker writes the stack of its main thread, and ends.
TELL_STACK: int = getattr(signal, "SIGRTMAX", signal.SIGUSR2)


def words_in(data: bytes) -> set[bytes]:
    """Return the words in the data of a worker."""
    return {word for word in (READY, RUNS, ENOUGH) if word in data}


def text_in(data: bytes) -> str:
    """Return the text in the data of a worker, one line after another."""
    return without_words(data).decode(errors="replace")


def without_words(data: bytes) -> bytes:
    """Return the data of a worker without the words that may come at any time."""
    return data.translate(None, READY + RUNS + ENOUGH)
