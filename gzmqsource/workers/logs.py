"""Requests in a program's log: a line for each, and the id of the one that a handler works on."""

from __future__ import annotations

import logging
import time
from typing import Any

from gzmqsource.workers._current import Request, current_request
from gzmqsource.workers._hooks import Hook

__all__ = ["LoggingHook", "RequestIdFilter"]


class LoggingHook(Hook):
    """Logs each request with its id, its peer, what became of it, and the milliseconds it took.

    Parameters
    ----------
    logger : logging.Logger or None
        Where to; None for ``gzmqsource.requests``.
    level : int
        The level of requests that were replied to; the others have ``WARNING``.
    """

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self._logger = logging.getLogger("gzmqsource.requests") if logger is None else logger
        self._level = level

    def before(self, request: Request) -> None:
        """Note when it began."""
        vars(request)["logged_from"] = time.monotonic()

    def after(self, request: Request, reply: list[Any]) -> None:
        """Log its reply."""
        self._log(self._level, request, f"{len(reply)} frames")

    def error(self, request: Request, error: BaseException) -> None:
        """Log its error."""
        self._log(logging.WARNING, request, f"{type(error).__name__}: {error}")

    def _log(self, level: int, request: Request, outcome: str) -> None:
        took = 1000 * (time.monotonic() - vars(request)["logged_from"])
        identifier = request_id(request)
        self._logger.log(
            level, "request %s, %s: %s, %.1f ms", identifier, request.peer, outcome, took
        )


class RequestIdFilter(logging.Filter):
    """Gives each record of the log a ``request_id``: of the request whose handler logs it.

    Add it to a handler of `logging`, and ``%(request_id)s`` to its format. It is ``"-"`` outside of
    a handler. The id is the same at both ends, unless the peer is plain.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set it, and pass the record."""
        request = current_request()
        record.request_id = "-" if request is None else request_id(request)
        return True


def request_id(request: Request) -> str:
    """Return how logs refer to a request."""
    return request.key.hex() or "plain"
