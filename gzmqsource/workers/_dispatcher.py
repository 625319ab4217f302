"""The places of a requester's requests: they wait for room or a peer, or a peer has them.

They are sent in the order in which they were made. Requests that come back after they were sent
go before all that were not sent yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent

from gzmqsource._base import turns
from gzmqsource._base.event import Event
from gzmqsource._base.warning import LimitedWarning
from gzmqsource.workers import _reasons
from gzmqsource.workers._balance import Balance
from gzmqsource.workers._calls import (
    AnyCall,
    Outstanding,
    Place,
    SubmittedCall,
    refresh,
    send_again,
)
from gzmqsource.workers._clock import Clock
from gzmqsource.workers._connection import Connection, State
from gzmqsource.workers._counts import Counts
from gzmqsource.workers._header import Detail
from gzmqsource.workers._holds import Holds
from gzmqsource.workers._liveness import Liveness
from gzmqsource.workers._retries import RetryBudget, back_off
from gzmqsource.workers._turns import in_turns

_warn_lost = LimitedWarning(logging.getLogger("gzmqsource.workers"), "a server was lost: %s")


class Dispatcher:
    """Sends each request to the least loaded live connection, and again if necessary.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of the requester.
    counts : Counts
        The counters.
    ping : bytes
        The header of a ping.
    dead_after : float
        See `Liveness`.
    most, most_bytes : int
        How many calls, and how many bytes of them, may be with a peer or wait for one.
    retry_budget : float
        See `RetryBudget`.
    expire : callable
        ``expire(call)`` is called when the time of a call is over.
    """

    #: Seconds for which a request is held back that every peer asked has refused: the first time,
    #: and at most. Each further time in a row is twice as long.
    first_hold = 0.15
    max_hold = 2.0

    #: How many peers may refuse a request before it is held back.
    max_refusals = 3

    def __init__(
        self,
        hub: Any,
        counts: Counts,
        ping: bytes,
        dead_after: float,
        most: int,
        most_bytes: int,
        retry_budget: float,
        expire: Callable[[AnyCall], object],
    ) -> None:
        for name, bound in ("max_outstanding", most), ("max_outstanding_bytes", most_bytes):
            if not isinstance(bound, int) or bound < 1:
                raise ValueError(f"{name}={bound!r}: the bound is an int of at least 1")
        self.ping = ping
        self.counts = counts
        self.balance: Balance[Connection] = Balance()
        #: The connection to which the next call goes at once, if it is the only live one, and no
        #: other call comes first.
        self.express: Connection | None = None
        self.connections: dict[Connection, None] = {}
        self.liveness = Liveness(dead_after)
        self.watch = self.liveness.watch
        #: Called with the endpoint of a connection that is lost, or cannot be made.
        self.on_loss: Callable[[str], object] = lambda endpoint: None
        #: Called when no connection is live any more.
        self.on_none: Callable[[], object] = lambda: None
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
        self.clock = Clock(expire, self._hear_out)
        self._hub = hub
        self._most = most
        self._most_bytes = most_bytes
        self._budget = RetryBudget(retry_budget)
        self._losing: dict[int, Outstanding] = {}  # calls that are just being ended
        self._is_dispatching = False
        self._sending_back: set[Connection] = set()

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

    def begin(self, call: AnyCall) -> None:
        """Send a call for the first time, or let it wait.

        Raises
        ------
        SendError, SourceClosed
            libzmq refuses it; it has ended.
        """
        express, held = self.express, self.bytes + call.size
        if express is None or self.admitted >= self._most or held > self._most_bytes:
            self._begin(call)
        else:
            self.admitted += 1
            self.bytes = held
            try:
                express.ask(call)
            except BaseException:
                self._refuse(call)
                raise
        if call.timeout is not None:
            self.clock.start(call, call.timeout)

    def _begin(self, call: AnyCall) -> None:
        """Begin with a call that cannot go to the only connection at once."""
        if self.wanting or not self._has_room(call):
            self._put(self.wanting, call)
            return
        self.admitted += 1
        self.bytes += call.size
        connection = None if self.fresh or self.again else self.balance.least()
        if connection is None:
            self._put(self.fresh, call)
            self._dispatch()
            return
        try:
            self._send(call, connection)
        except BaseException:
            self._refuse(call)
            raise
        self._choose_express()

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
        if not self.take(call):
            return False
        call.settle(error)
        return True

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

    def close(self) -> None:
        """Stop sending."""
        self.ending = True
        self.liveness.close()
        self.clock.close()
        self.held.close()

    # The reports of connections.

    def live(self, connection: Connection) -> None:
        """Send the calls that wait for it, and those that wait for any connection, soon."""
        self.balance.add(connection)
        self._choose_express()
        self._send_back_soon(connection)
        self._dispatch()

    def not_live(self, connection: Connection) -> None:
        """Send no more calls over it."""
        self.balance.remove(connection)
        self._choose_express()
        if not self.balance:
            self.on_none()

    def missed(self, connection: Connection, why: str = "") -> None:
        """Note that a connection was lost or cannot be made, and log how many were outstanding."""
        if connection.outstanding:
            outstanding = len(connection.outstanding)
            _warn_lost(f"{why}, while {outstanding} requests were outstanding")
        self.on_loss(connection.endpoint)

    def gone(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self.connections.pop(connection, None)

    def answered(
        self, connection: Connection, call: AnyCall, outcome: list[Any] | Exception
    ) -> None:
        """End a call that was outstanding with its reply."""
        self.counts.replies += 1
        if connection is self.express and not self.ending:
            if call.deadline is not None:
                self.clock.stop(call)
            self.admitted -= 1
            self.bytes -= call.size
        else:
            self._over(call, True)
            self._has_fewer(connection)
        call.settle(outcome)

    def refused(self, connection: Connection, call: AnyCall, detail: int) -> None:
        """Ask another peer, or wait until one is live, or until one has room."""
        self.counts.refused += 1
        self._has_fewer(connection)
        past = send_again(call)
        if detail == Detail.LEAVING:
            self._put(self.again, call)
            self._dispatch()
            return
        past.refused_by.add(connection)
        if len(past.refused_by) < self.max_refusals:
            other = self.balance.least(past.refused_by)
            if other is not None:
                self._ask(call, other)
                return
        self.held.hold(call, back_off(past.refusals, self.first_hold, self.max_hold))
        past.refusals += 1
        past.refused_by.clear()

    def lost(self, connection: Connection, calls: Outstanding, why: str, comes_back: bool) -> None:
        """End an attempt of each call, in turns if there are many."""
        self._has_fewer(connection)
        back_to = connection if comes_back else None
        if len(calls) == 1:
            self._lose(calls, why, back_to)
        elif calls:
            self._losing[id(calls)] = calls
            gevent.spawn(self._lose, calls, why, back_to)

    def give_away(self, calls: Place) -> None:
        """Send to any peer the calls of one that does not come back."""
        for call in calls.values():
            self._put(self.again, call)
        self._dispatch()

    def late(self) -> None:
        """Count a reply to a call that has ended."""
        self.counts.late += 1

    def strange(self, detail: str) -> None:
        """Count a message that no responder sends."""
        self.counts.unknown(detail)

    # Inside.

    def _places(self) -> list[dict[bytes, Any]]:
        """Return all places where calls are."""
        places: list[dict[bytes, Any]] = [self.wanting, self.again, self.fresh, self.held]
        for connection in self.connections:
            places += connection.outstanding, connection.returning
        return [*places, *self._losing.values()]

    def _has_fewer(self, connection: Connection) -> None:
        """Note that a connection has fewer calls; if it was given up, it may be done."""
        self.balance.note(connection)
        if connection.is_retired and not connection.outstanding:
            connection.close(None)

    def _has_room(self, call: AnyCall) -> bool:
        return not self.admitted or (
            self.admitted < self._most and self.bytes + call.size <= self._most_bytes
        )

    def _refuse(self, call: AnyCall) -> None:
        """Note that libzmq has refused a call that was admitted."""
        self._over(call, True)
        self.counts.failed += 1

    def _send(self, call: AnyCall, connection: Connection | None) -> None:
        assert connection is not None
        connection.ask(call)
        self.balance.note(connection)

    def _ask(self, call: AnyCall, connection: Connection | None) -> None:
        """Send a call that has waited, or was sent before; end it if libzmq refuses it."""
        refresh(call)
        try:
            self._send(call, connection)
        except Exception as error:
            self._refuse(call)
            call.settle(error)

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

    def _choose_express(self) -> None:
        """Let calls go to the only live connection, unless others wait."""
        waits = self.wanting or self.again or self.fresh
        self.express = None if waits else self.balance.only

    def _let_in(self) -> None:
        """Admit calls that wait for room."""
        while self.wanting and self._has_room(call := next(iter(self.wanting.values()))):
            del self.wanting[call.key]
            if isinstance(call, SubmittedCall) and call.admitted is not None:
                call.admitted.set()
            self.admitted += 1
            self.bytes += call.size
            self._put(self.fresh, call)
        self._dispatch()

    def _put(self, place: Place, call: AnyCall) -> None:
        self.express = None
        call.place = place
        place[call.key] = call

    def _dispatch(self) -> None:
        """Send the calls that wait for a peer, soon and in turns, while one is live."""
        if not self._is_dispatching and self.balance and (self.again or self.fresh):
            self._is_dispatching = True
            turns.in_turns(self._hub, self._send_waiting())

    def _send_waiting(self) -> Iterator[None]:
        while (queue := self.again or self.fresh) and self.balance:
            _, call = queue.popitem(last=False)
            self._ask(call, self.balance.least())
            yield
        self._is_dispatching = False
        self._choose_express()

    def _send_back_soon(self, connection: Connection) -> None:
        """Send to a connection the calls that wait for it, soon and in turns, while it is live."""
        is_live = connection.state is State.LIVE
        if connection.returning and is_live and connection not in self._sending_back:
            self._sending_back.add(connection)
            turns.in_turns(self._hub, self._send_back(connection))

    def _send_back(self, connection: Connection) -> Iterator[None]:
        while connection.returning and connection.state is State.LIVE:
            _, call = connection.returning.popitem(last=False)
            self._ask(call, connection)
            yield
        self._sending_back.discard(connection)

    def _lose(self, calls: Outstanding, why: str, back_to: Connection | None) -> None:
        each_in_turn: Iterable[AnyCall] = list(calls.values())
        if len(calls) > 1:
            each_in_turn = in_turns(each_in_turn)
        for call in each_in_turn:
            if call.key in calls:
                self._lose_one(calls, call, why, back_to)
        self._losing.pop(id(calls), None)

    def _lose_one(
        self, calls: Outstanding, call: AnyCall, why: str, back_to: Connection | None
    ) -> None:
        if not call.retries:
            self.counts.lost += self.fail(call, _reasons.lost(call, why, is_spent=False))
        elif not self._budget.take(self.counts.requests(self.outstanding), self.outstanding):
            self.counts.lost += self.fail(call, _reasons.lost(call, why, is_spent=True))
        else:
            call.retries -= 1
            self.counts.retries += 1
            send_again(call)
            del calls[call.key]
            if back_to is None or back_to.state is State.CLOSED:  # given up in the meantime
                self._put(self.again, call)
                self._dispatch()
            else:
                self._put(back_to.returning, call)
                self._send_back_soon(back_to)

    def _let_go(self, call: AnyCall) -> None:
        """Send a call again that was held back."""
        self._put(self.again, call)
        self._dispatch()

    def _hear_out(self, calls: list[AnyCall]) -> None:
        """Take the replies that are there, before some calls expire."""
        for connection in dict.fromkeys(map(self.asked_over, calls)):
            if connection is not None:
                connection.link.hear_out()
