"""Work for many items at once, in turns: the hub polls in between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from gevent.monkey import get_original

from gzmqsource._base.repairs import Repairs

_T = TypeVar("_T")

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


class Each(Iterator[None], Generic[_T]):
    """Steps that call a function with one item each.

    A generator is over once a signal handler has raised in it. Here the item is left for the next
    step.
    """

    __slots__ = ("_function", "_items")

    def __init__(self, function: Callable[[_T], object], items: Iterable[_T]) -> None:
        self._function = function
        self._items = deque(items)

    def __next__(self) -> None:
        if not self._items:
            raise StopIteration
        self._function(self._items[0])
        self._items.popleft()


class _Turns:
    """The work of a hub that is done in turns."""

    __slots__ = ("__weakref__", "_is_scheduled", "_timer", "_work", "hub")

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self._work: deque[Iterator[object]] = deque()
        self._timer: Any = None
        self._is_scheduled = False
        Repairs.of(hub).add(self)

    def add(self, steps: Iterator[object]) -> None:
        self._work.append(steps)
        if not self._is_scheduled:
            self.hub.loop.run_callback(self._turn)
            self._is_scheduled = True

    def repair(self) -> None:
        self._go_on()

    def _turn(self) -> None:
        ends = time.perf_counter() + TURN
        try:
            while self._work:
                for _ in self._work[0]:
                    if time.perf_counter() >= ends:
                        self._work.rotate(-1)
                        return
                self._work.popleft()
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
            timer, self._timer = self._timer, None
            timer.close()


class _Here(get_original("_thread", "_local")):  # type: ignore[misc]
    """The variables of this thread."""

    turns: _Turns | None = None


_here = _Here()
