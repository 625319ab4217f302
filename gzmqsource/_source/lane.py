"""`Lane`: a gevent queue of messages, with putters that no newcomer overtakes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gevent.queue import Full, Queue

from gzmqsource._base.deadline import Deadline
from gzmqsource._source.putter import Putter
from gzmqsource.transfer.message import Message

if TYPE_CHECKING:
    MessageQueue = Queue[Message]
else:
    MessageQueue = Queue  # it cannot be subscripted before gevent 25.4


class Lane(MessageQueue):
    """The messages for one destination, oldest first, and the putters behind them.

    The deque (``queue``), ``maxsize``, ``qsize``, ``full`` and ``get_nowait`` are gevent's. Its
    putters are not: with one waiting on a full queue, ``get_nowait()`` and then ``put_nowait()``
    admit the newcomer first, and a native thread cannot be a putter. So a message that finds no
    room waits here, in `waiting`, and follows in the step in which room is made.

    Parameters
    ----------
    maxsize : int
        How many messages fit, at least 1.
    """

    __slots__ = ("_left", "_marks", "waiting")

    #: Seconds between two notes of the time, so that not every message costs one.
    resolution = 0.001

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        #: The putters, in FIFO order; there are some only while the lane is full. A list because
        #: an empty deque takes 600 bytes more, and there are few putters.
        self.waiting: list[Putter] = []
        #: When a message was queued, after how many others.
        self._marks: list[tuple[int, float]] = []
        self._left = 0

    def put(self, item: Message, block: bool = True, timeout: float | None = None) -> None:
        """Queue a message, or wait for room behind the other putters.

        Raises
        ------
        gevent.queue.Full
            The lane is full, and *block* is False or *timeout*, in seconds, ran out.
        SourceClosed
            The outbox was closed while it waited.
        """
        if not self.full():
            self._put(item)
            return
        if not block:
            raise Full
        putter = Putter(item, awaited=True)
        self.waiting.append(putter)
        try:
            putter.wait(Deadline(timeout).left())
        finally:
            self.forget(putter)

    def admit(self, putter: Putter) -> None:
        """Queue the message of a putter, or have the putter wait for room behind the others."""
        if self.full():
            self.waiting.append(putter)
        elif putter.take():
            self._put(putter.message)

    def forget(self, putter: Putter) -> None:
        """Remove a putter that waits no longer, if it is still there."""
        if putter in self.waiting:
            self.waiting.remove(putter)

    def settle(self, left: int) -> None:
        """Note that the *left* oldest messages have left the deque, and let putters follow."""
        self._left += left
        self._forget_marks()
        while self.waiting and not self.full():
            self.admit(self.waiting.pop(0))

    def note_time(self) -> None:
        """Note that a message is about to be queued; not needed again within `resolution`."""
        self._marks.append((self._left + len(self.queue), time.monotonic()))
        self._forget_marks()

    def age(self) -> float:
        """Return the age in seconds of the oldest message, to the `resolution`."""
        return time.monotonic() - self._marks[0][1] if self.queue else 0.0

    def _put(self, item: Message) -> None:
        self.note_time()
        self.queue.append(item)

    def _get(self) -> Message:
        message: Message = self.queue.popleft()
        self.settle(1)
        return message

    def _forget_marks(self) -> None:
        while len(self._marks) > 1 and self._marks[1][0] <= self._left:
            self._marks.pop(0)
