"""The choice of the peer for each request of a requester, and when it is sent."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from gzmqsource._base import turns
from gzmqsource._base.repairs import Repairs
from gzmqsource._base.warning import LimitedWarning
from gzmqsource.workers._calls import AnyCall, Outstanding, Place, refresh, send_again
from gzmqsource.workers._clock import Clock
from gzmqsource.workers._connection import Connection, State
from gzmqsource.workers._counts import Counts
from gzmqsource.workers._header import Detail
from gzmqsource.workers._liveness import Liveness
from gzmqsource.workers._losses import Losses
from gzmqsource.workers._quick import beginner_of
from gzmqsource.workers._retries import back_off
from gzmqsource.workers._table import Table

_warn_lost = LimitedWarning(logging.getLogger("gzmqsource.workers"), "a server was lost: %s")


class Dispatcher(Table):
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
        super().__init__(counts, most, most_bytes)
        self.ping = ping
        self.liveness = Liveness(dead_after)
        self.watch = self.liveness.watch
        #: Called with the endpoint of a connection that is lost, or cannot be made.
        self.on_loss: Callable[[str], object] = lambda endpoint: None
        #: Called when no connection is live any more.
        self.on_none: Callable[[], object] = lambda: None
        self.clock = Clock(expire, self._hear_out)
        #: Begins with a call: `send_first`, or a quicker form of it.
        self.begin = beginner_of(self, most, most_bytes)
        self._hub = hub
        self._losses = Losses(self, retry_budget)
        self._is_dispatching = False
        self._sending_back: set[Connection] = set()
        Repairs.of(hub).add(self)

    def send_first(self, call: AnyCall) -> None:
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
                self.refuse(call)
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
            self.refuse(call)
            raise
        self._choose_express()

    def refuse(self, call: AnyCall) -> None:
        """Note that libzmq has refused a call that was admitted, unless the peer has it by now."""
        if call.place is None or call.key not in call.place:
            self._over(call, True)
            self.counts.failed += 1

    def send_later(self, call: AnyCall, connection: Connection | None) -> None:
        """Let a call wait for a connection, unless that was given up or is left, or for any."""
        if connection is None or connection.state in (State.CLOSED, State.LEAVING):
            self._move(call, self.again)
            self._dispatch()
        else:
            self._move(call, connection.returning)
            self._send_back_soon(connection)

    def close(self) -> None:
        """Stop sending."""
        self.ending = True
        self.liveness.close()
        self.clock.close()
        self.held.close()

    def repair(self) -> None:
        """Continue where an exception of a signal handler may have ended a change."""
        self._recount()
        self._losses.go_on()
        self._let_in()
        for connection in self.connections:
            self._send_back_soon(connection)
        self._choose_express()

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

    def interrupted(self, call: AnyCall, outcome: list[Any] | Exception) -> None:
        """End a call during whose end a signal handler has raised."""
        self._hub.loop.run_callback(self.repair)
        call.settle(outcome)

    def refused(self, connection: Connection, call: AnyCall, detail: int) -> None:
        """Ask another peer, or wait until one is live, or until one has room."""
        self.counts.refused += 1
        self._has_fewer(connection)
        past = send_again(call)
        if detail == Detail.LEAVING:
            self._let_go(call)
            return
        past.refused_by.add(connection)
        if len(past.refused_by) < self.max_refusals:
            other = self.balance.least(past.refused_by)
            if other is not None:
                self._put(self.again, call)
                try:
                    self._ask(call, other)
                finally:
                    self._dispatch()
                    self._choose_express()
                return
        self.held.hold(call, back_off(past.refusals, self.first_hold, self.max_hold))
        past.refusals += 1
        past.refused_by.clear()

    def lost(self, connection: Connection, calls: Outstanding, why: str, comes_back: bool) -> None:
        """End an attempt of each call, in turns if there are many."""
        self._losses.add(connection, calls, why, comes_back)
        self._has_fewer(connection)

    def give_away(
        self,
        calls: Place | Outstanding,
        which: Callable[[AnyCall], object] = lambda _: True,
    ) -> None:
        """Send to any peer the calls of one that does not come back, or some of them."""
        for call in list(calls.values()):
            if call.place is calls and which(call):
                self._move(call, self.again)
        self._dispatch()

    def late(self) -> None:
        """Count a reply to a call that has ended."""
        self.counts.late += 1

    def strange(self, detail: str) -> None:
        """Count a message that no responder sends."""
        self.counts.unknown(detail)

    # Inside.

    def _ending(self) -> list[Outstanding]:
        return self._losses.places()

    def _send(self, call: AnyCall, connection: Connection | None) -> None:
        assert connection is not None
        connection.ask(call)
        self.balance.note(connection)

    def _ask(self, call: AnyCall, connection: Connection) -> None:
        """Send a call that has waited, or was sent before; end it if libzmq refuses it."""
        place = call.place
        assert place is not None
        try:
            refresh(call)
            self._send(call, connection)
        except BaseException as error:
            if call.key in connection.outstanding:  # a signal handler has raised after the send
                raise
            call.place = place
            if not isinstance(error, Exception):
                raise
            self.counts.failed += self.fail(call, error)
        place.pop(call.key, None)

    def _ask_first(self, place: Place, connection: Connection) -> None:
        """Send the first call of a place: it stays there until the peer has it."""
        call = next(iter(place.values()))
        if call.place is place:
            self._ask(call, connection)
        else:  # an exception came when it had just left
            place.pop(call.key, None)

    def _dispatch(self) -> None:
        """Send the calls that wait for a peer, soon and in turns, while one is live."""
        if not self._is_dispatching and self.balance and (self.again or self.fresh):
            turns.in_turns(self._hub, iter(self._send_waiting, False))
            self._is_dispatching = True

    def _send_waiting(self) -> bool:
        """Send the next call that waits for any peer; return False if that is not possible."""
        queue, connection = self.again or self.fresh, self.balance.least()
        if queue and connection is not None:
            self._ask_first(queue, connection)
            return True
        self._is_dispatching = False
        self._choose_express()
        return False

    def _send_back_soon(self, connection: Connection) -> None:
        """Send to a connection the calls that wait for it, soon and in turns, while it is live."""
        is_live = connection.state is State.LIVE
        if connection.returning and is_live and connection not in self._sending_back:
            turns.in_turns(self._hub, iter(functools.partial(self._send_back, connection), False))
            self._sending_back.add(connection)

    def _send_back(self, connection: Connection) -> bool:
        if connection.returning and connection.state is State.LIVE:
            self._ask_first(connection.returning, connection)
            return True
        self._sending_back.discard(connection)
        return False

    def _let_go(self, call: AnyCall) -> None:
        """Send a call again that was held back."""
        self._put(self.again, call)
        self._dispatch()

    def _hear_out(self, calls: list[AnyCall]) -> None:
        """Take the replies that are there, before some calls expire."""
        for connection in dict.fromkeys(map(self.asked_over, calls)):
            if connection is not None:
                connection.link.hear_out()
