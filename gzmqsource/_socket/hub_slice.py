"""The slice of time that all busy sockets of a hub share, in each iteration of its loop."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

from gzmqsource._base.hubs import HubCalls
from gzmqsource._base.repairs import Repairs
from gzmqsource._base.waiters import Waiters
from gzmqsource._socket.garbage import exempt_collections
from gzmqsource.transfer import Slice


class Sharing(Protocol):
    """A socket that shares the slice, with the greenlets that have used up its part."""

    #: The most seconds of one part.
    max_seconds: float
    #: The CPU seconds that were charged to it, on the scale of `HubSlice`.
    charged: float
    #: Whether it was served for longer than a slice, and the others have not yet had as much.
    owes: bool
    #: How many turns after an edge took less than a slice since the last one that took longer.
    quick_turns: int
    #: Whether its last turn came from an edge, not from the queue.
    is_fresh: bool
    #: Whether it is in the queue.
    is_queued: bool
    #: Whether greenlets that it has spawned are yet to run, in its part.
    has_spawned: bool
    #: The greenlets that wait for its next part.
    waiters: Waiters

    @property
    def left(self) -> int:
        """How many messages may still pass."""

    def begin_part(self, seconds: float) -> None:
        """Let messages pass for so many seconds."""


class HubSlice(Slice):
    """One slice of time for each iteration of the loop, and the sockets that wait for a part of it.

    A slice ends by the clock, and the next one begins only after the hub has polled. So other I/O
    has its turn once in a slice, however many sockets are busy.

    A socket that has used its part waits here. After the hub has polled, greenlets are resumed for
    the rest of the slice, at least one and for at least half a slice. Sockets that have just become
    ready do not queue, and could starve those that do. The next socket is the one with the least
    charged CPU time (start-time fair queueing). So equal sockets have equal shares, a socket with
    slow handlers has its share and no more, and a socket that is seldom busy is served soon: up to
    a slice, the charge of a turn after an edge does not count. Debts end when none waits any more.

    The charge is CPU time. By the wall clock, a process that shares the core would be charged to
    whichever socket was served meanwhile.
    """

    #: Seconds of a slice. A turn of I/O costs about 30 us. Other greenlets are late by a slice.
    length = 0.001

    #: The least part of a socket's `Budget.max_seconds` that is worth a switch. With 500 sockets
    #: and handlers of 50 us, a tenth costs a fifth of the rate, and a half 5 %; the lateness of
    #: others is about the same.
    least_part = 0.5

    #: The most seconds of CPU time for which a socket waits because of one long turn. If its
    #: handler took 20 ms, it would wait until each of 300 others has had as much.
    longest_wait = 1.0

    #: One longer turn of this many after an edge is not charged: a fresh page, or another machine
    #: on the same core is not the work of a socket. Beside 500 others, 2 ms would make it wait for
    #: a second.
    forgiven = 100

    def __init__(self, hub: Any) -> None:
        super().__init__()
        #: Distinguishes slices.
        self.serial = 0
        self.hub = hub
        self._loop = hub.loop
        #: A timer of 0 seconds that is started with each slice, and with each part that is the rest
        #: of one. It fires once the hub has polled, so while it is active no other I/O has been
        #: looked at since.
        self._marker: Any = None
        self._serving: Any = None
        #: Whether that timer has fired, and the next callbacks resume greenlets. So I/O that is
        #: ready and timers that are due come first, in whatever order a loop calls them.
        self._is_due = False
        #: The serial when that timer was started.
        self._awaited_in = 0
        #: The sockets that wait, with the charge and the place of each.
        self._queue: list[tuple[float, int, Sharing]] = []
        #: Sockets that wait again, to be served after the next poll.
        self._returning: list[Sharing] = []
        self._places = itertools.count()
        self._is_serving = False
        #: The socket that has its turn, the number of the turn, and its end.
        self.running: Sharing | None = None
        self.turn = 0
        self.part_ends = 0.0
        #: The calls that end the turns of spawned greenlets, each to be made after them.
        self.unended: dict[Callable[[], None], None] = {}
        #: The charge of the socket that was served last, and the highest of all.
        self._charged = self._most_charged = 0.0
        #: The CPU seconds of all turns, and of the garbage collector.
        self._used = 0.0
        self._users = 0
        self._calls = HubCalls(hub)
        Repairs.of(hub).add(self)
        exempt_collections(self)

    @classmethod
    def of(cls, hub: Any) -> HubSlice:
        """Return the slice of a hub, for one more user, which calls `leave` at its end."""
        found: HubSlice | None = vars(hub).get("gzmqsource_slice")
        if found is None or found._loop is not hub.loop:
            found = hub.gzmqsource_slice = cls(hub)
        found._users += 1
        found._calls.open()
        return found

    def leave(self) -> None:
        """Note the end of a user; the last one closes the timers.

        libuv crashes if one is collected while it is active.
        """
        self._users -= 1
        if not (self._users or self._queue or self._is_serving):
            self._close_timers()

    def begin_if_over(self, now: float) -> None:
        """Begin a slice if the last one is over, and the hub has polled since."""
        if now >= self.ends and (self._marker is None or not self._marker.active):
            self._begin(now)

    def is_ahead(self, budget: Sharing) -> bool:
        """Return whether *budget* has had much more than those that wait."""
        return budget.charged > self._charged + self.length / 4

    def may_run(self, budget: Sharing) -> bool:
        """Return whether a socket that has an edge is served now, while others wait.

        It does not queue: a socket that was quiet is served at once. But if it had more than a
        slice at once, its edge is left pending, and comes again after each poll, until those that
        wait have had as much.
        """
        if budget.owes and budget.charged <= self._charged:
            budget.owes = False
        return not budget.owes

    def run(self, budget: Sharing, resume: Callable[[], object]) -> None:
        """Resume greenlets of a socket that has become ready, while others wait."""
        budget.is_fresh = True
        used = self._give_turn(budget, self.length, resume)
        if used <= self.length:
            budget.quick_turns += 1
        elif budget.quick_turns >= self.forgiven:
            budget.quick_turns = 0
            return
        else:
            budget.quick_turns = 0
        # Not added up: the others do not wait because of many short messages of a socket.
        self._charge(budget, max(budget.charged, self._charged + used), used)

    def wait(self, budget: Sharing, timeout: float | None = None) -> None:
        """Wait until other I/O had its turn, and *budget* has the next; its next part begins.

        This takes at most *timeout* seconds, or a slice if that is longer.
        """
        if not budget.is_queued:
            self.enqueue(budget)
        budget.waiters.wait(self.hub, timeout if timeout is None else max(timeout, self.length))

    def enqueue(self, budget: Sharing) -> None:
        """Let a socket wait for its next part, again if it may have lost its place."""
        # In this order: a signal handler may raise in between. A socket that is queued twice has
        # one more turn in which nothing happens, but a socket that only counts as queued would wait
        # forever.
        if self._is_serving:
            self._returning.append(budget)
        else:
            if not (self._queue or self.unended):  # all have had what they wanted
                self._charged = self._most_charged
            self._push(budget)
        budget.is_queued = self.is_crowded = True

    def repair(self) -> None:
        """Serve the queue again: a callback has been ended, which may have been serving it.

        The socket that was being served is queued again by its own `Budget.repair`.
        """
        self._is_due = self._is_serving = False
        for end in self.unended:
            self._loop.run_callback(end)
        for budget in self._returning:
            self._push(budget)
        self._returning = []
        if self._queue:
            self._serve_soon()

    def _push(self, budget: Sharing) -> None:
        self._serve_soon()
        charged = budget.charged = max(budget.charged, self._charged)
        place = next(self._places)
        if budget.is_fresh and charged <= self._charged + self.length:
            charged, place = self._charged, -place
        heapq.heappush(self._queue, (charged, place, budget))

    def mark(self) -> None:
        """Note that a socket gets the rest of the slice: the hub must poll after that."""
        if self._marker is None:
            self._marker = self._loop.timer(0, ref=False)
        if not self._marker.active:
            self._marker.start(_do_nothing)

    def _close_timers(self) -> None:
        self._calls.close()
        for timer in self._marker, self._serving:
            if timer is not None:
                timer.close()
        self._marker = self._serving = None

    def _begin(self, now: float) -> None:
        if self._marker is not None:
            self._marker.stop()
        self.mark()
        self.ends = now + self.length
        self.serial += 1

    def _serve_soon(self) -> None:
        if self._serving is None:
            self._serving = self._loop.timer(0)
        if not (self._serving.active or self._is_due):
            self._awaited_in = self.serial
            self._serving.start(self._be_due)

    def _be_due(self) -> None:
        self._loop.run_callback(self._serve)
        self._is_due = True

    def _serve(self) -> None:
        """Resume those that wait, each at most once; called in the hub after it has polled."""
        self._is_due = False
        now = time.monotonic()
        if self._awaited_in == self.serial:
            self._begin(now)
        else:
            self.mark()
        left = max(self.ends - now, self.length / 2)
        least = math.inf
        self._is_serving = True
        try:
            # A socket that has had more than another that waits again comes after it.
            while self._queue and left > 0 and self._queue[0][0] <= least:
                self._charged, _, budget = self._queue[0]
                budget.is_queued = False
                try:
                    heapq.heappop(self._queue)
                    self.is_crowded = bool(self._queue or self._returning)
                    used = self._resume(budget) if budget.waiters else 0.0
                finally:
                    if budget.waiters and not budget.is_queued:
                        self.enqueue(budget)
                left -= used
                if budget.has_spawned:
                    least = min(least, budget.charged + used)
                elif budget.is_queued:
                    least = min(least, budget.charged)
        finally:
            self._is_serving = False
            returning, self._returning = self._returning, []
            if self._loop is self.hub.loop:
                for budget in returning:
                    self._push(budget)
                self.is_crowded = bool(self._queue)
                if self._queue:
                    self._serve_soon()
                elif not self._users:
                    self._close_timers()

    def _resume(self, budget: Sharing) -> float:
        """Resume the greenlets of a socket until its part is used; return the CPU seconds."""
        waiting = 1 + len(self._queue) + len(self._returning)
        seconds = budget.max_seconds * max(1 / waiting, self.least_part)
        budget.begin_part(seconds)
        budget.is_fresh = False
        used = self._give_turn(budget, seconds, functools.partial(_wake_some, budget))
        self._pay(budget, used)
        return seconds if budget.has_spawned else used

    def _give_turn(self, budget: Sharing, seconds: float, resume: Callable[[], object]) -> float:
        """Resume greenlets of a socket; return the CPU seconds of all that runs until they wait."""
        began = self.begin_turn(budget, seconds)
        try:
            resume()
        finally:
            used = self._used_since(began)
        return used

    def begin_turn(self, budget: Sharing, seconds: float) -> float:
        """Note that code from now on runs in the turn of a socket; return the time of its begin.

        That is the CPU time that was charged to no socket.
        """
        self.running, self.part_ends = budget, time.monotonic() + seconds
        self.turn += 1
        return time.thread_time() - self._used

    def end_turn(self, budget: Sharing, began: float) -> float:
        """Charge a socket with the CPU time since *began*, and return it in seconds."""
        used = self._used_since(began)
        self._pay(budget, used)
        return used

    def exempt(self, seconds: float) -> None:
        """See `gzmqsource._socket.garbage.Charging`."""
        self._used += seconds

    def go_on(self, budget: Sharing, seconds: float, resume: Callable[[], object]) -> None:
        """Resume a greenlet of a socket after those that it has spawned, in the same part."""
        if self.is_crowded:
            used = self._give_turn(budget, seconds, resume)
            self._pay(budget, used)
        else:
            resume()

    def _used_since(self, began: float) -> float:
        """End a turn; return its CPU seconds, without those of turns within it."""
        self.running = None
        used = time.thread_time() - self._used - began
        self._used += used
        return used

    def _pay(self, budget: Sharing, used: float) -> None:
        self._charge(budget, max(budget.charged, self._charged) + used, used)

    def _charge(self, budget: Sharing, charged: float, used: float) -> None:
        others = 1 + len(self._queue) + len(self._returning)
        most = max(self.length, self.longest_wait / others)
        budget.charged = min(charged, self._charged + most)
        self._most_charged = max(self._most_charged, budget.charged)
        budget.owes = budget.owes or used > self.length


def _wake_some(budget: Sharing) -> None:
    """Wake the greenlets of a socket until its part is used."""
    for _ in range(len(budget.waiters)):
        budget.waiters.wake(1)
        if budget.left <= 0:
            break


def _do_nothing() -> None:
    """Do nothing: the purpose is that the timer is no longer active."""
