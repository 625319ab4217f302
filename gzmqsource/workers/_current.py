"""`Request`: what both ends know of one request; and the one that a handler works on."""

from __future__ import annotations

import contextvars
import time
from typing import Any

from gzmqsource._base.reports import peer_of


class Request:
    """One request, as a handler and the hooks of both ends see it.

    Attributes
    ----------
    key : bytes
        16 random bytes, the same for all attempts and at both ends; of a plain peer, empty.
    attempt : int
        How often it was sent before.
    payload : list of bytes or zmq.Frame
        Its frames.
    deadline : float or None
        When nobody waits for the reply any more, by `time.monotonic`; None for never.
    """

    __module__ = "gzmqsource.workers"

    __slots__ = ("__dict__", "_peer", "attempt", "deadline", "key", "payload")

    def __init__(
        self, key: bytes, attempt: int, payload: list[Any], peer: Any, deadline: float | None
    ) -> None:
        self.key = key
        self.attempt = attempt
        self.payload = payload
        self._peer = peer
        self.deadline = deadline

    @property
    def peer(self) -> str:
        """Who sent it, as the log says it, or the endpoint that it goes to."""
        # A routing id becomes text only if it is asked for.
        return self._peer if isinstance(self._peer, str) else peer_of(self._peer)

    @peer.setter
    def peer(self, peer: str) -> None:
        self._peer = peer

    @property
    def left(self) -> float | None:
        """The seconds that are left of its time, 0 if they are over; None if it has no deadline."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    def __repr__(self) -> str:
        left = "" if self.deadline is None else f", {self.left:.3f} s left"
        return f"<Request {self.key.hex() or 'plain'} of {self.peer}{left}>"


#: The request that the handler of this context works on.
current: contextvars.ContextVar[Request | None] = contextvars.ContextVar(
    "gzmqsource.workers.current_request", default=None
)


def current_request() -> Request | None:
    """Return the request that the caller's handler works on, or None outside of any handler."""
    return current.get()
