"""The deadlines of many calls, with one greenlet that waits for the next one."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any, Protocol

import gevent

from gzmqsource._base.event import Event


class Timed(Protocol):
    """A call that has a deadline."""

    #: The deadline by `time.monotonic`, or None.
    deadline: float | None


class Clock:
    """Calls a function at each deadline.

    A timer of the loop for each call would take 115 bytes more. Cancelled deadlines stay in the
    heap until their time, or until they are the greater part of it.

    Parameters
    ----------
    expire : callable
        ``expire(call)`` is called at the deadline; it must not raise.
    look : callable
        Called before that, once for all calls that are due; it may wait. The deadlines that it
        cancels do not count: after a hub that was held up, what is there comes before the clock.
    """

    #: How many cancelled deadlines may stay in the heap, however small it is.
    slack = 100

    def __init__(self, expire: Callable[[Any], object], look: Callable[[], object]) -> None:
        self._expire = expire
        self._look = look
        self._heap: list[tuple[float, int, Any]] = []
        self._taken_back = 0
        self._serial = itertools.count()
        self._sooner = Event()
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def start(self, call: Timed, seconds: float) -> None:
        """Set the deadline of a call, *seconds* from now."""
        call.deadline = time.monotonic() + seconds
        heapq.heappush(self._heap, (call.deadline, next(self._serial), call))
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._run)
        elif self._heap[0][2] is call:
            self._sooner.set()

    def stop(self, call: Timed) -> None:
        """Cancel the deadline of a call, if it has one."""
        if call.deadline is not None:
            call.deadline = None
            self._taken_back += 1
            if self._taken_back > self.slack + len(self._heap) // 2:
                self._heap = [entry for entry in self._heap if entry[2].deadline == entry[0]]
                heapq.heapify(self._heap)
                self._taken_back = 0

    def close(self) -> None:
        """Cancel all deadlines."""
        self._heap.clear()
        self._sooner.set()

    def _run(self) -> None:
        """Wait for deadlines, until there are none left."""
        while self._heap:
            deadline, _, call = self._heap[0]
            if call.deadline != deadline:
                self._next()
                continue
            now = time.monotonic()
            if deadline > now:
                self._sooner.clear()
                self._sooner.wait(max(deadline - now, 0.001))
                continue
            self._look()
            while self._heap and self._heap[0][0] <= now:
                call = self._next()
                if call is not None:
                    call.deadline = None
                    self._expire(call)
        self._greenlet = None

    def _next(self) -> Any:
        """Take the first call off the heap; return None if its deadline was cancelled."""
        deadline, _, call = heapq.heappop(self._heap)
        if call.deadline == deadline:
            return call
        self._taken_back -= 1
        return None
