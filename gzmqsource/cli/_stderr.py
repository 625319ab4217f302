"""A standard error that never blocks: a server must not hang because its log has no reader."""

from __future__ import annotations

import io
import select
import signal
import sys
from typing import Any

from gevent.monkey import get_original

_poll: Any = get_original("select", "poll")


class Unblocked(io.RawIOBase):
    """Writes to a file what can be written at once; drops the rest, and says later how much.

    A pipe that is full, with a reader that is stuck, else holds up the hub for as long: signals
    to stop, too, and all clients. It stays in the blocking mode, which other processes that have
    it rely on. Nor does a terminal stop who writes from its background (``stty tostop``): the
    SIGTTOU would be an order to a master, and the write be tried again, and again.
    """

    #: The most bytes of a write, all of which find room where one byte does.
    chunk = select.PIPE_BUF

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self._file = file
        self._ready = _poll()
        self._ready.register(file.fileno(), select.POLLOUT)
        #: How many bytes were dropped since the last that were written.
        self._dropped = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._file.isatty()

    def write(self, data: Any) -> int:
        """Write, or drop; return how many bytes there were."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self._ready.poll(0):
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._put(b"\n(%d bytes of this log were lost: it was full)\n" % dropped)
            else:
                left = left[self._put(left[: self.chunk]) :]
        self._dropped += len(left)
        return size

    def _put(self, data: bytes | memoryview) -> int:
        if not self._file.isatty():
            return self._file.write(data)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            return self._file.write(data)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def unblock_stderr() -> None:
    """Have nothing that this process writes to `sys.stderr` wait for a reader."""
    stream: Any = sys.__stderr__
    if sys.stderr is not stream:  # other code has put another one there
        return
    try:
        file = io.FileIO(stream.fileno(), "w", closefd=False)
    except (AttributeError, OSError, ValueError):  # it is closed, or not there
        return
    sys.stderr = io.TextIOWrapper(
        Unblocked(file),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
        write_through=True,
    )
