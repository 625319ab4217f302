"""Waiting to send on a socket whose ``POLLOUT`` stands for any of many destinations."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gzmqsource._base.waiters import Waiters
from gzmqsource._socket.destinations import Destinations, Key

#: The key of a greenlet that sends to any destination.
EVERY = object()


class ManyWriters(dict[Key, Waiters]):
    """The greenlets that wait to send, by destination, and when each of them tries again.

    After an edge a few destinations are tried, then ``EVENTS`` is read for the readers, and then
    the hot destinations are tried again, because that reading may have consumed their edge. After
    calls that may have consumed an edge, only the second half is done.

    A *clock*, a timer that runs from then on, finds out whether a destination that was not tried
    has room. While it runs, an edge does not try cold destinations: under traffic it always runs,
    and peers that never read would cost each message of the others some 20 us. When it is due, one
    destination is tried, ``EVENTS`` is read, and all are tried. The clock ends, and nothing costs
    anything until the next edge, if that round was *silent*: nothing moved, nothing has touched the
    socket since the clock was started, and the round was quicker than libzmq's
    ``max_command_delay``. Then no wake-up can be lost:

    - A destination changes only while this thread processes the commands in the mailbox, which
      empties it. Any later change is an edge.
    - The last send was longer ago than libzmq's delay, so the first one of the round processes
      commands, and begins that delay. ``EVENTS`` processes them again. A send within the delay
      processes none. So each destination was tried after commands were processed last.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of the greenlets.
    look : callable
        Reads ``EVENTS``, and wakes the readers that can proceed.
    clock : callable
        Returns libzmq's clock, in units of ``max_command_delay``.
    ref : bool
        Whether a waiting greenlet keeps the hub's loop running.
    """

    #: Seconds until the clock is due. It is above ``max_command_delay`` on every clock that libzmq
    #: uses (3 ms for a counter of 1 GHz, less for a faster one).
    confirm_after = 0.01

    #: The pause in rounds, by their CPU time: under traffic they take at most a 20th of a core.
    rest = 20

    #: The same after a round that nothing disturbed, but that took too long to prove silence.
    long_rest = 400

    #: The longest of these pauses, in seconds.
    longest_pause = 1.0

    def __init__(
        self, hub: Any, look: Callable[[], None], clock: Callable[[], float], ref: bool
    ) -> None:
        super().__init__()
        self.destinations = Destinations()
        #: The keys that the greenlet that sends to `EVERY` destination is to try, if it was woken
        #: for that; it sets this to None.
        self.due: list[Key] | None = None
        #: Whether greenlets are woken to try: another look follows anyway.
        self.is_trying = False
        #: Whether the socket was used since the clock was started, other than by the clock.
        self.is_disturbed = True
        self._hub = hub
        self._look = look
        self._clock = clock
        self._ref = ref
        #: The attempt for each destination for which a greenlet of its own waits.
        self._attempts: dict[Key, Callable[[], bool]] = {}
        #: The destinations that have taken a message, until its greenlet has been switched into.
        self._taken: set[Key] = set()
        self._timer: Any = None
        # The pause of the clock that runs, in rounds.
        self._rest = 0
        #: The CPU time of the last round, in seconds.
        self._last_round = 0.0
        self._is_closed = False

    def queue(self, key: Key) -> Waiters:
        """Return the greenlets that wait for one destination; `forget` it if none waits."""
        queue = self.get(key)
        if queue is None:
            queue = self[key] = Waiters()
        return queue

    def forget(self, key: Key) -> None:
        """Forget a destination for which none waits."""
        if not self.get(key, True):
            del self[key]

    def wake(self, most: int) -> None:
        """Switch into the greenlets that wait now, *most* of each queue; call this in the hub."""
        for queue in list(self.values()):
            queue.wake(most)

    def enter(self, key: Key, attempt: Callable[[], bool]) -> None:
        """Note that a greenlet is about to wait for one destination, which *attempt* tries."""
        self._attempts[key] = attempt
        self.destinations.add(key)

    def has_taken(self, key: Key) -> bool:
        """Return whether the destination has taken the message of the current greenlet."""
        return key in self._taken

    def leave(self, key: Key) -> None:
        """Forget a destination; without any, no clock runs."""
        self._attempts.pop(key, None)
        self._taken.discard(key)
        self.destinations.discard(key)
        if not self.destinations:
            self._stop_clock()

    def serve(self, is_edge: bool) -> None:
        """Have some destinations tried; call this in the hub.

        Parameters
        ----------
        is_edge : bool
            Whether an edge has come; if not, calls may have consumed one.
        """
        self.is_disturbed = self.is_trying = True
        try:
            if is_edge and self._timer is None:
                self._try(self.destinations.take_some())
            elif is_edge:
                self._try(self.destinations.take_hot())  # the clock tries the others
            self._look()
            self._try(self.destinations.take_hot())
        finally:
            self.is_trying = False
            self._start_clock(self.rest)

    @property
    def can_wait(self) -> bool:
        """Whether the clock runs, and nothing is to be tried before it is due."""
        return self._timer is not None and not self.destinations.has_hot

    def note_use(self) -> None:
        """Note that calls have used the socket, and may have consumed an edge: the clock runs."""
        self.is_disturbed = True
        if self._timer is None or self._rest > self.rest:
            self._start_clock(self.rest)

    def repair(self) -> None:
        """Start the clock again: a callback has been ended, which may have been the clock's."""
        self.is_trying = False
        self._stop_clock()
        self._start_clock(self.rest)

    def close(self) -> None:
        """Stop the clock for good, and leave no reference cycle."""
        self._is_closed = True
        self._look = _look_at_nothing
        self._stop_clock()

    def _try(self, keys: list[Key]) -> None:
        """Try these destinations, or have the greenlet that sends to every one try them."""
        if not keys:
            return
        if EVERY in self:
            self.due = keys
            self[EVERY].wake(1)
            return
        for key in keys:
            queue = self.get(key)
            if queue and self._has_ended(key):
                queue.wake(1)

    def _has_ended(self, key: Key) -> bool:
        """Try a destination for the greenlet that waits for it; return whether to switch into it.

        A thousand greenlets that each try for themselves take 5 ms, far more than libzmq's delay,
        and a clock would never end. If the message is taken, the switch follows at once: nothing
        can come between the two.
        """
        try:
            has_taken = self._attempts[key]()
        except Exception:
            return True  # the greenlet meets it again
        if has_taken:
            self._taken.add(key)
        return has_taken

    def _start_clock(self, rest: int) -> None:
        """Start the clock, unless it runs with this *rest* or less."""
        if self._timer is not None and self._rest > rest:
            self._stop_clock()
        if self._timer is None and self and not self._is_closed:
            self._rest = rest
            self.is_disturbed = False
            pause = max(self.confirm_after, min(rest * self._last_round, self.longest_pause))
            self._timer = self._hub.loop.timer(pause, ref=self._ref)
            self._timer.start(self._confirm, update=True)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            timer, self._timer = self._timer, None
            timer.close()

    def _confirm(self) -> None:
        """Try all destinations, and end the clock if it is certain that none can have room."""
        self._stop_clock()
        if self._is_closed or not self:
            return
        destinations = self.destinations
        was_calm, changes = not self.is_disturbed, destinations.changes
        every = destinations.take_all()
        began, began_by_libzmq = time.thread_time(), self._clock()
        self.is_trying = True
        try:
            self._try(every[:1])
            self._look()
            self._try(every)
        finally:
            self.is_trying = False
            is_long = self._clock() - began_by_libzmq >= 1
            is_calm = was_calm and not self.is_disturbed and destinations.changes == changes
            self._last_round = time.thread_time() - began
            if not is_calm:
                self._start_clock(self.rest)
            elif is_long:
                self._start_clock(self.long_rest)


def _look_at_nothing() -> None:
    pass
