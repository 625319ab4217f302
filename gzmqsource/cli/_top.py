"""``top``: the sources of a running server, from its metrics."""

from __future__ import annotations

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.request import urlopen

import click
import gevent
import gevent.monkey
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gzmqsource.cli._numbers import Seconds
from gzmqsource.cli._text import printable
from gzmqsource.cli._work import Work

#: The most seconds that a server may take to reply.
_PATIENCE = 5.0

#: The most bytes of a reply: those of some 100,000 sources.
_MOST = 1 << 27

#: The width of a table that goes into a pipe, in columns.
_WIDTH = 140

_Labels = tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """The numbers of a server at one moment."""

    #: When they were read, in seconds of the monotonic clock.
    taken: float
    #: The numbers of each source, by its type and endpoint; drops are added up.
    sources: dict[_Labels, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    #: How many ticks of the hub were late by at most a number of seconds, by that number.
    lateness: dict[float, float] = field(default_factory=dict)

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
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    reading._add(sample)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"these are no metrics of gzmqsource: {error!r:.100}") from error
        return reading

    def _add(self, sample: Any) -> None:
        name = sample.name.removeprefix("gzmqsource_")
        if name == "hub_lateness_seconds_bucket":
            self.lateness[float(sample.labels["le"])] = sample.value
        elif name != sample.name and "endpoint" in sample.labels:
            labels = (sample.labels["type"], sample.labels["endpoint"])
            numbers = self.sources[labels]
            if not name.endswith("_bucket"):
                numbers[name] = numbers.get(name, 0.0) + sample.value


@click.command()
@click.argument("url", metavar="PORT|URL")
@click.option(
    "--interval",
    type=Seconds(0.05),
    default=1.0,
    show_default=True,
    help="Seconds between two tables.",
)
@click.option("--count", type=click.IntRange(1), help="Stop after this many tables.")
def top(url: str, interval: float, count: int | None) -> None:
    """Show the sources of a running server, live.

    It shows what passes, what waits, what was dropped, and how late the hub is. It reads the
    metrics of `serve --metrics PORT`, or of any program with a SourceCollector. PORT is one of this
    machine.

    \b
    Example:
      gzmqsource top 9100
    """
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise click.ClickException("top needs more: pip install 'gzmqsource[metrics]'") from error
    gevent.monkey.patch_socket()
    if url.isdigit():
        url = f"http://127.0.0.1:{url}/metrics"
    Work().run(_look, url, interval, count).tell()


def _look(url: str, interval: float, count: int | None) -> None:
    """Show a table again and again: in its place on a terminal, one after another in a pipe."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    before = _read(url)
    with (
        Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live
    ):
        for _ in itertools.count() if count is None else range(count):
            gevent.sleep(interval)
            table: Table | Text
            try:
                now = _read(url)
            except click.ClickException as error:
                # A server that is restarted replies again.
                table = Text(printable(error.message))
            else:
                table = _table(before, now)
                before = now
            if live is not None:
                live.update(table, refresh=True)
                continue
            with console.capture() as written:
                console.print(table)
            click.echo(written.get(), nl=False)


def _read(url: str) -> Reading:
    try:
        with urlopen(url, timeout=_PATIENCE) as answer:
            text = answer.read(_MOST + 1)
        if len(text) > _MOST:
            raise ValueError(f"it answers with more than {_MOST} bytes")
        return Reading.of(text.decode())
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(
            f"{url}: {getattr(reason, 'strerror', None) or reason}"
        ) from error


def _table(before: Reading, now: Reading) -> Table:
    late = _quantile(before.lateness, now.lateness, 0.99)
    caption = (
        "no lateness of the hub reported"
        if late is None
        else f"99 % of the hub's ticks: {late} late"
    )
    table = Table(caption=caption, caption_justify="left", box=None)
    for name in ("type", "endpoint"):
        table.add_column(name, overflow="fold")
    for name in (
        "in/s",
        "out/s",
        "in hand",
        "queued",
        "oldest s",
        "dropped",
        "errors",
        "handler ms",
    ):
        table.add_column(name, justify="right")
    for labels, numbers in sorted(now.sources.items()):
        table.add_row(
            *(Text(printable(label)) for label in labels),
            *_row(before.sources.get(labels, {}), numbers, now.taken - before.taken),
        )
    return table


def _row(before: dict[str, float], now: dict[str, float], seconds: float) -> Iterable[str]:
    def more(name: str) -> float:
        """Return the increase of a counter; its whole value if the server was restarted."""
        value, last = now.get(name, 0.0), before.get(name, 0.0)
        return value - last if value >= last else value

    yield f"{more('received_messages_total') / seconds:,.0f}"
    yield f"{more('sent_messages_total') / seconds:,.0f}"
    yield f"{now.get('in_hand_messages', 0):,.0f}"
    yield f"{now.get('outbox_messages', 0):,.0f}"
    yield f"{now.get('outbox_oldest_seconds', 0):,.1f}"
    yield f"{now.get('dropped_messages_total', 0):,.0f}"
    yield f"{now.get('errors_total', 0):,.0f}"
    calls = more("handler_seconds_count")
    yield f"{1000 * more('handler_seconds_sum') / calls:,.2f}" if calls else "-"


def _quantile(before: dict[float, float], now: dict[float, float], part: float) -> str | None:
    """Return, as text, the bound of a quantile of what was added to a histogram."""
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(now.items())}
    total = max(counts.values(), default=0.0)
    if not total > 0:
        return None
    bounds = list(counts)
    bound = next((bound for bound, count in counts.items() if count >= part * total), bounds[-1])
    if bound == float("inf"):
        return f"more than {1000 * bounds[-2]:g} ms" if len(bounds) > 1 else None
    return f"at most {1000 * bound:g} ms"
