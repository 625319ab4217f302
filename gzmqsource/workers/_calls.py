"""A request until its reply: with a greenlet that waits, with a result, or of another thread.

Each has its ``frames``, how often it may be sent again (``retries``), the ``timeout`` in seconds of
each attempt, and ``settle``, which ends it with a reply or an error.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from gevent.event import AsyncResult
from gevent.hub import Waiter

from gzmqsource._base.oneshot import OneShot

#: What happens to outstanding requests when a connection is lost.
Lost = Literal["wait", "fail", "retry"]


class Call(Waiter):  # type: ignore[type-arg]
    """A request with a greenlet of the owner's hub that waits for the reply."""

    __slots__ = ("deadline", "frames", "retries", "timeout")

    # An AsyncResult takes 1 us more, a sixth of a request.
    def __init__(self, hub: Any, frames: list[Any], timeout: float | None, retries: int) -> None:
        super().__init__(hub)
        self.frames = frames
        self.timeout = timeout
        self.retries = retries
        self.deadline: float | None = None

    def settle(self, outcome: list[Any] | Exception) -> None:
        """End the request with its reply or its error."""
        self.hub.loop.run_callback(self.switch, outcome)


class SubmittedCall(AsyncResult):  # type: ignore[type-arg]
    """A request that is the `gevent.event.AsyncResult` of its reply."""

    __slots__ = ("deadline", "frames", "retries", "timeout")

    def __init__(self, frames: list[Any], timeout: float | None, retries: int) -> None:
        super().__init__()
        self.frames = frames
        self.timeout = timeout
        self.retries = retries
        self.deadline: float | None = None

    def settle(self, outcome: list[Any] | Exception) -> None:
        """End the request with its reply or its error."""
        if isinstance(outcome, Exception):
            self.set_exception(outcome)
        else:
            self.set(outcome)


class ForeignCall(OneShot):
    """One attempt of a request from another thread, which does its timing and retries itself."""

    __slots__ = ("frames",)

    retries = 0
    deadline: float | None = None

    def __init__(self, frames: list[Any]) -> None:
        super().__init__()
        self.frames = frames

    def settle(self, outcome: list[Any] | Exception) -> None:
        """End the request with its reply or its error."""
        self.set(outcome)


#: A request of any kind.
AnyCall: TypeAlias = Call | SubmittedCall | ForeignCall
