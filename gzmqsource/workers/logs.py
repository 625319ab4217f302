"""Requests in a program's log: a line for each, and the id of the one being handled."""

from __future__ import annotations

import logging
import time
from typing import Any

from gzmqsource.workers._current import Request, current_request
from gzmqsource.workers._hooks import Hook

__all__ = ["LoggingHook", "RequestIdFilter"]


class LoggingHook(Hook):
    """Logs each request with its id, its peer, its outcome, and the milliseconds that it took.

    Parameters
    ----------
    logger : logging.Logger or None
        The logger to use; None for ``gzmqsource.requests``.
    level : int
        The level of requests that got a reply; the others have ``WARNING``.
    """

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self._logger = logging.getLogger("gzmqsource.requests") if logger is None else logger
        self._level = level

    def before(self, request: Request) -> None:
        """Note the time at which the request began."""
        vars(request)["logged_from"] = time.monotonic()

    def after(self, request: Request, reply: list[Any]) -> None:
        """Log the reply."""
        self._log(self._level, request, f"{len(reply)} frames")

    def error(self, request: Request, error: BaseException) -> None:
        """Log the error."""
        self._log(logging.WARNING, request, f"{type(error).__name__}: {error}")

    def _log(self, level: int, request: Request, outcome: str) -> None:
        took = 1000 * (time.monotonic() - vars(request)["logged_from"])
        identifier = request_id(request)
        self._logger.log(
            level, "request %s, %s: %s, %.1f ms", identifier, request.peer, outcome, took
        )


class RequestIdFilter(logging.Filter):
    """Gives each log record a ``request_id``: the id of the request whose handler logs it.

    Add it to a handler of `logging`, and ``%(request_id)s`` to its format. The id is ``"-"``
    outside of a request handler. It is the same at both ends, unless the peer is plain.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set the id, and let the record pass."""
        request = current_request()
        record.request_id = "-" if request is None else request_id(request)
        return True


def request_id(request: Request) -> str:
    """Return the id of a request in logs."""
    return request.key.hex() or "plain"
