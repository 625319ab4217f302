"""The server that ``serve`` makes for messages that have no reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gzmqsource._source.source import Source
from gzmqsource.cli._signals import unfinished

#: The reasons for which a stop drops messages that had come in time.
_LOST = ("killed", "unhandled")


class Consumer:
    """A source with a handler, which counts as a `gzmqsource.workers.Responder` does.

    Parameters
    ----------
    handler : callable
        Called with each message.
    open_source : callable
        Called with the handler of the source, which it returns.
    """

    def __init__(
        self, handler: Callable[[Any], object], open_source: Callable[[Any], Source]
    ) -> None:
        self._handler = handler
        self._running = 0
        #: The source.
        self.source = open_source(self._handle)

    def start(self) -> None:
        """Start calling the handler."""
        self.source.start()

    def stop(self, seconds: float) -> int:
        """Stop, and return how many messages were taken and not handled, or not sent."""
        unsent = len(self.source.stop(seconds))
        dropped = self.source.stats().dropped
        return unsent + sum(dropped.get(reason, 0) for reason in _LOST)

    def close(self) -> None:
        """Close at once."""
        self.source.close()

    def pending(self) -> str | None:
        """Return in words what it has yet to finish."""
        return unfinished(self._running, self.source.stats().in_hand, "message")

    def _handle(self, message: Any) -> None:
        self._running += 1
        try:
            self._handler(message)
        finally:
            self._running -= 1
