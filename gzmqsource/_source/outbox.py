"""The bounded send buffer of a source.

A message is queued when libzmq would not take it at once. Each *lane* is one FIFO with one bound:
a ROUTER or STREAM has a lane for each peer, so that a full one holds up nobody else; every other
type has one lane. A message leaves its lane after libzmq has taken it, and not before.

Who finds a lane full follows the overflow policy. Under ``"block"`` it waits as a *putter*, and
nobody overtakes it: a lane with putters takes new messages only behind them. A putter may be a
greenlet of this hub, a greenlet of another thread's hub, or a native thread. Other threads never
touch a lane: they leave their putters in ``arrivals``, from where the owner's hub takes them.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal, get_args

from gevent.queue import Full

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.event import Event
from gzmqsource._base.oneshot import allocate_lock
from gzmqsource._source.putter import Putter
from gzmqsource.errors import SourceClosed
from gzmqsource.transfer.message import AnyMessage, Message, as_frames, as_message

#: What happens to a message that finds its lane full.
Overflow = Literal["block", "raise", "drop_newest", "drop_oldest"]


class Lane:
    """The messages for one destination, oldest first, and the putters behind them."""

    __slots__ = ("_left", "_marks", "messages", "putters")

    #: Seconds between two notes of the time, so that not every message costs one.
    resolution = 0.001

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        #: Lists, for an empty deque takes 600 bytes more, and there are few of these.
        self.putters: list[Putter] = []
        #: When a message was queued, after how many others.
        self._marks: list[tuple[int, float]] = []
        self._left = 0

    def note_time(self) -> None:
        """Note that a message is about to be queued; not needed again within `resolution`."""
        self._marks.append((self._left + len(self.messages), time.monotonic()))
        self._forget_marks()

    def note_left(self, count: int) -> None:
        """Note that the oldest messages have left."""
        self._left += count
        self._forget_marks()

    def age(self) -> float:
        """Give the age in seconds of the oldest message, to the `resolution`."""
        return time.monotonic() - self._marks[0][1] if self.messages else 0.0

    def _forget_marks(self) -> None:
        while len(self._marks) > 1 and self._marks[1][0] <= self._left:
            self._marks.pop(0)


class Outbox:
    """Lanes under one bound each, and one overflow policy.

    Parameters
    ----------
    maxsize : int
        How many messages a lane holds, at least 1.
    overflow : {"block", "raise", "drop_newest", "drop_oldest"}
        The policy.
    per_peer : bool
        Whether a message's first frame names its lane.
    """

    def __init__(self, maxsize: int, overflow: Overflow, per_peer: bool) -> None:
        if not isinstance(maxsize, int) or maxsize < 1:
            raise ValueError(f"outbox={maxsize!r}: the bound is an int of at least 1 message")
        if overflow not in get_args(Overflow):
            raise ValueError(f"overflow={overflow!r}: use one of {', '.join(get_args(Overflow))}")
        #: The lanes in which something is queued.
        self.lanes: dict[Any, Lane] = {}
        #: Whether there is a lane for which nothing was tried yet, that others' must not hold up.
        self.has_new_lane = False
        #: The one lane that there ever is, once it was needed, unless each peer has its own.
        self.lane: Lane | None = None
        #: The most messages that were in one lane before some left it.
        self._peak = 0
        #: How many messages were dropped, by reason.
        self.dropped: Counter[str] = Counter()
        #: Set while nothing is queued.
        self.empty = Event()
        self.empty.set()
        #: How many messages a lane holds.
        self.maxsize = maxsize
        self._overflow = overflow
        self._per_peer = per_peer
        #: What other threads have left; emptied by `accept_arrivals`.
        self.arrivals: list[Putter] = []
        self._arrivals_lock = allocate_lock()
        self._closed = False

    def checked(self, message: AnyMessage) -> Message:
        """Check a message; for one lane per peer it also needs the peer's name and something more.

        libzmq drops a message to a ROUTER that is nothing but a routing id, without a word.

        Raises
        ------
        TypeError, ValueError
            It is not a message that this outbox can send.
        """
        checked = as_message(message)
        if self._per_peer and (type(checked) is bytes or len(checked) < 2):
            raise ValueError(
                "a message to a ROUTER or STREAM is the peer's routing id and then its frames, "
                f"got one frame: {checked!r:.60}"
            )
        return checked

    def is_free(self, message: Message) -> bool:
        """Whether nothing is queued that *message* must stay behind."""
        if self.arrivals:
            return False
        return not self.lanes or (self._per_peer and self._key(message) not in self.lanes)

    def put(self, message: Message, block: bool, timeout: float | None) -> None:
        """Queue a message, from a greenlet of the hub that owns the source.

        Raises
        ------
        gevent.queue.Full
            The lane is full, and it was not to wait, or *timeout*, in seconds, ran out.
        SourceClosed
            The outbox was closed while it waited.
        """
        self.accept_arrivals()
        putter = Putter(message, awaited=True)
        if self._admit(putter):
            return
        if not block or self._overflow == "raise":
            raise Full
        lane = self._lane(message)
        lane.putters.append(putter)
        try:
            putter.wait(Deadline(timeout).left())
        finally:
            self._forget(lane, putter)

    def post(
        self, message: Message, block: bool, timeout: float | None, notify: Callable[[], object]
    ) -> None:
        """Queue a message, from any other thread; the errors are those of `put`.

        Parameters
        ----------
        notify : callable
            Makes the owner's hub call `accept_arrivals`.
        """
        with self._arrivals_lock:
            if self._closed:
                raise SourceClosed("the source is closed")
            lane = self.lanes.get(self._key(message))
            ahead = len(self.arrivals)
            if lane is not None:
                ahead += len(lane.messages) + len(lane.putters)
            has_room = ahead < self.maxsize
            if not has_room:
                if self._overflow == "drop_newest":
                    self.dropped["newest"] += 1
                    return
                if self._overflow == "drop_oldest" and self.arrivals:
                    self.arrivals.pop(0)
                    self.dropped["oldest"] += 1
                elif self._overflow == "raise" or not block:
                    raise Full
            putter = Putter(message, awaited=not has_room and self._overflow == "block")
            first = not self.arrivals
            self.arrivals.append(putter)
        if first:
            notify()
        if putter.awaited:
            try:
                putter.wait(Deadline(timeout).left())
            finally:
                if putter.withdrawn:
                    notify()

    def accept_arrivals(self) -> None:
        """Take over what other threads have posted; to be called in the owner's hub."""
        while self.arrivals:
            with self._arrivals_lock:
                putter = self.arrivals.pop(0)
            if not self._admit(putter):
                self._lane(putter.message).putters.append(putter)

    def forget_withdrawn(self) -> None:
        """Remove the putters whose senders have given up."""
        for lane in list(self.lanes.values()):
            for putter in [putter for putter in lane.putters if putter.withdrawn]:
                self._forget(lane, putter)

    def withdraw(self, message: Message) -> bool:
        """Remove a message that is queued; False if it is not."""
        lane = self.lanes.get(self._key(message))
        if lane is None or message not in lane.messages:
            return False
        lane.messages.remove(message)
        self.settle(self._key(message), 1)
        return True

    def settle(self, key: Any, left: int) -> None:
        """Take note that *left* messages of a lane have left it, and let putters follow."""
        lane = self.lanes[key]
        self._peak = max(self._peak, len(lane.messages) + left)
        lane.note_left(left)
        while lane.putters and len(lane.messages) < self.maxsize:
            putter = lane.putters.pop(0)
            if putter.take():
                self._append(lane, putter.message)
        if not lane.messages:
            del self.lanes[key]
            if not self.lanes:
                self.empty.set()

    @property
    def depth(self) -> int:
        """How many messages are queued now."""
        return sum(len(lane.messages) for lane in self.lanes.values())

    @property
    def peak(self) -> int:
        """The most messages that ever were in one lane."""
        return max(self._peak, *(len(lane.messages) for lane in self.lanes.values()), 0)

    def oldest_age(self) -> float:
        """Give the age in seconds of the message that is queued longest, or 0.0."""
        return max((lane.age() for lane in self.lanes.values()), default=0.0)

    def close(self) -> list[list[Any]]:
        """Refuse all who wait, and give back the messages that nobody waits with."""
        with self._arrivals_lock:
            self._closed = True
            arrivals = list(self.arrivals)
            self.arrivals.clear()
        self._peak = self.peak
        unsent = [as_frames(m) for lane in self.lanes.values() for m in lane.messages]
        putters = [putter for lane in self.lanes.values() for putter in lane.putters] + arrivals
        self.lanes.clear()
        self.empty.set()
        for putter in putters:
            if putter.refuse() and not putter.awaited:  # nobody is there to be told
                unsent.append(as_frames(putter.message))
        return unsent

    def _key(self, message: Message) -> Any:
        return bytes(message[0]) if self._per_peer else None  # type: ignore[arg-type]

    def _lane(self, message: Message) -> Lane:
        return self.lanes[self._key(message)]

    def _admit(self, putter: Putter) -> bool:
        """Queue or drop the message now; False if its lane is full under ``"block"``."""
        key = self._key(putter.message)
        lane = self.lanes.get(key)
        if lane is None:
            if putter.take():
                lane = self.lanes[key] = self.lane or Lane()
                if not self._per_peer:
                    self.lane = lane
                self.has_new_lane = True
                self.empty.clear()
                self._append(lane, putter.message)
            return True
        if len(lane.messages) >= self.maxsize:
            if self._overflow == "drop_newest":
                self.dropped["newest"] += 1
                return True
            if self._overflow != "drop_oldest":
                return False
            lane.messages.popleft()
            lane.note_left(1)
            self.dropped["oldest"] += 1
        if putter.take():
            self._append(lane, putter.message)
        return True

    def _append(self, lane: Lane, message: Message) -> None:
        lane.note_time()
        lane.messages.append(message)

    def _forget(self, lane: Lane, putter: Putter) -> None:
        if putter in lane.putters:
            lane.putters.remove(putter)
