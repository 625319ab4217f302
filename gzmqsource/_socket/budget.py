"""Bounded turns: a greenlet that could go on yields to other I/O once its budget is spent."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.hub import Waiter

from gzmqsource._base.repairs import call_after
from gzmqsource._base.turns import timer_after_io
from gzmqsource._base.waiters import Waiters
from gzmqsource._socket.hub_slice import HubSlice
from gzmqsource.transfer import Allowance
from gzmqsource.transfer.pure import AFTER_WAIT

__all__ = ["Budget", "call_after_io", "yield_to_io"]

#: In place of the serial of a slice: a short part, which the rest of the slice follows.
_IN_SHORT_PART = -1


def yield_to_io(hub: Any) -> None:
    """Yield so that the I/O of this hub, not only its callbacks, has a turn.

    ``gevent.sleep(0)`` does not: the hub keeps running callbacks before it polls. With one
    greenlet yielding that way every 20 us, other I/O was late by a median of 164 ms; with a
    timer of 0 seconds, by 0.03 ms.
    """
    with timer_after_io(hub.loop) as timer:
        hub.wait(timer)


def call_after_io(hub: Any, function: Callable[[], object]) -> gevent.Greenlet[..., None]:
    """Have the hub call a function once other I/O has had its turn.

    Returns
    -------
    gevent.Greenlet
        It waits for that. However it ends, by a kill too, the function is called.
    """
    waiting = gevent.spawn(yield_to_io, hub)
    call_after(waiting, lambda _waiting: function())
    return waiting


class Budget(Allowance):
    """The part of one socket in the slices of its hub.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of the socket.
    max_messages : int
        The most messages of one part.
    max_seconds : float
        Its longest time in seconds, for a socket that has a whole slice to itself.
    """

    __slots__ = (
        "_closed",
        "_serial",
        "_turn",
        "charged",
        "has_spawned",
        "hub",
        "is_fresh",
        "is_queued",
        "owes",
        "quick_turns",
        "shared",
        "stops",
        "waiters",
    )

    def __init__(self, hub: Any, max_messages: int, max_seconds: float) -> None:
        super().__init__()
        self.max_messages = max_messages
        self.max_seconds = max_seconds
        #: How often it was exhausted while there was more to do.
        self.stops = 0
        #: The hub to whose I/O it yields.
        self.hub = hub
        #: The slice that all sockets of the hub share.
        self.shared = HubSlice.of(hub)
        #: See `gzmqsource._socket.hub_slice.Sharing`.
        self.charged = 0.0
        self.owes = False
        self.quick_turns = HubSlice.forgiven
        self.is_fresh = self.is_queued = False
        self.has_spawned = False
        self.waiters = Waiters()
        self._serial = 0
        self._turn = 0
        self._closed = False

    def exhausted(self, receives: bool = False) -> bool:
        """Return whether the greenlet must yield to I/O now; call this when nothing is `left`.

        In each slice of the hub a socket gets the rest of the slice, once, unless others wait for
        their parts. In that case, or after the end of the slice, it may send one message, if none
        has passed. One that it *receives* has a turn: if its greenlet waits a moment after each,
        all of them would pass, and it would never be charged. Messages that are prefetched when the
        socket closes are handled without a budget.
        """
        if self._closed:
            self.refill(AFTER_WAIT, self.max_seconds)
            return False
        shared = self.shared
        now = time.monotonic()
        is_new = self._turn != shared.turn and shared.running is not self
        if is_new and shared.running is not None and now < shared.part_ends:
            # It is used in the turn of another socket, which is charged for it.
            self._turn = shared.turn
            self.refill(self.max_messages, shared.part_ends - now)
            return False
        shared.begin_if_over(now)
        if self._serial != shared.serial:
            had_part = self._serial == _IN_SHORT_PART
            self._serial = shared.serial
            left = (shared.ends - now) / shared.length
            if left > 0 and not shared.is_crowded:
                shared.mark()
                self.refill(self.max_messages, self.max_seconds * left)
            elif not (had_part or receives):
                self.refill(1, self.max_seconds)
        return self.left <= 0

    def take(
        self,
        may_yield: Callable[[], bool] | None = None,
        receives: bool = False,
        left: Callable[[], float | None] | None = None,
    ) -> bool:
        """Count one message of a greenlet that does not have to wait; yield to I/O when it is time.

        Parameters
        ----------
        may_yield : callable, optional
            Called before the greenlet yields. If it returns False, the greenlet does not yield,
            and the message is not counted.
        receives : bool
            See `exhausted`.
        left : callable, optional
            Called before the greenlet yields; it returns the timeout of `yield_to_io`.

        Returns
        -------
        bool
            Whether it has yielded: conditions that held before may have changed.
        """
        if self.spend():
            return False
        if not self.exhausted(receives):
            self.spend()
            return False
        if gevent.getcurrent() is self.hub or (may_yield is not None and not may_yield()):
            return False
        self.yield_to_io(None if left is None else left())
        self.spend()
        return True

    def take_in_turn(self) -> None:
        """Count one message of a greenlet that has just begun, behind those that already wait."""
        if self.waiters:
            self.yield_to_io()
            self.spend()
        else:
            self.take()

    def run_spawned(self, spawn: Callable[[], object]) -> float:
        """Call *spawn*, and wait until each greenlet that it starts has begun, in this turn.

        The hub runs them after the greenlet that has spawned them, one after the other. So two
        callbacks around them measure their time, and none of them has to ask for its turn.

        Returns
        -------
        float
            The CPU seconds until they have ended, or wait.
        """
        loop, shared = self.hub.loop, self.shared
        ended: Waiter[float] = Waiter(self.hub)
        messages, seconds = self.left, self.seconds_left()
        began: float | None = None

        def begin() -> None:
            nonlocal began
            # Twice the time: their number fills the part if they are as quick as the last ones.
            self.refill(messages, 2 * seconds)
            began = shared.begin_turn(self, seconds)

        def end() -> None:
            self.has_spawned = False
            if end not in shared.unended:  # it has been called before, by a repair
                return
            used = seconds if began is None else shared.end_turn(self, began)
            left = seconds - used
            self._serial = shared.serial
            self.refill(self.left if left > seconds / 4 else 0, left)
            shared.go_on(self, left, functools.partial(ended.switch, used))
            shared.unended.pop(end, None)

        self.has_spawned = True
        shared.unended[end] = None
        loop.run_callback(begin)
        try:
            spawn()
        finally:
            loop.run_callback(end)
        used: float = ended.get()
        return used

    def yield_to_io(self, timeout: float | None = None) -> None:
        """Yield to other I/O and other sockets because this is exhausted; then a part begins.

        After *timeout* seconds, or after a slice if that is longer, the greenlet goes on without.
        """
        self.stops += 1
        self.shared.wait(self, timeout)

    def repair(self) -> None:
        """Resume the greenlets that wait, soon: a callback that was to do so has been ended."""
        if self.waiters:
            self.shared.enqueue(self)

    def begin_part(self, seconds: float) -> None:
        """See `gzmqsource._socket.hub_slice.Sharing`."""
        self._serial = self.shared.serial
        self.refill(self.max_messages, seconds)

    def restart(self) -> None:
        """Begin a short part right after a wait, without a turn in the queue.

        If others wait that had less, the part is a message and its answer, but never nothing: a
        greenlet that was woken must be able to take the message for which it was woken.
        """
        shared = self.shared
        if self.restart_within(shared):
            self._serial = _IN_SHORT_PART
            return
        shared.begin_if_over(time.monotonic())
        left = shared.ends - time.monotonic()
        # Others that wait come before a further message.
        self._serial = shared.serial
        if left > 0 and not shared.is_crowded:
            self._serial = _IN_SHORT_PART
        if shared.is_crowded and shared.is_ahead(self):
            self.refill(2, self.max_seconds)
        elif left > 0:
            self.refill(min(AFTER_WAIT, self.max_messages), min(self.max_seconds / 8, left))
        else:
            # A message, its answer, and a look for the next one, if they are quick.
            self.refill(3, self.max_seconds / 32)

    def close(self) -> None:
        """Leave the hub's slice for good."""
        if not self._closed:
            self._closed = True
            self.shared.leave()
