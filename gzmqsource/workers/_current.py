"""`Request`, which both ends have for one request; and the request on which a handler works."""

from __future__ import annotations

import contextvars
import time
from typing import Any

from gzmqsource._base.contexts import of_one_message
from gzmqsource._base.reports import peer_of


class Request:
    """One request, as a handler and the hooks of both ends see it.

    Attributes
    ----------
    key : bytes
        16 random bytes, the same for all attempts and at both ends; empty if the peer is plain.
    attempt : int
        How often it was sent before.
    payload : list of bytes or zmq.Frame
        Its frames.
    deadline : float or None
        The time by `time.monotonic` after which no caller waits for the reply; None for never.
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
        """The sender, named as in the log, or the endpoint to which the request goes."""
        # A routing id becomes text only when it is read.
        return self._peer if isinstance(self._peer, str) else peer_of(self._peer)

    @peer.setter
    def peer(self, peer: str) -> None:
        self._peer = peer

    @property
    def left(self) -> float | None:
        """The seconds that are left of its time, at least 0; None if it has no deadline."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    def __repr__(self) -> str:
        left = "" if self.deadline is None else f", {self.left:.3f} s left"
        return f"<Request {self.key.hex() or 'plain'} of {self.peer}{left}>"


#: The request on which the handler of this context works.
current: contextvars.ContextVar[Request | None] = contextvars.ContextVar(
    "gzmqsource.workers.current_request", default=None
)
of_one_message.append(current)


def current_request() -> Request | None:
    """Return the request on which the current handler works, or None outside of any handler.

    It is also None in a greenlet that a handler has spawned, unless that has the handler's context:
    ``gevent.spawn(contextvars.copy_context().run, function)``.
    """
    return current.get()
