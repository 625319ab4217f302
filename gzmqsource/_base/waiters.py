"""The one FIFO of greenlets that wait in a hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.hub import Waiter

_TIMED_OUT = object()


class Waiters(list[Any]):
    """Greenlets of one hub that wait for the same thing, in FIFO order.

    A waiter leaves the queue and runs in one step of the hub, so no wake-up is lost between the
    two: a greenlet that is killed or timed out was either still in the queue, or has run.

    It is a list because an empty deque takes 700 bytes more, and few greenlets wait for one
    thing.
    """

    __slots__ = ()

    def wait(
        self,
        hub: Any,
        timeout: float | None,
        ref: bool = True,
        look: Callable[[], object] | None = None,
    ) -> bool:
        """Wait at the end of the queue; return False if *timeout*, in seconds, ran out.

        Parameters
        ----------
        ref : bool
            Whether the timer of *timeout* keeps the hub's loop running.
        look : callable, optional
            Called in the hub when *timeout* is over. The greenlets that it makes the hub wake, in
            their order and this one among them, are woken before this one gives up: after a hub
            that was held up, what is there counts for more than the clock.
        """
        waiter: Waiter[object] = Waiter(hub)
        timers: list[Any] = []
        self.append(waiter)
        try:
            if timeout is not None:
                timers.append(hub.loop.timer(timeout, ref=ref))
                # The loop's clock stands still while a greenlet holds up the hub.
                if look is None:
                    timers[0].start(waiter.switch, _TIMED_OUT, update=True)
                else:
                    timers[0].start(_look_last, hub, look, waiter, timers, update=True)
            return waiter.get() is not _TIMED_OUT
        finally:
            for timer in timers:
                timer.close()
            if waiter in self:
                self.remove(waiter)

    def wake(self, most: int) -> None:
        """Switch into up to *most* of the greenlets that wait now; call this in the hub."""
        for _ in range(min(most, len(self))):
            if self:
                self.pop(0).switch(None)


def _look_last(
    hub: Any, look: Callable[[], object], waiter: Waiter[object], timers: list[Any]
) -> None:
    """Look, and time out once the hub has polled, and has run the callbacks that follow."""
    look()
    # At the lowest priority: libev runs timers of the same priority before the I/O it has found.
    timers.append(hub.loop.timer(0, ref=timers[0].ref, priority=-2))
    timers[1].start(waiter.switch, _TIMED_OUT)
