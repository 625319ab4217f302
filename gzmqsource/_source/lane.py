"""`Lane`: a gevent queue of messages, with putters that no newcomer overtakes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from gevent.queue import Queue

from gzmqsource._source.putter import ForeignPutter, Putter
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
    room waits here, in `waiting`, and `admit` lets it follow.

    Parameters
    ----------
    maxsize : int
        How many messages fit, at least 1.
    """

    __slots__ = ("_left", "_marks", "waiting")

    #: Seconds between two notes of the time, so that not every message costs one.
    resolution = 0.001

    #: The most greenlets of other hubs that are invited at a time.
    invitations = 64

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        #: The putters, in FIFO order; each can leave without a search.
        self.waiting: OrderedDict[Putter | ForeignPutter, None] = OrderedDict()
        #: When a message was queued, after how many others.
        self._marks: list[tuple[int, float]] = []
        self._left = 0

    @property
    def has_room(self) -> bool:
        """Whether a newcomer may queue a message at once."""
        return not self.waiting and not self.full()

    def wait_for_room(self, timeout: float | None, look: Callable[[], object]) -> None:
        """Wait behind the other putters; the message must follow in the same step.

        The errors are those of `Putter.wait`.
        """
        putter = Putter(self.hub)
        self.waiting[putter] = None
        try:
            # It goes on waiting while messages enter and leave the lane, for its turn will come.
            putter.wait(timeout, lambda: (look(), self._left, len(self.queue)))
        finally:
            self.waiting.pop(putter, None)

    def admit(self) -> Putter | ForeignPutter | None:
        """Let the putters follow, in order, while there is room.

        Returns
        -------
        Putter, ForeignPutter or None
            The one whose turn it is, and who has to act: to be woken, or to accept. None if there
            is no room, or no putter.
        """
        while self.waiting and not self.full():
            first = next(iter(self.waiting))
            if isinstance(first, Putter):
                return first
            if first.take():
                self._put(first.message)
            elif not first.withdrawn:
                self._invite()
                return first
            del self.waiting[first]
        return None

    def settle(self, left: int) -> None:
        """Note that the *left* oldest messages have left the deque."""
        self._left += left
        self._forget_marks()

    def note_time(self) -> None:
        """Note that a message is about to be queued; not needed again within `resolution`."""
        now = time.monotonic()
        if not self._marks or now - self._marks[-1][1] >= self.resolution:
            self._marks.append((self._left + len(self.queue), now))
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

    def _invite(self) -> None:
        """Invite the greenlets of other hubs for which there is room."""
        room = (self.maxsize or 0) - len(self.queue)
        for putter in islice(self.waiting, min(room, self.invitations)):
            if isinstance(putter, ForeignPutter):
                putter.invite()
