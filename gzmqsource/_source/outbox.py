"""The bounded send buffer of a source.

A message is queued when libzmq does not take it at once. Each `Lane` is one gevent queue with its
bounds: a ROUTER or STREAM has a lane for each peer, so that a full one does not hold up the others;
every other type has one lane. A message leaves its lane only after libzmq has taken it.

There is one way into a lane, for greenlets and threads, and one function that decides on it,
`_has_place`. The overflow policy applies to a message that finds its lane full. Under ``"block"``
its sender waits as a *putter*, and no other message overtakes it. A putter may be a greenlet of
this hub, a greenlet of another thread's hub, or a native thread.

Other threads never touch a lane: they leave their messages, their putters, and later the putters'
answers in ``arrivals``, from where the owner's hub takes them over, in turns. A message there
already has its place in the lane.

A lane lives while a message is queued in it, or a putter waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, get_args
from weakref import WeakValueDictionary

from gevent.queue import Full

from gzmqsource._base.hubs import allocate_rlock
from gzmqsource._base.waiters import Waiters
from gzmqsource._source.arrivals import Arrivals
from gzmqsource._source.bounds import Bounds
from gzmqsource._source.lane import Lane
from gzmqsource._source.lanes import Lanes
from gzmqsource._source.putter import ForeignPutter, Putter
from gzmqsource.errors import SourceClosed
from gzmqsource.transfer import weight_of
from gzmqsource.transfer.message import UNLIMITED, AnyMessage, Message, as_frames, as_message

#: The policy for a message that finds its lane full.
Overflow = Literal["block", "raise", "drop_newest", "drop_oldest"]


class Outbox(Lanes):
    """The entrance to the lanes, with one overflow policy.

    Parameters
    ----------
    maxsize : int
        The most messages that a lane holds, at least 1.
    overflow : {"block", "raise", "drop_newest", "drop_oldest"}
        The policy.
    per_peer : bool
        Whether a message's first frame names its lane.
    lane_bytes : int
        The most bytes that a lane holds, at least 1.
    all_bytes : int
        The most bytes that the lanes of all peers hold, at least 1.
    """

    #: The most arrivals that are taken over between two looks at the clock, while other threads
    #: wait for the lock: they take about 50 us.
    stride = 32

    def __init__(
        self,
        maxsize: int,
        overflow: Overflow,
        per_peer: bool,
        lane_bytes: int = 1 << 24,
        all_bytes: int = 1 << 26,
    ) -> None:
        for name, value, unit in (
            ("outbox", maxsize, "message"),
            ("outbox_bytes", lane_bytes, "byte"),
            ("max_outbox_bytes", all_bytes, "byte"),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: the bound is an int of at least 1 {unit}")
        if overflow not in get_args(Overflow):
            raise ValueError(f"overflow={overflow!r}: use one of {', '.join(get_args(Overflow))}")
        super().__init__(
            Bounds(maxsize, lane_bytes, all_bytes if per_peer else UNLIMITED), per_peer
        )
        #: Always empty: a source gets only whole messages.
        self.partial: dict[Any, Any] = {}
        #: How many frames a message needs.
        self.least_frames = 2 if per_peer else 1
        #: The keys of the lanes for which other threads have left something, in the order in which
        #: they are taken over. While there is one, shortcuts queue nothing.
        self.arrivals: deque[Any] = deque()
        # The arrivals of each of these lanes.
        self._arrived: dict[Any, Arrivals] = {}
        # The putters of each lane, whose time may be over at once: they look for room together.
        self._blocked: WeakValueDictionary[Any, Waiters] = WeakValueDictionary()
        # The greenlets that wait until no lane lives, and no arrivals are left.
        self._flushing = Waiters()
        self._overflow = overflow
        #: Whether it drops messages to make room.
        self.drops = overflow.startswith("drop")
        # Reentrant, because the garbage collector may close a source in the middle of this.
        self._arrivals_lock = allocate_rlock()
        self._closed = False

    def checked(self, message: AnyMessage) -> Message:
        """Check a message; if each peer has a lane, it needs a frame besides the peer's name.

        On a ROUTER, libzmq silently drops a message that consists only of a routing id.

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
        """Return whether *message* would overtake no other message."""
        if not self.lanes and not self._arrived:
            return True
        key = self._key(message)
        return key not in self.lanes and key not in self._arrived

    def put(
        self,
        message: Message,
        block: bool,
        timeout: float | None,
        look: Callable[[], Callable[[], object]],
        flush: Callable[[], object],
    ) -> None:
        """Queue a message, from a greenlet of the hub that owns the source.

        If it raises, in any step, the message is not queued. A signal handler may raise in each.

        Parameters
        ----------
        look : callable
            Returns a function that makes the hub try libzmq once more when *timeout*, in seconds,
            is over. It is called if the message has to wait.
        flush : callable
            Ensures that queued messages are sent.

        Raises
        ------
        gevent.queue.Full
            The lane is full, and *block* is False or the time ran out.
        SourceClosed
            The outbox was closed while it waited.
        """
        key, size = self._key(message), weight_of(message)
        putter = depth = None
        try:
            with self._arrivals_lock:
                arrivals = self._arrived.get(key)
                if arrivals:
                    self._accept(key, arrivals)
                has_place = self._has_place(key, size, block)
                if has_place and arrivals:
                    arrivals.append(message, size)  # behind those that were not taken over
                elif has_place:
                    lane = self.lanes.get(key) or self._lane_of(key)
                    if self._overflow == "drop_oldest":
                        self._drop_oldest(lane, size)
                    # Not by a call, in the usual case.
                    depth = len(lane.queue) if lane.aside is None else lane.depth
                    lane.append(message, size)
                    if key not in self._queued or self.lanes.get(key) is not lane:
                        self._keep(key, lane)
                elif has_place is False:
                    putter = Putter(self._hub, size, self._blocked.setdefault(key, Waiters()))
                    self._let_wait(key, arrivals, putter)
            if putter is not None:
                putter.wait(timeout, self._progress_of(key, look))
                depth = self.lanes[key].depth
                self._follow_in(key, message, putter)
            flush()
        except BaseException:
            if putter is not None:
                putter.withdrawn = True  # not by a call, before which another signal could raise
            self._undo(key, putter, depth)
            flush()
            raise

    def post(
        self, message: Message, block: bool, timeout: float | None, notify: Callable[[], object]
    ) -> None:
        """Queue a message from any other thread; the errors are those of `put`.

        Parameters
        ----------
        notify : callable
            Makes the owner's hub call `accept_arrivals`.
        """
        key, size = self._key(message), weight_of(message)
        putter: ForeignPutter | None = None
        with self._arrivals_lock:
            if self._closed:
                raise SourceClosed("the source is closed")
            # From here on, shortcuts do not take the room that is found.
            arrivals = self._arrivals_for(key, notify)
            has_place = self._has_place(key, size, block)
            if has_place:
                arrivals.append(message, size)
            elif has_place is False:
                putter = ForeignPutter(message)
                arrivals.append_putter(putter)
        if putter is not None:
            try:
                putter.wait_until_taken(timeout)
            finally:
                if putter.is_answered:
                    with self._arrivals_lock:
                        self._arrivals_for(key, notify).append_putter(putter)

    def accept_arrivals(self) -> bool:
        """Take over messages from other threads, for a while; call this in the owner's hub.

        Returns
        -------
        bool
            Whether any are left, to be taken over after I/O was polled.
        """
        ends = time.perf_counter() + self.max_seconds
        while True:
            # Under the lock, because a thread notifies this hub before it leaves anything.
            with self._arrivals_lock:
                if not self.arrivals:
                    break
                # The key leaves last: without it, these arrivals would wait forever.
                key = self.arrivals[0]
                arrivals = self._arrived.get(key)
                if arrivals:
                    self._accept(key, arrivals)
                if arrivals:
                    self.arrivals.rotate(-1)
                else:
                    self._arrived.pop(key, None)
                    self.arrivals.popleft()
                    self._ended()
            if time.perf_counter() >= ends:
                break
        return bool(self.arrivals)

    def wait_until_empty(self, timeout: float | None, look: Callable[[], object]) -> bool:
        """Wait until nothing is queued and no putter waits; return False if *timeout* ran out.

        Parameters
        ----------
        look : callable
            Makes the hub try libzmq once more when *timeout*, in seconds, is over.
        """
        if not self.lanes and not self._arrived:
            return True

        def look_at_all() -> object:
            self.insist(self.lanes)
            return look()

        return self._flushing.wait(self._hub, timeout, look=look_at_all)

    def close(self) -> list[list[Any]]:
        """Refuse all putters, and return the messages for which no sender waits."""
        with self._arrivals_lock:
            self._closed = True
            arrived = [arrival for arrivals in self._arrived.values() for arrival in arrivals]
            self._arrived.clear()
            self.arrivals.clear()
        unsent, waiting = self._close_lanes()
        for arrival in arrived:
            if not isinstance(arrival, (Putter, ForeignPutter)):
                unsent.append(arrival)
            elif isinstance(arrival, Putter) or arrival.is_new:
                waiting.append(arrival)
            # Else it has answered: it was in its lane, too.
        for putter in waiting:
            if isinstance(putter, Putter):
                putter.refuse()
            elif not putter.refuse():
                unsent.append(putter.message)
        self._ended()
        if self.on_lost is not None:
            self.on_lost(unsent)
        return [as_frames(message) for message in unsent]

    def _has_place(self, key: Any, size: int, block: bool) -> bool | None:
        """Decide on a new message, in any thread; call this under the lock.

        Returns
        -------
        bool or None
            Whether it has a place in its lane now. If not, its sender waits; None means that it is
            dropped.

        Raises
        ------
        gevent.queue.Full
            It has no place, and its sender must not wait.
        """
        lane, arrivals = self.lanes.get(key), self._arrived.get(key)
        if self._overflow == "drop_oldest":
            # It always has a place: it drops messages of the lane when it gets there.
            while arrivals and not self._fits(None, arrivals, size):
                self.drop("oldest", [arrivals.popleft()[0]])
            return True
        has_putters = (lane and lane.waiting) or (arrivals and arrivals.putters)
        if not has_putters and self._fits(lane, arrivals, size):
            return True
        if self._overflow == "drop_newest":
            self.dropped["newest"] += 1
            return None
        if self._overflow == "raise" or not block:
            raise Full
        return False

    def _fits(self, lane: Lane | None, arrivals: Arrivals | None, size: int) -> bool:
        """Return whether a message has room behind those in a lane and those that have arrived."""
        if not arrivals:
            return lane is None or lane.fits(size)
        messages, held = arrivals.places, arrivals.bytes
        if lane is not None:
            messages += lane.depth
            held += lane.bytes
        return self._bounds.admit(messages, held, size)

    def _drop_oldest(self, lane: Lane, size: int) -> None:
        """Make room for a message that always has a place."""
        if not lane.fits(size):
            self._note_peak(lane)
        while not lane.fits(size):
            self.drop("oldest", [lane.get_nowait()])

    def _let_wait(self, key: Any, arrivals: Arrivals | None, putter: Putter) -> None:
        """Let a putter wait in its lane, or behind the arrivals for that."""
        if arrivals:
            arrivals.append_putter(putter)
            return
        lane = self.lanes[key]
        lane.waiting[putter] = None
        # The first may want bytes that become free elsewhere. And those before it may have left
        # while a signal handler raised.
        if len(lane.waiting) == 1 or not lane.queue:
            self._follow(key, lane)

    def _follow_in(self, key: Any, message: Message, putter: Putter) -> None:
        """Queue the message of a putter that has waited.

        The hub woke the greenlet in this step, and there is no switch until `send` returns. Only a
        signal handler may still raise.
        """
        lane = self.lanes[key]
        lane.append(message, putter.size)
        self._note(key, lane)
        # Only when the message is in, or another thread would find room for one more.
        del lane.waiting[putter]

    def _progress_of(
        self, key: Any, look: Callable[[], Callable[[], object]]
    ) -> Callable[[], object]:
        """Return a function that looks once more; its result changes while a putter has hope.

        It continues to wait while messages enter and leave the lane: its turn will come.
        """
        look_again = look()

        def progress() -> object:
            self.insist([key])
            turn, lane = look_again(), self.lanes.get(key)
            return turn, lane and (lane.left, lane.depth), len(self._arrived.get(key, ()))

        return progress

    def _undo(self, key: Any, putter: Putter | None, depth: int | None) -> None:
        """Take back the message and the putter of a call that raises, in any step."""
        lane = self.lanes.get(key)
        if lane is None or (lane.queue and putter is None and depth is None):
            return
        if putter is not None:
            lane.waiting.pop(putter, None)
        if depth is not None:
            lane.take_back(depth)
        self._left(key, lane)

    def _arrivals_for(self, key: Any, notify: Callable[[], object]) -> Arrivals:
        """Return the arrivals for a lane, to be taken over soon; call this under the lock."""
        arrivals = self._arrived.get(key)
        if arrivals is None:
            # In this order: a signal handler may raise between two of these steps, and nothing else
            # would notify the hub of what is left for a key that is known. It may also post.
            if not self.arrivals:
                notify()
            self.arrivals.append(key)
            arrivals = self._arrived.setdefault(key, Arrivals(self._bounds))
        return arrivals

    def _accept(self, key: Any, arrivals: Arrivals) -> None:
        """Take over some arrivals of a lane; call this under the lock."""
        for _ in range(min(self.stride, len(arrivals))):
            arrival, size = entry = arrivals.first
            if not size:
                self._take_over(key, arrival)
                arrivals.popleft()
                continue
            lane = self._lane_of(key)
            if self._overflow == "drop_oldest":
                self._drop_oldest(lane, size)
            depth = lane.depth
            try:
                lane.append(arrival, size)
                self._note(key, lane)
                arrivals.popleft()
            except BaseException:
                if arrivals and arrivals.first is entry:  # it stays there
                    self._undo(key, None, depth)
                raise

    def _take_over(self, key: Any, putter: Putter | ForeignPutter) -> None:
        """Let a putter wait in its lane, or apply the answer that it has given."""
        if isinstance(putter, ForeignPutter) and not putter.is_new:
            putter.stop_timer()
            lane = self.lanes.get(key)
            if lane is not None and putter.withdrawn:
                lane.waiting.pop(putter, None)
        elif putter.withdrawn:
            return
        else:
            lane = self._lane_of(key)
            lane.waiting[putter] = None
        if lane is not None:
            self._left(key, lane)

    def _ended(self) -> None:
        loop = self._hub.loop
        if self._flushing and not self.lanes and not self._arrived and loop is not None:
            loop.run_callback(self._flushing.wake, len(self._flushing))
