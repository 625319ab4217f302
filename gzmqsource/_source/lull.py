"""The time since the last message, by which a stop decides."""

from __future__ import annotations

import time
from typing import Any

from gzmqsource._base.event import Event


class Lull:
    """The time since which a greenlet waits for a message, and the greenlets that are in a stop."""

    __slots__ = ("_news", "since", "stoppers")

    def __init__(self) -> None:
        #: When the greenlet that waits for a message found none, by the monotonic clock. A message
        #: wakes it, so none has come since. Noting the time takes 0.1 us of a wait's 8 us.
        self.since = 0.0
        #: The greenlets that are in a stop: a handler among them holds its place until the end.
        self.stoppers: set[Any] = set()
        self._news = Event()

    def begin(self) -> None:
        """Note that there is no message now; call this right before waiting for one."""
        self.since = time.monotonic()
        if self.stoppers:
            self._news.set()

    def end(self) -> None:
        """Have a stop check the state of its source."""
        self._news.set()

    def left(self, seconds: float) -> float:
        """Return the seconds that are left until it has lasted for *seconds*."""
        return max(0.0, self.since + seconds - time.monotonic())

    def wait_for_news(self, timeout: float | None) -> None:
        """Wait until a lull begins, or a stop should check for another reason."""
        self._news.clear()
        self._news.wait(timeout)
