"""A greenlet that a signal handler does not end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import Greenlet
from gevent.hub import get_hub

from gzmqsource._base.repairs import Repairs, call_after


class Lasting:
    """Runs a function in a greenlet, and again after a pause if an exception has ended it.

    Parameters
    ----------
    function : callable
        It returns when there is nothing to do. Called again, it continues.
    """

    #: Seconds before it is called again: a fault that stays must not take a core.
    pause = 0.1

    def __init__(self, function: Callable[[], object]) -> None:
        self._hub = get_hub()
        self._function = function
        self._greenlet: Greenlet[..., object] | None = None
        self._is_killed = False
        Repairs.of(self._hub).add(self)

    @property
    def is_running(self) -> bool:
        """Whether the function runs, or is about to."""
        return bool(self._greenlet)

    def start(self) -> None:
        """Run the function, unless it runs."""
        self._is_killed = False
        if not self._greenlet:
            self._spawn().start()

    def kill(self) -> None:
        """End the greenlet, soon."""
        self._is_killed = True
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def repair(self) -> None:
        """Run the function again if an exception has ended it, or the attempt to start it."""
        greenlet = self._greenlet
        if self._is_killed or greenlet is None or greenlet:
            return
        if greenlet.exception is not None or not greenlet.dead:
            self._spawn().start_later(self.pause)

    def _spawn(self) -> Greenlet[..., Any]:
        self._greenlet = greenlet = Greenlet(self._function)
        call_after(greenlet, self._ended)
        return greenlet

    def _ended(self, greenlet: Any) -> None:
        if greenlet.exception is not None:  # other objects may be in the middle of a change, too
            Repairs.of(self._hub).repair_all()
