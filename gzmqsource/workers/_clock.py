"""The deadlines of many calls, with one greenlet that waits for the next one."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Any, Protocol

import gevent

from gzmqsource._base.event import Event
from gzmqsource._base.lasting import Lasting
from gzmqsource._socket.budget import yield_to_io
from gzmqsource.workers._turns import TURN


class Timed(Protocol):
    """A call that has a deadline."""

    #: The deadline by `time.monotonic`, or None.
    deadline: float | None


class Clock:
    """Calls a function at each deadline, or up to `resolution` later.

    A loop timer for each call would take as much memory, and timers that end together would hold up
    the hub. The calls of one tick are together, so that each can leave without a search, and the
    heap contains ticks: their number depends on the time, not on the number of calls. Ticks whose
    calls were all cancelled stay in it until their time, or until they are the greater part of it.

    Parameters
    ----------
    expire : callable
        ``expire(call)`` is called at the deadline; it must not raise.
    look : callable
        ``look(calls)`` is called before that with the calls that are due, once for each turn; it
        may wait. Deadlines that it cancels do not count: after the hub was held up, replies that
        are already there come before the clock.
    """

    #: Seconds of a tick: libuv's timers count in milliseconds.
    resolution = 0.001

    #: How many empty ticks may stay in the heap, however small it is.
    slack = 100

    def __init__(
        self, expire: Callable[[Any], object], look: Callable[[list[Any]], object]
    ) -> None:
        self._expire = expire
        self._look = look
        #: The calls by their ticks.
        self.calls: dict[int, dict[Any, None]] = {}
        self._ticks: list[int] = []
        self._sooner = Event()
        self._runs = Lasting(self._run)

    def start(self, call: Timed, seconds: float) -> None:
        """Set the deadline of a call, *seconds* from now."""
        call.deadline = time.monotonic() + seconds
        tick = self._tick(call.deadline)
        calls = self.calls.get(tick)
        if calls is not None:
            calls[call] = None
            return
        self.calls[tick] = {call: None}
        heapq.heappush(self._ticks, tick)
        self._runs.start()
        if self._ticks[0] == tick:
            self._sooner.set()

    def stop(self, call: Timed) -> None:
        """Cancel the deadline of a call, if it has one."""
        if call.deadline is None:
            return
        tick = self._tick(call.deadline)
        calls = self.calls.get(tick)
        if calls is not None:  # else all were cancelled
            calls.pop(call, None)
            if not calls:
                self.calls.pop(tick, None)
                if len(self._ticks) > self.slack + 2 * len(self.calls):
                    self._ticks = list(self.calls)
                    heapq.heapify(self._ticks)
        call.deadline = None

    def close(self) -> None:
        """Cancel all deadlines."""
        self.calls.clear()
        self._ticks.clear()
        self._sooner.set()

    def _tick(self, deadline: float) -> int:
        return int(deadline / self.resolution) + 1

    def _run(self) -> None:
        """Wait for deadlines until none is left."""
        while self._ticks:
            if self._ticks[0] not in self.calls:
                heapq.heappop(self._ticks)
                continue
            now = time.monotonic()
            due = int(now / self.resolution)
            if self._ticks[0] > due:
                self._sooner.clear()
                self._sooner.wait(max(self._ticks[0] * self.resolution - now, 0.001))
                continue
            self._look([call for tick in self._due(due) for call in self.calls.get(tick, ())])
            if self._expire_due(due):
                yield_to_io(gevent.get_hub())

    def _due(self, now: int) -> set[int]:
        """Return the ticks that are due, without a look at the others behind the first of them."""
        found = set()
        places = [0]
        for place in places:  # it grows: behind each place in a heap are two, with later ticks
            if place < len(self._ticks) and self._ticks[place] <= now:
                found.add(self._ticks[place])
                places += 2 * place + 1, 2 * place + 2
        return found

    def _expire_due(self, now: int) -> bool:
        """Expire the calls that are due; return True if there may be more after one turn."""
        for _ in range(TURN):
            while self._ticks and self._ticks[0] not in self.calls:
                heapq.heappop(self._ticks)
            if not self._ticks or self._ticks[0] > now:
                return False
            call = next(iter(self.calls[self._ticks[0]]))
            try:
                self.stop(call)
                self._expire(call)
            except BaseException:  # of a signal handler: it expires once more
                self.stop(call)
                self.start(call, 0)
                raise
        return True
