"""Work for many items at once, in turns: the hub polls in between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from gevent.monkey import get_original

#: Seconds of a turn. With 16,000 greenlets to wake, other I/O is late by no more than this, and
#: the polls in between take a hundredth of the time.
TURN = 0.0005


def timer_after_io(loop: Any) -> Any:
    """Return a timer that fires after the loop has polled and has served the I/O that is ready.

    It has the lowest priority: libev runs timers of the same priority before the I/O.
    """
    return loop.timer(0, priority=-2)


def in_turns(hub: Any, steps: Iterator[object]) -> None:
    """Take the steps of an iterator in the hub, soon, for at most `TURN` seconds between two polls.

    All work of a hub shares its turns, in FIFO order of the turns. A step must not raise.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of this thread.
    steps : iterator
        Each step does the work for one item, and may switch into greenlets.
    """
    turns = _here.turns
    if turns is None or turns.hub is not hub:
        turns = _here.turns = _Turns(hub)
    turns.add(steps)


class _Turns:
    """The work of a hub that is done in turns."""

    __slots__ = ("_is_scheduled", "_timer", "_work", "hub")

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self._work: deque[Iterator[object]] = deque()
        self._timer: Any = None
        self._is_scheduled = False

    def add(self, steps: Iterator[object]) -> None:
        self._work.append(steps)
        if not self._is_scheduled:
            self._is_scheduled = True
            self.hub.loop.run_callback(self._turn)

    def _turn(self) -> None:
        ends = time.perf_counter() + TURN
        try:
            while self._work:
                steps = self._work.popleft()
                for _ in steps:
                    if time.perf_counter() >= ends:
                        self._work.append(steps)
                        return
        finally:
            self._go_on()

    def _go_on(self) -> None:
        """Take the next turn once the hub has polled, if there is work left."""
        self._is_scheduled = bool(self._work)
        if self._work:
            if self._timer is None:
                self._timer = timer_after_io(self.hub.loop)
            self._timer.start(self._turn)
        elif self._timer is not None:
            self._timer.close()
            self._timer = None


class _Here(get_original("_thread", "_local")):  # type: ignore[misc]
    """The variables of this thread."""

    turns: _Turns | None = None


_here = _Here()
