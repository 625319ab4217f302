"""An event on which no greenlet waits while it is set."""

from __future__ import annotations

import contextlib

from gevent import event
from gevent.exceptions import InvalidThreadUseError


class Event(event.Event):
    """A `gevent.event.Event` whose `wait` returns at once if it is set.

    It can be set after the hub of the waiting greenlets was destroyed; none of them runs then.

    gevent's event is fair: a greenlet that calls `wait` while others are about to be notified
    waits behind them. If the others are killed or time out before that, gevent never wakes the
    late one, timeout or not (seen in gevent 26.9).
    """

    __slots__ = ()

    def set(self) -> None:
        """Set it, and wake the greenlets that wait."""
        # They cannot be notified; gevent fails at that in a different way in each thread.
        with contextlib.suppress(AttributeError, InvalidThreadUseError):
            super().set()

    def wait(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Wait until it is set; return False if *timeout*, in seconds, ran out."""
        return self.is_set() or bool(super().wait(timeout))
