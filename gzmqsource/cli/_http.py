"""The pages of a server over HTTP: whether it lives, whether it is ready, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

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


class PageServer(WSGIServer):
    """Serves `Pages`; a client with errors, or a slow one, does not delay other clients.

    Parameters
    ----------
    address : tuple of str and int
        The host and the port.
    pages : callable
        The WSGI application.
    """

    #: Connections at a time. A further one waits for its turn.
    max_connections = 100

    #: Seconds that a connection may take.
    patience = 10.0

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        # Clients decide how many requests they send, and would fill a log of them.
        super().__init__(address, pages, log=None, error_log=None, spawn=Pool(self.max_connections))

    def handle(self, *connection: Any) -> None:
        """Serve one connection."""
        with gevent.Timeout(self.patience, False):  # type: ignore[arg-type]
            super().handle(*connection)
