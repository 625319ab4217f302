"""The table of a requester's requests: they wait for room or a peer, or a peer has them.

They are sent in the order in which they were made. Requests that come back after they were sent
go before all that were not sent yet.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from gzmqsource._base.event import Event
from gzmqsource.workers._balance import Balance
from gzmqsource.workers._calls import AnyCall, Outstanding, Place, SubmittedCall
from gzmqsource.workers._clock import Clock
from gzmqsource.workers._connection import Connection, State
from gzmqsource.workers._counts import Counts
from gzmqsource.workers._holds import Holds


class Table:
    """The places of calls.

    A signal handler may raise between any two calls of a function. So a call that moves is in its
    new place before it leaves the old one, where it does not count any more: its field `place` is
    the new one.

    Parameters
    ----------
    counts : Counts
        The counters.
    most, most_bytes : int
        How many calls, and how many bytes of them, may be with a peer or wait for one.
    """

    #: The deadlines.
    clock: Clock

    def __init__(self, counts: Counts, most: int, most_bytes: int) -> None:
        for name, bound in ("max_outstanding", most), ("max_outstanding_bytes", most_bytes):
            if not isinstance(bound, int) or bound < 1:
                raise ValueError(f"{name}={bound!r}: the bound is an int of at least 1")
        self.counts = counts
        self.balance: Balance[Connection] = Balance()
        #: The connection to which the next call goes at once, if it is the only live one, and no
        #: other call comes first.
        self.express: Connection | None = None
        self.connections: dict[Connection, None] = {}
        #: Set when the last of the calls has ended, if *ending*.
        self.idle = Event()
        self.ending = False
        #: How many calls are with a peer or wait for one, and how many bytes they have.
        self.admitted = 0
        self.bytes = 0
        #: The calls that wait for room, for a peer once more, and for a peer for the first time.
        self.wanting = Place()
        self.again = Place()
        self.fresh = Place()
        #: The calls that are held back after a refusal.
        self.held = Holds(self._let_go)
        self._most = most
        self._most_bytes = most_bytes

    @property
    def outstanding(self) -> int:
        """How many calls have not ended."""
        return self.admitted + len(self.wanting)

    @property
    def waiting(self) -> int:
        """How many outstanding calls are not with a peer."""
        returning = sum(len(each.returning) for each in list(self.connections))
        places = (self.wanting, self.again, self.fresh, self.held)
        return returning + sum(map(len, places))

    def take(self, call: AnyCall) -> bool:
        """Take a call out of its place, to end it; return False if it has already ended."""
        place = call.place
        if place is None or place.pop(call.key, None) is None:
            return False
        if place is self.held:
            self.held.forget(call)
        if place.connection is not None:
            self.balance.note(place.connection)
        self._over(call, place is not self.wanting)
        return True

    def leave(self, call: AnyCall) -> bool:
        """Take a call out of its place, and notify the peer that its caller no longer waits."""
        connection = self.asked_over(call)
        if not self.take(call):
            return False
        if connection is not None:
            connection.cancel(call)
            self._has_fewer(connection)
        return True

    def fail(self, call: AnyCall, error: Exception) -> bool:
        """End a call with an error; return False if it has already ended."""
        return self._end(call, error, self.take)

    def give_up(self, call: AnyCall, error: Exception) -> bool:
        """End a call with an error, and notify the peer that its caller no longer waits."""
        return self._end(call, error, self.leave)

    def calls(self) -> Iterator[AnyCall]:
        """Iterate over all calls."""
        for place in self._places():
            yield from list(place.values())

    def abandon(self) -> list[AnyCall]:
        """Forget all calls, and return them: this hub runs no more, nor do its timers."""
        calls = list(self.calls())
        for place in self._places():
            place.clear()
        self.admitted = self.bytes = 0
        return calls

    def asked_over(self, call: AnyCall) -> Connection | None:
        """Return the connection over which a call is outstanding."""
        connection: Connection | None = None if call.place is None else call.place.connection
        if connection is not None and call.place is not connection.outstanding:
            return None  # it was lost, and is just being ended
        return connection

    # Inside.

    @abstractmethod
    def _dispatch(self) -> None:
        """Send the calls that wait for a peer, soon, while one is live."""

    @abstractmethod
    def _ending(self) -> list[Outstanding]:
        """Return the places of calls that were lost, and are just being ended."""

    @abstractmethod
    def _let_go(self, call: AnyCall) -> None:
        """Send a call again that was held back."""

    def _places(self) -> list[dict[bytes, Any]]:
        """Return all places where calls are."""
        places: list[dict[bytes, Any]] = [self.wanting, self.again, self.fresh, self.held]
        for connection in self.connections:
            places += connection.outstanding, connection.returning
        return [*places, *self._ending()]

    def _has_fewer(self, connection: Connection) -> None:
        """Note that a connection has fewer calls; if it was given up, it may be done."""
        self.balance.note(connection)
        if connection.is_retired and not connection.outstanding:
            connection.close(None)

    def _has_room(self, call: AnyCall) -> bool:
        return not self.admitted or (
            self.admitted < self._most and self.bytes + call.size <= self._most_bytes
        )

    def _end(self, call: AnyCall, error: Exception, take: Callable[[AnyCall], bool]) -> bool:
        """Take a call and end it, also if a signal handler raises in between."""
        place = call.place
        if place is None or call.key not in place:
            return False
        try:
            take(call)
            call.settle(error)
        except BaseException:
            if call.key not in place:
                call.settle(error)
            raise
        return True

    def _over(self, call: AnyCall, was_admitted: bool) -> None:
        """Note that a call has ended, and is in no place."""
        if call.deadline is not None:
            self.clock.stop(call)
        if was_admitted:
            self.admitted -= 1
            self.bytes -= call.size
            if self.wanting:
                self._let_in()
        if self.ending and not self.outstanding:
            self.idle.set()

    def _recount(self) -> None:
        """Count again, after an exception of a signal handler."""
        self.balance.renew(each for each in self.connections if each.state is State.LIVE)
        admitted = [
            call
            for place in self._places()
            for call in place.values()
            if call.place is place is not self.wanting
        ]
        self.admitted, self.bytes = len(admitted), sum(call.size for call in admitted)
        if self.ending and not self.outstanding:
            self.idle.set()

    def _choose_express(self) -> None:
        """Let calls go to the only live connection, unless others wait."""
        waits = self.wanting or self.again or self.fresh
        self.express = None if waits else self.balance.only

    def _let_in(self) -> None:
        """Admit calls that wait for room."""
        while self.wanting and self._has_room(call := next(iter(self.wanting.values()))):
            if call.place is not self.wanting:  # an exception came when it had just left
                del self.wanting[call.key]
                continue
            self.admitted += 1
            self.bytes += call.size
            self._move(call, self.fresh)
            if isinstance(call, SubmittedCall) and call.admitted is not None:
                call.admitted.set()
        self._dispatch()

    def _put(self, place: Place, call: AnyCall) -> None:
        self.express = None
        call.place = place
        place[call.key] = call

    def _move(self, call: AnyCall, place: Place) -> None:
        """Take a call from one place to another, so that it is always in at least one of them."""
        was = call.place
        self._put(place, call)
        if was is not None:
            was.pop(call.key, None)
