"""The pages of a server over HTTP: whether it lives, whether it is ready, and its numbers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from gzmqsource._base.reports import Reports
from gzmqsource._base.warning import LimitedWarning
from gzmqsource.cli._log import log
from gzmqsource.cli._text import printable

_TEXT = "text/plain; charset=utf-8"


class Pages:
    """The pages ``/healthz``, ``/readyz`` and ``/metrics``, and no others; a WSGI application.

    Parameters
    ----------
    not_ready : callable
        Returns why the server is not ready for requests, in a line, or None if it is.
    metrics : callable
        Returns the numbers as Prometheus reads them.
    """

    def __init__(self, not_ready: Callable[[], str | None], metrics: Callable[[], bytes]) -> None:
        self._not_ready = not_ready
        self._metrics = metrics

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        page = self._page(environ["PATH_INFO"])
        more: list[tuple[str, str]] = []
        if page is None:
            status, kind, body = "404 Not Found", _TEXT, b"there is no such page\n"
        elif environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, kind, body = "405 Method Not Allowed", _TEXT, b"GET and HEAD are allowed\n"
            more = [("Allow", "GET, HEAD")]
        else:
            status, kind, body = page()
        # One answer for each connection: its time limit could cut off a later one.
        more.append(("Connection", "close"))
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *more])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _page(self, path: str) -> Callable[[], tuple[str, str, bytes]] | None:
        return {
            "/healthz": self._health,
            "/readyz": self._readiness,
            "/metrics": self._numbers,
        }.get(path)

    def _health(self) -> tuple[str, str, bytes]:
        # An answer shows that the hub runs.
        return "200 OK", _TEXT, b"the hub runs\n"

    def _readiness(self) -> tuple[str, str, bytes]:
        reason = self._not_ready()
        if reason is None:
            return "200 OK", _TEXT, b"ready\n"
        return "503 Service Unavailable", _TEXT, f"{printable(reason)}\n".encode()

    def _numbers(self) -> tuple[str, str, bytes]:
        return "200 OK", "text/plain; version=0.0.4; charset=utf-8", self._metrics()


class _Exchange(WSGIHandler):
    """A request and its answer, whose errors are in the log, at a bounded rate.

    Clients decide how many there are. The fault of a request is a line without a traceback.
    """

    _warn = LimitedWarning(log, "--metrics: a request is refused: %s")
    _report = Reports(log.name, logging.ERROR)

    def handle_one_response(self) -> None:
        """Answer a request, which is complete."""
        server: Any = self.server
        server.idle.pop(gevent.getcurrent(), None)
        server.add_to(server.answered)
        super().handle_one_response()

    def run_application(self) -> None:
        """Answer a request; one that was given up reads nothing more, as pywsgi would, and wait."""
        try:
            super().run_application()
        except (gevent.Timeout, gevent.GreenletExit):
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            raise

    def log_error(self, text: str, *args: object) -> None:
        """Log what is wrong with a request."""
        self._warn(text % args)

    def _handle_client_error(self, error: Exception) -> Any:
        # Of other classes, gevent writes the traceback to the standard error.
        refused = error if isinstance(error, ValueError) else ValueError(error)
        return super()._handle_client_error(refused)  # type: ignore[misc]

    def handle_error(self, kind: Any, error: Any, trace: Any) -> None:
        """Answer that a page failed, unless its time is over, or another client needs the room."""
        if isinstance(error, (gevent.Timeout, gevent.GreenletExit)):
            self.close_connection = True
        else:
            super().handle_error(kind, error, trace)

    def _log_error(self, _kind: Any, error: Any, _trace: Any) -> None:
        self._report(lambda: f"--metrics: {self.path} failed: {error!r}", error)


class PageServer(WSGIServer):
    """Serves `Pages`; a client with errors, or a slow one, does not delay other clients.

    Parameters
    ----------
    address : tuple of str and int
        The host and the port.
    pages : callable
        The WSGI application.
    """

    handler_class = _Exchange

    #: Connections at a time without a complete request, and as many with one. Once there are so
    #: many, the oldest ends.
    max_connections = 100

    #: Seconds that a connection may take.
    patience = 10.0

    _warn_closed = LimitedWarning(log, "--metrics: a connection %s")

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        # Clients decide how many requests they send, and would fill a log of them.
        super().__init__(address, pages, log=None, spawn=Pool(2 * self.max_connections))
        #: The greenlets of connections that have not sent their request yet, oldest first.
        self.idle: dict[Any, None] = {}
        #: Those of the others, whose clients may not read the answer.
        self.answered: dict[Any, None] = {}

    def handle(self, *connection: Any) -> None:
        """Serve one connection."""
        self.add_to(self.idle)
        try:
            self._serve(*connection)
        finally:
            for each in self.idle, self.answered:
                each.pop(gevent.getcurrent(), None)

    def add_to(self, greenlets: dict[Any, None]) -> None:
        """Add this greenlet, and end the oldest of too many."""
        greenlets[gevent.getcurrent()] = None
        if len(greenlets) >= self.max_connections:
            oldest = next(iter(greenlets))
            greenlets.pop(oldest)
            without = "without a request" if greenlets is self.idle else "that is not read"
            self._warn_closed(f"{without} is closed: {self.max_connections} are open")
            oldest.kill(block=False)

    def _serve(self, *connection: Any) -> None:
        patience = gevent.Timeout(self.patience, False)  # type: ignore[arg-type]
        with patience, contextlib.suppress(OSError):  # the client has gone
            super().handle(*connection)
