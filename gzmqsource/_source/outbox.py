"""The bounded send buffer of a source.

A message is queued when libzmq does not take it at once. Each `Lane` is one gevent queue with one
bound: a ROUTER or STREAM has a lane for each peer, so that a full one does not hold up the others;
every other type has one lane. A message leaves its lane after libzmq has taken it, and not before.

A message that finds its lane full is treated by the overflow policy. Under ``"block"`` its sender
waits as a *putter*, and no other message overtakes it. A putter may be a greenlet of this hub, a
greenlet of another thread's hub, or a native thread. Other threads never touch a lane: they leave
their putters in ``arrivals``, from where the owner's hub takes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, get_args

from gevent.queue import Full

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.event import Event
from gzmqsource._base.oneshot import allocate_lock
from gzmqsource._source.lane import Lane
from gzmqsource._source.putter import Putter
from gzmqsource.errors import SourceClosed
from gzmqsource.transfer.message import AnyMessage, Message, as_frames, as_message

#: What happens to a message that finds its lane full.
Overflow = Literal["block", "raise", "drop_newest", "drop_oldest"]


class Outbox:
    """Lanes under one bound each, and one overflow policy.

    Parameters
    ----------
    maxsize : int
        The most messages that a lane holds, at least 1.
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
        #: Whether there is a lane that was not tried yet; it must not wait for the others.
        self.has_new_lane = False
        #: Always empty: a source is passed whole messages.
        self.partial: dict[Any, Any] = {}
        #: The only lane, once it was needed; None where each peer has its own.
        self.lane: Lane | None = None
        #: How many frames a message needs.
        self.least_frames = 2 if per_peer else 1
        #: The most messages that were in one lane before some left it.
        self._peak = 0
        #: How many messages were dropped, by reason.
        self.dropped: Counter[str] = Counter()
        #: Set while nothing is queued.
        self.empty = Event()
        self.empty.set()
        #: The most messages that a lane holds.
        self.maxsize = maxsize
        self._overflow = overflow
        self._per_peer = per_peer
        #: What other threads have left; emptied by `accept_arrivals`.
        self.arrivals: list[Putter] = []
        self._arrivals_lock = allocate_lock()
        self._closed = False

    def checked(self, message: AnyMessage) -> Message:
        """Check a message; where each peer has a lane, it must have a frame beside the peer's name.

        On a ROUTER, libzmq silently drops a message that is only a routing id.

        Raises
        ------
        TypeError, ValueError
            This outbox cannot send it.
        """
        checked = as_message(message)
        if self._per_peer and (type(checked) is bytes or len(checked) < 2):
            raise ValueError(
                "a message to a ROUTER or STREAM is the peer's routing id and then its frames, "
                f"got one frame: {checked!r:.60}"
            )
        return checked

    def is_free(self, message: Message) -> bool:
        """Return whether *message* would overtake nothing."""
        if self.arrivals:
            return False
        return not self.lanes or (self._per_peer and self._key(message) not in self.lanes)

    def put(self, message: Message, block: bool, timeout: float | None) -> None:
        """Queue a message, from a greenlet of the hub that owns the source.

        Raises
        ------
        gevent.queue.Full
            The lane is full, and *block* is False or *timeout*, in seconds, ran out.
        SourceClosed
            The outbox was closed while it waited.
        """
        self.accept_arrivals()
        lane = self._lane_for(message)
        if lane is not None:
            lane.put(message, block and self._overflow == "block", timeout)

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
                ahead += len(lane.queue) + len(lane.waiting)
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
        """Take over what other threads have posted; call this in the owner's hub."""
        while self.arrivals:
            with self._arrivals_lock:
                putter = self.arrivals.pop(0)
            lane = self._lane_for(putter.message)
            if lane is not None:
                lane.admit(putter)
                self.settle(self._key(putter.message), 0)  # the putter may have withdrawn

    def forget_withdrawn(self) -> None:
        """Remove the putters that have withdrawn."""
        for lane in list(self.lanes.values()):
            for putter in [putter for putter in lane.waiting if putter.withdrawn]:
                lane.forget(putter)

    def withdraw(self, message: Message) -> bool:
        """Remove a message; return False if it is not queued."""
        key = self._key(message)
        lane = self.lanes.get(key)
        if lane is None or message not in lane.queue:
            return False
        lane.queue.remove(message)
        self.settle(key, 1)
        return True

    def settle(self, key: Any, left: int) -> None:
        """Note that *left* messages of a lane have left its deque, and let putters follow."""
        lane = self.lanes[key]
        self._peak = max(self._peak, len(lane.queue) + left)
        lane.settle(left)
        if not lane.queue:
            del self.lanes[key]
            if not self.lanes:
                self.empty.set()

    @property
    def depth(self) -> int:
        """How many messages are queued now."""
        return sum(len(lane.queue) for lane in self.lanes.values())

    @property
    def peak(self) -> int:
        """The most messages that ever were in one lane."""
        return max(self._peak, *(len(lane.queue) for lane in self.lanes.values()), 0)

    def oldest_age(self) -> float:
        """Return the age in seconds of the message that is queued longest, or 0.0."""
        return max((lane.age() for lane in self.lanes.values()), default=0.0)

    def close(self) -> list[list[Any]]:
        """Refuse all putters, and return the messages for which no sender waits."""
        with self._arrivals_lock:
            self._closed = True
            arrivals = list(self.arrivals)
            self.arrivals.clear()
        self._peak = self.peak
        unsent = [as_frames(m) for lane in self.lanes.values() for m in lane.queue]
        putters = [putter for lane in self.lanes.values() for putter in lane.waiting] + arrivals
        self.lanes.clear()
        self.empty.set()
        for putter in putters:
            if putter.refuse() and not putter.awaited:  # no sender would report it
                unsent.append(as_frames(putter.message))
        return unsent

    def _key(self, message: Message) -> Any:
        return bytes(message[0]) if self._per_peer else None  # type: ignore[arg-type]

    def _lane_for(self, message: Message) -> Lane | None:
        """Return the lane of a message, after applying the policy; None if it is dropped."""
        key = self._key(message)
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lane or Lane(self.maxsize)
            if not self._per_peer:
                self.lane = lane
            self.lanes[key] = lane
            self.has_new_lane = True
            self.empty.clear()
        elif lane.full():
            if self._overflow == "drop_newest":
                self.dropped["newest"] += 1
                return None
            if self._overflow == "drop_oldest":
                lane.get_nowait()
                self.dropped["oldest"] += 1
        return lane
