"""A request until its reply: of a greenlet, of a result that somebody looks at, of another thread.

Each has its ``frames``, how often it may be sent again (``retries``), the ``timeout`` in seconds of
each time, and ``settle``, which gives it its reply or its error.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from gevent.event import AsyncResult
from gevent.hub import Waiter

from gzmqsource._base.oneshot import OneShot


class Call(Waiter):  # type: ignore[type-arg]
    """A request that a greenlet of the owner's hub waits with."""

    __slots__ = ("deadline", "frames", "retries", "timeout")

    # An AsyncResult takes 1 us more, a sixth of a request.
    def __init__(self, hub: Any, frames: list[Any], timeout: float | None, retries: int) -> None:
        super().__init__(hub)
        self.frames = frames
        self.timeout = timeout
        self.retries = retries
        self.deadline: float | None = None

    def settle(self, outcome: list[Any] | Exception) -> None:
        """Give it its reply, or its error."""
        self.hub.loop.run_callback(self.switch, outcome)


class SubmittedCall(AsyncResult):  # type: ignore[type-arg]
    """A request whose result somebody may look at."""

    __slots__ = ("deadline", "frames", "retries", "timeout")

    def __init__(self, frames: list[Any], timeout: float | None, retries: int) -> None:
        super().__init__()
        self.frames = frames
        self.timeout = timeout
        self.retries = retries
        self.deadline: float | None = None

    def settle(self, outcome: list[Any] | Exception) -> None:
        """Give it its reply, or its error."""
        if isinstance(outcome, Exception):
            self.set_exception(outcome)
        else:
            self.set(outcome)


class ForeignCall(OneShot):
    """One attempt of a request from another thread, which keeps its own time and its retries."""

    __slots__ = ("frames",)

    retries = 0
    deadline: float | None = None

    def __init__(self, frames: list[Any]) -> None:
        super().__init__()
        self.frames = frames

    def settle(self, outcome: list[Any] | Exception) -> None:
        """Give it its reply, or its error."""
        self.set(outcome)


#: A request of any kind.
AnyCall: TypeAlias = Call | SubmittedCall | ForeignCall
