"""Repairs after an exception that has ended a callback of the hub.

Python runs a signal handler between any two instructions, also before the first one of a callback,
where no ``try`` is. If the handler raises there, the callback has done nothing. gevent
reports the exception and goes on, but nothing calls the callback again, and if it was that of a
descriptor, its watcher is stopped. The one place that learns of all these exceptions is the error
handler of the loop. So nothing is prevented, which would cost something for each message. Instead
whatever waits is woken once more.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Protocol


class Repairable(Protocol):
    """An object with callbacks in a hub."""

    def repair(self) -> None:
        """Schedule again what its callbacks may have left undone.

        This is called in the hub, while none of its callbacks runs. It may be called at any time,
        also if nothing is to be repaired, and again if it raises.
        """


def call_after(greenlet: Any, function: Callable[[Any], object]) -> None:
    """Have the hub call ``function(greenlet)`` after the end of a greenlet, whatever has ended it.

    gevent calls a link itself, and reports its exception past the loop. So the link is a function
    in C, in which no exception of a signal handler comes.
    """
    greenlet.rawlink(functools.partial(greenlet.loop.run_callback, function))


class Repairs:
    """The objects of one hub that are repaired, and the error handler of the hub's loop.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of this thread. Its own ``handle_error`` reports each exception.
    """

    #: How many repairs in a row may fail. Handlers of signals fail a few; a fault fails them all.
    patience = 10

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._all: weakref.WeakSet[Repairable] = weakref.WeakSet()
        self._failures = 0

    @classmethod
    def of(cls, hub: Any) -> Repairs:
        """Return the repairs of a hub."""
        found: Repairs | None = vars(hub).get("gzmqsource_repairs")
        if found is None:
            found = hub.gzmqsource_repairs = cls(hub)
        return found

    def add(self, repairable: Repairable) -> None:
        """Have an object repaired, as long as it is alive."""
        self._all.add(repairable)
        self.begin()

    def begin(self) -> None:
        """Learn of exceptions from now on; call this before a greenlet waits.

        Each time the hub begins to run, it makes itself the error handler of its loop.
        """
        loop = self._hub.loop
        if loop is not None and loop.error_handler is not self:
            loop.run_callback(self._begin_in, loop)

    def handle_error(self, context: object, kind: Any, value: Any, traceback: Any) -> None:
        """Have everything repaired, soon, and the exception reported as ever; the loop calls this.

        In this order: the report of a `KeyboardInterrupt` switches into the main greenlet.
        """
        try:
            if self._hub.loop is not None and self._failures < self.patience:
                self._failures += 1
                self._hub.loop.run_callback(self.repair_all)
        finally:
            self._hub.handle_error(context, kind, value, traceback)

    def repair_all(self) -> None:
        """Have everything repaired; call this in the hub, while none of the callbacks runs."""
        for each in list(self._all):
            each.repair()
        self._failures = 0

    def _begin_in(self, loop: Any) -> None:
        if loop.error_handler is self._hub:
            loop.error_handler = self
