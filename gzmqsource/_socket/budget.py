"""Bounded turns: who need not wait lets other I/O in, from time to time and at the right price."""

from __future__ import annotations

import time
from typing import Any

from gzmqsource.transfer import Transfer


def let_io_in(hub: Any) -> None:
    """Yield so that I/O of this hub, not only its callbacks, has a turn.

    ``gevent.sleep(0)`` does not: the hub goes on running callbacks before it polls. With one
    greenlet yielding that way every 20 us, other I/O was late by a median of 164 ms; with a
    timer of 0 seconds, by 0.03 ms.
    """
    # At the lowest priority, or libev would go on with this greenlet before the I/O it has found.
    with hub.loop.timer(0, priority=-2) as timer:
        hub.wait(timer)


class Turn:
    """How long one source has kept the hub from polling.

    A timer of 0 seconds is started with each turn. It fires once the hub has polled, so while it
    is still active nobody else's I/O has been looked at, and when it is not the turn is a new one.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of the source.
    transfer : Transfer
        Of the source; it is granted what is left of the turn.
    max_messages : int
        The most messages of one turn.
    max_seconds : float
        Its longest time in seconds.
    """

    __slots__ = (
        *("_before", "_closed", "_ends", "_granted", "_hub", "_left"),
        *("_max_messages", "_max_seconds", "_renewal", "_timer", "_transfer", "stride"),
    )

    #: The most messages between two looks at the clock: a look costs as much as half a message.
    max_stride = 32

    def __init__(self, hub: Any, transfer: Transfer, max_messages: int, max_seconds: float) -> None:
        #: How many messages may pass until `is_over` is asked again: few while they take their
        #: time, and one to begin with.
        self.stride = 1
        self._hub = hub
        self._transfer = transfer
        self._max_messages = max_messages
        self._max_seconds = max_seconds
        self._renewal = min(self.max_stride, max_messages)
        self._timer: Any = None
        self._closed = False
        self._left = self._granted = 0
        self._before = self._ends = 0.0

    def is_over(self, messages: int = 0) -> bool:
        """Count messages, and tell whether other I/O must be let in now.

        If not, the transfer is granted what is left of the turn. What is in hand after the end of
        the source goes on without turns.
        """
        if self._closed:
            self._transfer.grant(self.max_stride, self.max_stride, self._max_seconds)
            return False
        now = time.monotonic()
        if self._timer is None or not self._timer.active:
            self._begin(now)
        # Long strides for quick messages; a slow one is the last before the next look.
        quick = now - self._before < self._max_seconds / 8
        self._before = now
        self._left -= messages + self._granted - self._transfer.turn_left
        self.stride = max(1, min(2 * self.stride, self.max_stride, self._left)) if quick else 1
        if now >= self._ends or self._left <= 0:
            self._granted = self._transfer.turn_left = 0
            return True
        self._granted = self._transfer.grant(self._left, self.stride, self._ends - now)
        return False

    def renew(self) -> None:
        """Begin without a timer, right after a wait: the hub has just polled.

        Most who wait take a message or two and wait again, and a timer would cost them a turn of
        the loop.
        """
        self._granted = self._transfer.grant(self._renewal, self.stride, self._max_seconds / 8)

    def close(self) -> None:
        """Close the timer for good: libuv crashes if one is collected while it is active."""
        self._closed = True
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _begin(self, now: float) -> None:
        if self._timer is None:
            self._timer = self._hub.loop.timer(0, ref=False)
        self._timer.start(_nothing)
        self._before = now
        self._ends = now + self._max_seconds
        self._left = self._max_messages
        self._granted = self._transfer.turn_left = 0


def _nothing() -> None:
    """Fire; that the timer is no longer active is all that is wanted of it."""
