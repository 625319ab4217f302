"""Calls that are held back for a while, because each peer that was asked has refused them."""

from __future__ import annotations

from collections.abc import Callable

from gzmqsource.workers._calls import AnyCall, Place
from gzmqsource.workers._clock import Clock


class _Hold:
    """A call that is held back until ``deadline``, which is not the deadline of the call."""

    __slots__ = ("call", "deadline")

    def __init__(self, call: AnyCall) -> None:
        self.call = call
        self.deadline: float | None = None


class Holds(Place):
    """The place of calls that are held back.

    Parameters
    ----------
    let_go : callable
        ``let_go(call)`` is called with a call at the end of its time, to put it in another place.
    """

    def __init__(self, let_go: Callable[[AnyCall], object]) -> None:
        super().__init__()
        self._let_go = let_go
        self._holds: dict[AnyCall, _Hold] = {}
        self._clock = Clock(self._ended, lambda _: None)

    def hold(self, call: AnyCall, seconds: float) -> None:
        """Hold back a call that is in no place."""
        call.place = self
        self[call.key] = call
        hold = self._holds[call] = _Hold(call)
        self._clock.start(hold, max(0.001, seconds))

    def forget(self, call: AnyCall) -> None:
        """Note that a call was taken out of here."""
        self._clock.stop(self._holds.pop(call))

    def close(self) -> None:
        """Stop letting calls go."""
        self._clock.close()

    def _ended(self, hold: _Hold) -> None:
        call = hold.call
        if self._holds.get(call) is hold:
            if call.place is self:
                self._let_go(call)
            del self._holds[call], self[call.key]  # last: an exception may come before
