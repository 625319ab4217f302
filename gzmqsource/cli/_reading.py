"""The numbers that a running server reports over HTTP, as `top` and `doctor` read them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, ProxyHandler, Request, build_opener

import click
import gevent

from gzmqsource.cli._numbers import port_of

#: The most seconds that a server may take to reply.
_PATIENCE = 5.0

#: The most bytes of a reply: those of some 100,000 sources.
_MOST = 1 << 27

#: The first byte of a ZeroMQ socket, which sends it at once, and then waits for a peer to do so.
_ZMTP = b"\xff"

#: The names of this machine for itself, for which a proxy would be another one.
_HERE = ("127.0.0.1", "::1", "localhost")

_Labels = tuple[str, ...]
_Numbers = dict[str, float]


@dataclass(frozen=True)
class Process:
    """The numbers of one process of a server."""

    #: The numbers of each source, by its type and endpoint; drops are added up.
    sources: dict[_Labels, _Numbers] = field(default_factory=lambda: defaultdict(dict))
    #: The drops of each source, by the reason.
    drops: dict[_Labels, _Numbers] = field(default_factory=lambda: defaultdict(dict))
    #: How many ticks of the hub were late by at most a number of seconds, by that number.
    lateness: dict[float, float] = field(default_factory=dict)
    #: The numbers that are of the process as a whole.
    own: _Numbers = field(default_factory=dict)
    #: Whether the last reload failed, by what was reloaded.
    reload_failed: _Numbers = field(default_factory=dict)
    #: The versions of a server, by the name of the package.
    build: dict[str, str] = field(default_factory=dict)

    def total(self, name: str) -> float | None:
        """Return the sum of a number over all sources; None if none has it."""
        found = [numbers[name] for numbers in self.sources.values() if name in numbers]
        return sum(found) if found else None


@dataclass(frozen=True)
class Reading:
    """The numbers of a server at one moment."""

    #: When they were read, in seconds of the monotonic clock.
    taken: float
    #: The processes by their names: that which answers has none, its workers have theirs.
    processes: dict[str, Process] = field(default_factory=lambda: defaultdict(Process))

    @classmethod
    def of(cls, text: str) -> Reading:
        """Parse the numbers of sources from a server's reply.

        Raises
        ------
        ValueError
            It is something else.
        """
        from prometheus_client.parser import text_string_to_metric_families

        reading = cls(time.monotonic())
        is_ours = False
        try:
            for family in text_string_to_metric_families(text):
                # A collector has families before it has a source.
                is_ours = is_ours or family.name.startswith("gzmqsource_")
                for sample in family.samples:
                    reading._add(sample)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"it is not a page of metrics: {error!r:.100}") from error
        if not is_ours:
            raise ValueError("it has none of them")
        return reading

    @property
    def main(self) -> Process:
        """The process that answers."""
        return self.processes[""]

    def _add(self, sample: Any) -> None:
        name = sample.name.removeprefix("gzmqsource_")
        labels, value = sample.labels, float(sample.value)
        process = self.processes[labels.get("worker", "")]
        if name == "hub_lateness_seconds_bucket":
            process.lateness[float(labels["le"])] = value
        elif name == "build_info":
            process.build.update(labels)
        elif name == "reload_failed":
            process.reload_failed[labels["what"]] = value
        elif name in ("ready", "pid", "process_start_time_seconds", "worker_metrics_missed_total"):
            process.own[name] = value
        elif name != sample.name and "endpoint" in labels:
            source = (labels["type"], labels["endpoint"])
            numbers = process.sources[source]
            if not name.endswith("_bucket"):
                numbers[name] = numbers.get(name, 0.0) + value
            if "reason" in labels:
                drops = process.drops[source]
                drops[labels["reason"]] = drops.get(labels["reason"], 0.0) + value


class ServerAddress(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Where a server has its pages: a port of this machine, or a URL."""

    name = "PORT|URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it is."""
        url = str(value)
        try:
            parts = urlsplit(url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            # `urlsplit` drops some characters that no URL has, and http.client refuses the others.
            is_url = is_url and url.isprintable() and " " not in url
        except ValueError:  # of a port, or of an address of IPv6
            is_url = False
        if not is_url and port_of(url) is None:
            self.fail(
                f"{url!r} is neither a port, which is a number from 1 to 65535, nor a URL, as "
                "http://host:9100.",
                param,
                ctx,
            )
        return url


def address_of(url: str, path: str) -> str:
    """Return the URL of a page of a server, for which the user has given a port or a URL."""
    if url.isdecimal():
        url = f"http://127.0.0.1:{url}"
    parts = urlsplit(url)
    return url if parts.path.strip("/") or not parts.netloc else f"{url.rstrip('/')}{path}"


class NotMetrics(click.ClickException):
    """A page is not one of gzmqsource's metrics."""


def read(url: str) -> Reading:
    """Read the numbers of a server.

    Raises
    ------
    NotMetrics
        It answers with something else.
    click.ClickException
        It does not answer.
    """
    status, text = get(url)
    try:
        if status != 200:
            raise ValueError(f"it answers with status {status}")
        return Reading.of(text)
    except ValueError as error:
        text = f"{url} does not answer with gzmqsource's metrics: {error}"
        raise NotMetrics(text) from error


def get(url: str) -> tuple[int, str]:
    """Return the status and the text of a page, whatever the status is.

    Raises
    ------
    click.ClickException
        There is no answer.
    """
    try:
        # The limit of the socket begins again with each byte that comes.
        with gevent.Timeout(_PATIENCE, _too_late()):
            return _answer_of(url)
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(
            f"{url}: {getattr(reason, 'strerror', None) or reason}"
        ) from error


def _answer_of(url: str) -> tuple[int, str]:
    direct = [ProxyHandler({})] if urlsplit(url).hostname in _HERE else []
    try:
        with build_opener(_Handler, *direct).open(url, timeout=_PATIENCE) as answer:
            return 200, _text_of(answer)
    except HTTPError as error:
        with error:
            return error.code, _text_of(error)


def _too_late() -> ValueError:
    return ValueError(f"its answer takes longer than {_PATIENCE:g} s")


class _Response(HTTPResponse):
    """An answer, unless the first byte is that of a ZeroMQ socket, which ends no line."""

    def begin(self) -> None:
        """Read the head of the answer."""
        if self.fp.peek(1)[:1] == _ZMTP:
            raise ValueError(
                "this is a ZeroMQ socket, not a metrics server: use the port of `serve --metrics`"
            )
        super().begin()


class _Connection(HTTPConnection):
    response_class = _Response


class _Handler(HTTPHandler):
    def http_open(self, request: Request) -> HTTPResponse:
        return self.do_open(_Connection, request)


def _text_of(answer: Any) -> str:
    text = bytearray()
    until = time.monotonic() + _PATIENCE
    while part := answer.read1(1 << 20):
        text += part
        if len(text) > _MOST:
            raise ValueError(f"it answers with more than {_MOST} bytes")
        if time.monotonic() > until:
            raise _too_late()
    return text.decode()


def increase(before: _Numbers, now: _Numbers, name: str) -> float:
    """Return the increase of a counter; its whole value if the server was restarted."""
    value, last = now.get(name, 0.0), before.get(name, 0.0)
    return value - last if value >= last else value


def quantile(before: dict[float, float], now: dict[float, float], part: float) -> float | None:
    """Return the bound of a quantile of what was added to a histogram.

    It is infinite if the quantile is above all bounds, and None if nothing was added, or there are
    no bounds.
    """
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(now.items())}
    total = max(counts.values(), default=0.0)
    if not total > 0 or len(counts) < 2:
        return None
    return next((bound for bound, count in counts.items() if count >= part * total), float("inf"))


def milliseconds(bound: float, lateness: dict[float, float]) -> str:
    """Return a quantile of a histogram of seconds as text, in milliseconds."""
    if bound == float("inf"):
        return f"more than {1000 * sorted(lateness)[-2]:g} ms"
    return f"at most {1000 * bound:g} ms"
