"""The one FIFO of greenlets that wait in a hub."""

from __future__ import annotations

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

    def wait(self, hub: Any, timeout: float | None, ref: bool = True) -> bool:
        """Wait at the end of the queue; return False if *timeout*, in seconds, ran out.

        Parameters
        ----------
        ref : bool
            Whether the timer of *timeout* keeps the hub's loop running.
        """
        waiter: Waiter[object] = Waiter(hub)
        timer = None if timeout is None else hub.loop.timer(timeout, ref=ref)
        self.append(waiter)
        try:
            if timer is not None:
                # The loop's clock stands still while a greenlet holds up the hub.
                timer.start(waiter.switch, _TIMED_OUT, update=True)
            return waiter.get() is not _TIMED_OUT
        finally:
            if timer is not None:
                timer.close()
            if waiter in self:
                self.remove(waiter)

    def wake(self, most: int) -> None:
        """Switch into up to *most* of the greenlets that wait now; call this in the hub."""
        for _ in range(min(most, len(self))):
            if self:
                self.pop(0).switch(None)
