"""Calls whose peer was lost: each fails, or is sent again."""

from __future__ import annotations

from typing import Any, Protocol

from gevent.hub import get_hub

from gzmqsource._base.lasting import Lasting
from gzmqsource._socket.budget import yield_to_io
from gzmqsource.workers import _reasons
from gzmqsource.workers._calls import AnyCall, Outstanding, send_again
from gzmqsource.workers._connection import Connection
from gzmqsource.workers._counts import Counts
from gzmqsource.workers._retries import RetryBudget
from gzmqsource.workers._turns import TURN


class Losing(Protocol):
    """A dispatcher, as this module uses it."""

    counts: Counts

    @property
    def outstanding(self) -> int:
        """How many calls have not ended."""

    def fail(self, call: AnyCall, error: Exception) -> bool:
        """End a call with an error; return False if it has already ended."""

    def send_later(self, call: AnyCall, connection: Connection | None) -> None:
        """Let a call wait for a connection, or for any."""


class _Loss:
    """The calls that a peer had when it was lost.

    Parameters
    ----------
    calls : Outstanding
        The calls that are left.
    why : str
        The text on the loss.
    back_to : Connection or None
        The connection over which they are sent again; None for any.
    """

    __slots__ = ("back_to", "calls", "why")

    def __init__(self, calls: Outstanding, why: str, back_to: Connection | None) -> None:
        self.calls = calls
        self.why = why
        self.back_to = back_to


class Losses:
    """Ends an attempt of each call that was lost, in turns if there are many.

    Parameters
    ----------
    dispatcher : Losing
        It has the calls.
    retry_budget : float
        See `RetryBudget`.
    """

    def __init__(self, dispatcher: Losing, retry_budget: float) -> None:
        self._dispatcher = dispatcher
        self._counts = dispatcher.counts
        self._budget = RetryBudget(retry_budget)
        self._left: dict[_Loss, None] = {}
        self._runs = Lasting(self._run)

    def places(self) -> list[Outstanding]:
        """Return the places of the calls that are just being ended."""
        return [loss.calls for loss in self._left]

    def add(self, connection: Any, calls: Outstanding, why: str, comes_back: bool) -> None:
        """End an attempt of each call.

        Parameters
        ----------
        connection : Connection
            The connection that had them. If *calls* are those outstanding, it has none any more.
        calls : Outstanding
            The calls.
        why : str
            The text on the loss.
        comes_back : bool
            Whether they are sent again over this connection.
        """
        loss = _Loss(calls, why, connection if comes_back else None)
        others = Outstanding(connection)
        # Without a call in between, so that the calls are always in a place that is known.
        self._left[loss] = None
        if calls is connection.outstanding:
            connection.outstanding = others
        try:
            if len(calls) == 1:
                self._end_one(loss)
        finally:
            if calls:
                self.go_on()
            else:
                self._left.pop(loss, None)

    def go_on(self) -> None:
        """End what is left."""
        if self._left:
            self._runs.start()

    def _run(self) -> None:
        done = 0
        while self._left:
            loss = next(iter(self._left))
            while loss.calls:
                self._end_one(loss)
                done += 1
                if not done % TURN:
                    yield_to_io(get_hub())
            self._left.pop(loss, None)

    def _end_one(self, loss: _Loss) -> None:
        call: AnyCall = next(iter(loss.calls.values()))
        outstanding = self._dispatcher.outstanding
        if call.place is not loss.calls:  # an exception came when it was just moved
            del loss.calls[call.key]
        elif not call.retries:
            self._fail(call, _reasons.lost(call, loss.why, is_spent=False))
        elif not self._budget.take(self._counts.requests(outstanding), outstanding):
            self._fail(call, _reasons.lost(call, loss.why, is_spent=True))
        else:
            call.retries -= 1
            self._counts.retries += 1
            send_again(call)
            self._dispatcher.send_later(call, loss.back_to)

    def _fail(self, call: AnyCall, error: Exception) -> None:
        self._counts.lost += self._dispatcher.fail(call, error)
