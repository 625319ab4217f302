"""The bounded send buffer of a source.

A message is queued when libzmq does not take it at once. Each `Lane` is one gevent queue with one
bound: a ROUTER or STREAM has a lane for each peer, so that a full one does not hold up the others;
every other type has one lane. A message leaves its lane after libzmq has taken it, and not before.

A message that finds its lane full is treated by the overflow policy. Under ``"block"`` its sender
waits as a *putter*, and no other message overtakes it. A putter may be a greenlet of this hub, a
greenlet of another thread's hub, or a native thread. Other threads never touch a lane: they leave
their putters, and later their answers, in ``arrivals``, from where the owner's hub takes them.

A lane lives while something is queued in it, or a putter waits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Literal, get_args

from gevent.hub import get_hub
from gevent.monkey import get_original
from gevent.queue import Full

from gzmqsource._base.waiters import Waiters
from gzmqsource._source.lane import Lane
from gzmqsource._source.putter import ForeignPutter, Putter
from gzmqsource.errors import SourceClosed
from gzmqsource.transfer.message import AnyMessage, Message, as_frames, as_message

# With a generator, `any` takes three times as long.
_queue_of = attrgetter("queue")

allocate_rlock = get_original("_thread", "RLock")

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

    #: Seconds that the putters behind a greenlet of another hub wait until it has accepted. Then
    #: it waits behind them: no hub can hold up the others.
    patience = 0.1

    def __init__(self, maxsize: int, overflow: Overflow, per_peer: bool) -> None:
        if not isinstance(maxsize, int) or maxsize < 1:
            raise ValueError(f"outbox={maxsize!r}: the bound is an int of at least 1 message")
        if overflow not in get_args(Overflow):
            raise ValueError(f"overflow={overflow!r}: use one of {', '.join(get_args(Overflow))}")
        self._hub = get_hub()
        #: The lanes that live.
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
        #: The greenlets that wait until no lane lives.
        self._flushing = Waiters()
        #: The most messages that a lane holds.
        self.maxsize = maxsize
        self._overflow = overflow
        self._per_peer = per_peer
        #: What other threads have left; emptied by `accept_arrivals`.
        self.arrivals: deque[ForeignPutter] = deque()
        # Reentrant, for the garbage collector may close a source in the midst of this.
        self._arrivals_lock = allocate_rlock()
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

    @property
    def has_queued(self) -> bool:
        """Whether libzmq may be tried: a lane that lives may have putters only."""
        return any(map(_queue_of, self.lanes.values()))

    def put(
        self,
        message: Message,
        block: bool,
        timeout: float | None,
        look: Callable[[], object],
    ) -> None:
        """Queue a message, from a greenlet of the hub that owns the source.

        Parameters
        ----------
        look : callable
            Makes the hub try libzmq once more when *timeout*, in seconds, is over.

        Raises
        ------
        gevent.queue.Full
            The lane is full, and *block* is False or the time ran out.
        SourceClosed
            The outbox was closed while it waited.
        """
        self.accept_arrivals()
        key = self._key(message)
        lane = self._lane_for(key)
        if lane is None:
            return
        if block and self._overflow == "block" and not lane.has_room:
            try:
                lane.wait_for_room(timeout, look)
            except BaseException:
                self._follow(key, lane)
                raise
        elif not lane.has_room:
            raise Full
        # After a wait this is the step of the hub that has woken the greenlet, and there is no
        # switch until `send` returns: nothing can be thrown between the two.
        self.has_new_lane |= not lane.queue
        lane.put_nowait(message)

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
                    self.arrivals.popleft()
                    self.dropped["oldest"] += 1
                elif self._overflow == "raise" or not block:
                    raise Full
            awaited = not has_room and self._overflow == "block"
            putter = ForeignPutter(message, awaited, notify)
            self._arrive(putter)
        if awaited:
            try:
                putter.wait_until_taken(timeout)
            finally:
                if putter.is_answered:
                    self._arrive(putter)

    def accept_arrivals(self) -> None:
        """Take over what other threads have posted; call this in the owner's hub."""
        while self.arrivals:
            with self._arrivals_lock:
                putter = self.arrivals.popleft()
            key = self._key(putter.message)
            if putter.is_new:
                lane = self._lane_for(key)
                if lane is not None:
                    lane.waiting[putter] = None
            else:
                putter.stop_timer()
                lane = self.lanes.get(key)
                if lane is not None and putter.withdrawn:
                    lane.waiting.pop(putter, None)
            if lane is not None:
                self._follow(key, lane)

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
        if lane.waiting or not lane.queue:
            self._follow(key, lane)

    def wait_until_empty(self, timeout: float | None, look: Callable[[], object]) -> bool:
        """Wait until nothing is queued and no putter waits; return False if *timeout* ran out.

        Parameters
        ----------
        look : callable
            Makes the hub try libzmq once more when *timeout*, in seconds, is over.
        """
        return not self.lanes or self._flushing.wait(self._hub, timeout, look=look)

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
        foreign: list[ForeignPutter] = []
        for lane in self.lanes.values():
            for putter in lane.waiting:
                if isinstance(putter, Putter):
                    putter.refuse()
                else:
                    foreign.append(putter)
            lane.waiting.clear()
        foreign += [putter for putter in arrivals if putter.is_new]  # the others were in the lanes
        unsent += [as_frames(putter.message) for putter in foreign if not putter.refuse()]
        self.lanes.clear()
        self._flushed()
        return unsent

    def _key(self, message: Message) -> Any:
        return bytes(message[0]) if self._per_peer else None  # type: ignore[arg-type]

    def _lane_for(self, key: Any) -> Lane | None:
        """Return the lane for a message, after applying the policy; None if it is dropped."""
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lane or Lane(self.maxsize)
            if not self._per_peer:
                self.lane = lane
            self.lanes[key] = lane
            self.has_new_lane = True
        elif lane.full():
            if self._overflow == "drop_newest":
                self.dropped["newest"] += 1
                return None
            if self._overflow == "drop_oldest":
                lane.get_nowait()
                self.dropped["oldest"] += 1
        return lane

    def _arrive(self, putter: ForeignPutter) -> None:
        """Have the owner's hub look at a putter, for the first time or again."""
        with self._arrivals_lock:
            first = not self.arrivals
            self.arrivals.append(putter)
            if first:
                putter.notify()

    def _follow(self, key: Any, lane: Lane) -> None:
        """Let the putters of a lane follow, and end the lane if there is nothing left in it."""
        if self.lanes.get(key) is not lane:
            return
        was_empty = not lane.queue
        first = lane.admit()
        self.has_new_lane |= was_empty and bool(lane.queue)
        if isinstance(first, Putter):
            self._hub.loop.run_callback(self._wake_putters, key, lane)
        elif first is not None:
            if first.timer is None:
                first.timer = self._hub.loop.timer(self.patience)
                first.timer.start(self._lapse, lane, first)
        elif not lane.queue:
            del self.lanes[key]
            if not self.lanes:
                self._flushed()

    def _wake_putters(self, key: Any, lane: Lane) -> None:
        """Switch into the greenlets for which there is room, in their order; called in the hub."""
        while isinstance(first := lane.admit(), Putter):
            del lane.waiting[first]
            first.wake()
        self._follow(key, lane)

    def _lapse(self, lane: Lane, putter: ForeignPutter) -> None:
        """Let the others pass a greenlet whose hub has not answered in time."""
        putter.stop_timer()
        if putter.uninvite():
            del lane.waiting[putter]
            self._arrive(putter)

    def _flushed(self) -> None:
        if self._flushing:
            self._hub.loop.run_callback(self._flushing.wake, len(self._flushing))
