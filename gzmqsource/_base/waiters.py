"""The one FIFO of greenlets that wait in a hub."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from gevent.hub import Waiter

from gzmqsource._base.turns import TURN, Each, in_turns, timer_after_io

_TIMED_OUT = object()

#: Seconds until a timeout is due once more: an exception of a signal handler may end the first one.
_AGAIN = 0.1


class Waiters(OrderedDict[Any, None]):
    """Greenlets of one hub that wait for the same thing, in FIFO order.

    A waiter runs and leaves the queue in one step of the hub, so no wake-up is lost between the
    two: a greenlet that is killed or timed out was either still in the queue, or has run. It leaves
    the queue itself, because a signal handler may raise before it runs.

    It is an ordered dictionary because a waiter leaves it without a search, from wherever it is. An
    empty one takes 130 bytes, a deque 760, and usually few greenlets wait for one thing.
    """

    __slots__ = ("_late",)

    def __init__(self) -> None:
        super().__init__()
        self._late: _Late | None = None

    def wait(
        self,
        hub: Any,
        timeout: float | None,
        ref: bool = True,
        look: Callable[[], object] | None = None,
        first: bool = False,
        waiter: Waiter[object] | None = None,
    ) -> bool:
        """Wait in the queue; return False if *timeout*, in seconds, ran out.

        Parameters
        ----------
        ref : bool
            Whether the timer of *timeout* keeps the hub's loop running.
        look : callable, optional
            Called in the hub when *timeout* is over. After the hub was held up, an event counts
            more than the clock, and the greenlets in front have their turn first. The greenlet
            gives up when none of the queue was woken between two looks, and both have returned the
            same value.
        first : bool
            Whether to wait at the front: the greenlet was woken, and has found nothing.
        waiter : gevent.hub.Waiter, optional
            A new one, for `wake_this`.
        """
        waiter = waiter or Waiter(hub)
        timer = None if timeout is None else hub.loop.timer(timeout, _AGAIN, ref=ref)
        try:
            self[waiter] = None
            if first:
                self.move_to_end(waiter, last=False)
            if timer is not None:
                # The loop's clock stands still while a greenlet holds up the hub.
                if look is None:
                    timer.start(self._time_out_soon, waiter, update=True)
                else:
                    timer.start(self._be_late, waiter, look, timer, update=True)
            return waiter.get() is not _TIMED_OUT
        finally:
            # First, and without a call, so that no signal handler raises before it is done.
            if waiter in self:
                del self[waiter]
            if timer is not None:
                timer.close()
            if self._late is not None:
                self._late.waiters.pop(waiter, None)

    def wake(self, most: int) -> None:
        """Switch into up to *most* of the greenlets that wait now; call this in the hub."""
        if self._late is not None:
            self._late.has_woken = True
        for _ in range(min(most, len(self))):
            if self:
                next(iter(self)).switch(None)

    def wake_all(self) -> None:
        """Switch into each greenlet that waits now, soon and in turns of the hub.

        Between two turns one of them may be woken, killed or timed out, and one that waits again
        is not woken again.
        """
        if self:
            waiters = list(self)
            in_turns(waiters[0].hub, Each(self.wake_this, waiters))

    def wake_this(self, waiter: Waiter[object]) -> None:
        """Switch into one greenlet if it still waits; call this in the hub."""
        if waiter in self:
            if self._late is not None:
                self._late.has_woken = True
            waiter.switch(None)

    def end_late(self) -> None:
        """Note that none of the greenlets whose time was over still waits."""
        self._late = None

    def _time_out_soon(self, waiter: Waiter[object]) -> None:
        in_turns(waiter.hub, Each(self.time_out, [waiter]))

    def time_out(self, waiter: Waiter[object]) -> None:
        """End the wait of one greenlet if it still waits; call this in the hub."""
        if waiter in self:
            waiter.switch(_TIMED_OUT)

    def _be_late(self, waiter: Waiter[object], look: Callable[[], object], timer: Any) -> None:
        if self._late is None:
            self._late = _Late(self, waiter.hub, look)
        self._late.waiters[waiter] = None
        # Last: an exception may come before. Thousands of them that fire again and again would
        # take more time than the looks.
        timer.stop()


class _Late:
    """The waiters of a queue whose time is over, and the looks before they give up."""

    __slots__ = ("_again", "_look", "_loop", "_next", "_queue", "_seen", "has_woken", "waiters")

    def __init__(self, queue: Waiters, hub: Any, look: Callable[[], object]) -> None:
        #: In the order in which they became late; they leave when they leave the queue.
        self.waiters: OrderedDict[Waiter[object], None] = OrderedDict()
        #: Whether one of the queue was woken since the last look.
        self.has_woken = False
        self._queue = queue
        self._look = look
        self._loop = hub.loop
        self._next = timer_after_io(hub.loop)
        self._seen = look()
        # Like a waiter's timer, it comes again if an exception has ended a look.
        self._again = hub.loop.timer(_AGAIN, _AGAIN)
        self._again.start(self._go_on)
        self._go_on()

    def _go_on(self) -> None:
        """Look again, soon, unless that is already to be done."""
        if not self._next.active:
            self._loop.run_callback(self._poll)

    def _poll(self) -> None:
        """Continue once the hub has polled; the callbacks of the look have run before this one."""
        self._next.start(self._look_again)

    def _look_again(self) -> None:
        seen, self._seen = self._seen, self._look()
        has_woken, self.has_woken = self.has_woken, False
        if not has_woken and self._seen == seen:
            self._time_out()
        if self.waiters:
            self._go_on()
        else:
            self._queue.end_late()
            self._next.close()
            self._again.close()

    def _time_out(self) -> None:
        """Time out the late waiters, in their order: at least one, and for one turn."""
        ends = time.perf_counter() + TURN
        while self.waiters:
            waiter = next(iter(self.waiters))
            self._queue.time_out(waiter)
            self.waiters.pop(waiter, None)
            if time.perf_counter() >= ends:
                break
