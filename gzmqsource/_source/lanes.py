"""The live lanes of an outbox, and the putters that follow when messages leave them."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gevent.hub import get_hub

from gzmqsource._socket.budget import call_after_io
from gzmqsource._source.bounds import Bounds
from gzmqsource._source.lane import Lane
from gzmqsource._source.putter import ForeignPutter, Putter
from gzmqsource.transfer import weight_of
from gzmqsource.transfer.message import Message


class Lanes:
    """The part of a `gzmqsource._source.outbox.Outbox` that runs in the hub that owns it.

    Parameters
    ----------
    bounds : Bounds
        The limits of the lanes.
    per_peer : bool
        Whether a message's first frame names its lane.
    """

    #: Seconds for which the putters behind a greenlet of another hub wait until that accepts.
    #: Then it waits behind them: no hub can hold up the others.
    patience = 0.1

    #: The longest time in seconds for which arrivals are taken over, or putters are woken, before
    #: other I/O has its turn.
    max_seconds = 0.00025

    def __init__(self, bounds: Bounds, per_peer: bool) -> None:
        #: The live lanes.
        self.lanes: dict[Any, Lane] = {}
        #: The lanes to try before all others, most of which were just filled; the flusher takes
        #: them out.
        self.filled: dict[Any, Lane] = {}
        #: The only lane, once it was needed; None if each peer has its own.
        self.lane: Lane | None = None
        #: The most messages that a lane holds.
        self.maxsize = bounds.messages
        #: How many messages were dropped, by reason.
        self.dropped: Counter[str] = Counter()
        #: Called with messages that were queued and will not be sent.
        self.on_lost: Callable[[Sequence[Message]], object] | None = None
        self._hub = get_hub()
        self._bounds = bounds
        self._per_peer = per_peer
        # The most messages that were in one lane before some left it.
        self._peak = 0
        # The lanes whose deque is not empty.
        self._queued: set[Any] = set()

    @property
    def has_queued(self) -> bool:
        """Whether there are messages to send: a live lane may have only putters."""
        return bool(self._queued)

    def withdraw(self, message: Message) -> bool:
        """Remove a message; return False if it is not queued."""
        if self._per_peer and isinstance(message, bytes):
            return False  # one frame names only a peer
        key = self._key(message)
        lane = self.lanes.get(key)
        if lane is None:
            return False
        self._note_peak(lane)
        if not lane.withdraw(message):
            return False
        self._left(key, lane)
        return True

    def settle(self, left: dict[Any, int]) -> None:
        """Note how many messages have left the deque of each lane, and let putters follow.

        They follow once all lanes are settled: a putter may belong to another lane, and end it.
        """
        # A signal handler may have sent the rest of a lane meanwhile.
        lanes = {key: lane for key in left if (lane := self.lanes.get(key)) is not None}
        for key, lane in lanes.items():
            self._peak = max(self._peak, lane.depth + left[key])
            lane.settle(left[key])
        for key, lane in lanes.items():
            self._left(key, lane)

    def revisit(self) -> None:
        """Look at all lanes again, after an exception that may have come between two steps."""
        for key, lane in list(self.lanes.items()):
            lane.settle(0)
            self._left(key, lane)
        self._queued.intersection_update(self.lanes)
        self._ended()

    def insist(self, keys: Iterable[Any]) -> None:
        """Have the flusher try these lanes once more, however long their peers have been full."""
        for key in keys:
            lane = self.lanes.get(key)
            if lane is not None and lane.queue:
                self.filled[key] = lane

    def recheck(self, key: Any) -> None:
        """Look again at a lane that has no message, if an exception has left it among the queued.

        Otherwise a flusher would try that lane again and again while its socket is writable.
        """
        lane = self.lanes.get(key)
        if key in self._queued and lane is not None:
            lane.settle(0)
            self._left(key, lane)

    def empty(self, key: Any) -> list[Message]:
        """Remove all messages of a lane whose peer is gone; they count as refused."""
        lane = self.lanes[key]
        self._note_peak(lane)
        messages = lane.take_all()
        self.drop("refused", messages)
        self._left(key, lane)
        return messages

    def drop(self, reason: str, messages: Sequence[Message]) -> None:
        """Count messages that were queued and will not be sent."""
        self.dropped[reason] += len(messages)
        if self.on_lost is not None:
            self.on_lost(messages)

    @property
    def depth(self) -> int:
        """How many messages are queued now; any thread may read this."""
        return sum(lane.depth for lane in list(self.lanes.values()))

    @property
    def bytes(self) -> int:
        """The bytes that they count."""
        return sum(lane.bytes for lane in list(self.lanes.values()))

    @property
    def peak(self) -> int:
        """The most messages that were ever in one lane."""
        return max(self._peak, *(lane.depth for lane in list(self.lanes.values())), 0)

    def oldest_age(self) -> float:
        """Return the age in seconds of the message that was queued first, or 0.0."""
        return max((lane.age() for lane in list(self.lanes.values())), default=0.0)

    def _note_peak(self, lane: Lane) -> None:
        """Note how many messages a lane holds before some leave it."""
        self._peak = max(self._peak, lane.depth)

    def _key(self, message: Message) -> Any:
        return bytes(message[0]) if self._per_peer else None  # type: ignore[arg-type]

    def _lane_of(self, key: Any) -> Lane:
        lane = self.lanes.get(key)
        if lane is None:
            # One step: a signal handler may send, too.
            lane = self.lanes.setdefault(key, self.lane or Lane(self._bounds))
            if not self._per_peer:
                self.lane = lane
        return lane

    def _keep(self, key: Any, lane: Lane) -> None:
        """Note that a lane is not empty, and keep it if it has ended in a signal handler."""
        if self.lanes.get(key) is not lane:
            kept = self.lanes.setdefault(key, lane)
            lane.settle(0)
            if kept is not lane:
                for message in lane.take_all():
                    kept.append(message, weight_of(message))
                kept.waiting.update(lane.waiting)
                lane = kept
        self._note(key, lane)

    def _note(self, key: Any, lane: Lane) -> None:
        """Note whether the deque of a lane is empty."""
        if not lane.queue:
            self.filled.pop(key, None)
            self._queued.discard(key)
        # A signal handler may have sent meanwhile, also between these two.
        if lane.queue and key not in self._queued:
            # In this order: a message that is only queued would wait until the next one comes.
            self.filled[key] = lane
            self._queued.add(key)

    def _left(self, key: Any, lane: Lane) -> None:
        """Let the putters of a lane and of others follow, after a message has left the lane."""
        if lane.waiting or not lane.queue:
            self._follow(key, lane)
        if self._bounds.is_wanted:
            self._follow_elsewhere()

    def _follow(self, key: Any, lane: Lane) -> bool:
        """Let the putters of a lane follow, and end the lane if it is empty.

        Returns
        -------
        bool
            Whether one of them still has to act.
        """
        if self.lanes.get(key) is not lane:
            return False
        first = lane.admit()
        self._note(key, lane)
        self._bounds.want(key, lane.wanted)
        if isinstance(first, Putter):
            self._hub.loop.run_callback(self._wake_putters, key, lane)
        elif first is not None:
            if first.timer is None:
                # It comes again until it is closed, because an exception may end it.
                first.timer = self._hub.loop.timer(self.patience, self.patience)
                first.timer.start(self._lapse, key, lane, first)
        elif not lane.queue and not lane.waiting:
            if lane.bytes:
                lane.settle(0)  # an exception has left some, which would count for all lanes
            self.lanes.pop(key, None)
            if lane.queue or lane.waiting:  # of a signal handler
                self._keep(key, lane)
            self._ended()
        return first is not None

    def _follow_elsewhere(self) -> None:
        """Let the putters follow that wait because too few bytes were free for all lanes.

        A putter that still has to act comes here afterwards. If all lanes that want the free bytes
        were woken, each message beside 1000 of them would wake 1000 greenlets without success.
        """
        while (key := self._bounds.next_wanting()) is not None:
            lane = self.lanes.get(key)
            if lane is not None and self._follow(key, lane):
                return

    def _wake_putters(self, key: Any, lane: Lane) -> None:
        """Switch into the greenlets for which there is room, in their order; called in the hub."""
        ends = time.perf_counter() + self.max_seconds
        while isinstance(first := lane.admit(), Putter):
            first.wake()
            if time.perf_counter() >= ends:
                call_after_io(self._hub, functools.partial(self._left, key, lane))
                return
        self._left(key, lane)

    def _lapse(self, key: Any, lane: Lane, putter: ForeignPutter) -> None:
        """Let other putters pass a greenlet whose hub has not answered in time."""
        putter.stop_timer()
        if putter.uninvite():
            if putter.withdrawn:
                del lane.waiting[putter]
            else:
                lane.waiting.move_to_end(putter)
            self._left(key, lane)

    def _close_lanes(self) -> tuple[list[Message], list[Any]]:
        """End all lanes; return the messages and the putters that were in them."""
        self._peak = self.peak
        messages = [message for lane in self.lanes.values() for message in lane.messages()]
        waiting = [putter for lane in self.lanes.values() for putter in lane.waiting]
        for lane in self.lanes.values():
            lane.waiting.clear()
        self.lanes.clear()
        self.filled.clear()
        self._queued.clear()
        return messages, waiting

    def _ended(self) -> None:
        """Note that a lane has ended."""
