"""Taking messages from a source without a handler, for any number of greenlets in FIFO order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from gevent.queue import Empty

from gzmqsource._base.deadline import Deadline
from gzmqsource._source.core import Core, State
from gzmqsource.errors import SourceBroken, SourceClosed, SourceForked


class Pulled:
    """What a `gzmqsource.Source` without a handler is pulled with."""

    #: The handler; None for a source that is pulled.
    handle: Callable[[list[Any]], object] | None = None

    _core: Core
    _receive_direct: Callable[[], list[Any] | Literal[False] | None]

    def recv(self, block: bool = True, timeout: float | None = None) -> list[Any]:
        """Receive one message.

        Waiting greenlets are served in FIFO order. If the greenlet is killed while it waits, no
        message is lost.

        Parameters
        ----------
        block : bool
            Whether to wait for a message.
        timeout : float or None
            Seconds to wait at most; None for ever.

        Raises
        ------
        gevent.queue.Empty
            There is no message, or none came within *timeout*.
        SourceClosed
            The source was stopped or closed.
        TypeError
            The source has a handler, which gets all messages.
        """
        if timeout is None:
            message = self._receive_direct()
            if message is False and block:
                self._core.readiness.wait_readable()
                self._core.turn.renew()
                message = self._receive_direct()
                if not message:
                    # Who was woken is the first, also if others wait by now.
                    return pull(self._core, 1, True, None, woken=True)[0]
            if message:
                return message
        return self._pull(1, block, timeout)[0]

    def recv_many(
        self, limit: int, block: bool = True, timeout: float | None = None
    ) -> list[list[Any]]:
        """Receive what is there, from 1 to *limit* messages; waits for the first as `recv` does.

        Fewer than *limit* are given, too, when `max_bytes` have been read.
        """
        if limit < 1:
            raise ValueError(f"limit={limit!r}: at least 1 message")
        return self._pull(limit, block, timeout)

    def __iter__(self) -> Iterator[list[Any]]:
        """Iterate over the messages, until the source is stopped or closed, or `SourceBroken`."""
        while True:
            try:
                message = self.recv()
            except (SourceBroken, SourceForked):
                raise
            except SourceClosed:
                return
            yield message

    def _pull(self, limit: int, block: bool, timeout: float | None) -> list[list[Any]]:
        self._core.enter()
        if self.handle is not None:
            raise TypeError(f"{self!r} has a handler, which gets all messages")
        return pull(self._core, limit, block, timeout)


def pull(
    core: Core, limit: int, block: bool, timeout: float | None, woken: bool = False
) -> list[list[Any]]:
    """Receive from 1 to *limit* messages; see `gzmqsource.Source.recv`.

    Nothing is read ahead: what nobody pulls stays in libzmq. So a kill can lose nothing. Who is
    *woken* has waited for its turn already.
    """
    deadline = Deadline(timeout if block else 0)
    if block and not woken:
        core.take_turn()
        if core.readiness.readers:
            # Others were here first: they are woken before this greenlet.
            core.readiness.check()
            core.readiness.wait_readable(deadline.left())
    messages: list[list[Any]] = []
    while core.state is State.STARTED and not core.closed:
        if not core.resumed.is_set():
            if not core.resumed.wait(deadline.left()):
                raise Empty
            continue
        core.receive(messages, limit)
        if messages:
            return messages
        if deadline.left() == 0:
            raise Empty
        core.readiness.wait_readable(deadline.left())
        core.turn.renew()
    raise core.closed_error()
