"""``top``: the sources of a running server, or its workers, from its metrics."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable
from contextlib import nullcontext

import click
import gevent
import gevent.monkey
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gzmqsource.cli._layout import fitted, width_of
from gzmqsource.cli._live import ForegroundLive, LiveConsole, has_foreground
from gzmqsource.cli._numbers import Seconds, Whole
from gzmqsource.cli._reading import (
    Process,
    Reading,
    ServerAddress,
    address_of,
    increase,
    milliseconds,
    quantile,
    read,
)
from gzmqsource.cli._text import printable
from gzmqsource.cli._work import Work

#: The traffic of a process, by the first of these numbers that it has: a server counts requests,
#: any other process counts messages.
_RECEIVED = ("broker_requests_total", "responder_requests_total", "received_messages_total")
_SENT = ("broker_replies_total", "responder_replies_total", "sent_messages_total")

#: The requests that run, and those that wait.
_RUNNING, _WAITING = (
    ("broker_running", "responder_running"),
    ("broker_waiting", "responder_waiting"),
)

#: The numbers of a broker that are shown even if they are zero.
_ALWAYS = ("waiting", "running", "workers", "slots")


@click.command()
@click.argument("url", metavar="PORT|URL", type=ServerAddress())
@click.option(
    "--interval",
    type=Seconds(0.05),
    default=1.0,
    show_default=True,
    help="Seconds between two updates.",
)
@click.option("--count", type=Whole(1), help="Stop after this many tables.")
def top(url: str, interval: float, count: int | None) -> None:
    """Show the sources of a running server, or its workers, live.

    The table has the rates, the messages that are held and queued, the age of the oldest one, the
    drops, and the time of a handler in milliseconds. It is read from the metrics of `serve
    --metrics PORT`, or of any program with a SourceCollector. PORT is a port of this machine.

    \b
    Example:
      gzmqsource top 9100
    """
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            "top needs a package: pip install 'gzmqsource[metrics]'"
        ) from error
    gevent.monkey.patch_socket()
    Work().run(_look, address_of(url, "/metrics"), interval, count).tell()


def _look(url: str, interval: float, count: int | None) -> None:
    """Show a table again and again: in its place on a terminal, one after another in a pipe."""
    console = LiveConsole()
    changes = console.is_terminal and not console.is_dumb_terminal
    size = console.size
    before = read(url)
    with ForegroundLive(console) if changes else nullcontext() as live:
        for _ in itertools.count() if count is None else range(count):
            gevent.sleep(interval)
            table: Table | Text
            try:
                now = read(url)
            except click.ClickException as error:
                # A server that is restarted replies again.
                table = Text(printable(error.message))
            else:
                table = _table(before, now)
                before = now
            if live is None:
                _append(console, table)
                continue
            if size != console.size:
                # The terminal has moved the lines of the last table.
                size = console.size
                console.clear()
            live.show(_fitted(console, table))
    if live is not None and not has_foreground(console):
        _append(console, table)  # it was never seen


def _fitted(console: Console, table: Table | Text) -> RenderableType:
    return fitted(console, table) if isinstance(table, Table) else table


def _append(console: Console, table: Table | Text) -> None:
    """Write a table below the last one: as wide as it is into a pipe, where it is read by lines."""
    width = shutil.get_terminal_size().columns
    if not console.is_terminal and isinstance(table, Table):
        width = width_of(console, table)
    console.width = width
    with console.capture() as written:
        console.print(_fitted(console, table))
    click.echo(written.get(), nl=False)


def _table(before: Reading, now: Reading) -> Table:
    has_workers = len(now.processes) > 1 or now.main.total("broker_workers") is not None
    return (_table_of_processes if has_workers else _table_of_sources)(before, now)


def _table_of_sources(before: Reading, now: Reading) -> Table:
    late = quantile(before.main.lateness, now.main.lateness, 0.99)
    caption = (
        "no lateness of the hub reported"
        if late is None
        else f"99 % of the hub's ticks: {milliseconds(late, now.main.lateness)} late"
    )
    table = Table(caption=caption, caption_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("type", "endpoint"):
        table.add_column(name, no_wrap=True)
    for name in ("in/s", "out/s", "held", "queued", "oldest", "dropped", "errors", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for labels, numbers in sorted(now.main.sources.items()):
        table.add_row(
            *(Text(printable(label)) for label in labels),
            *_row(before.main.sources.get(labels, {}), numbers, now.taken - before.taken),
        )
    return table


def _row(before: dict[str, float], now: dict[str, float], seconds: float) -> Iterable[str]:
    yield f"{increase(before, now, 'received_messages_total') / seconds:,.0f}"
    yield f"{increase(before, now, 'sent_messages_total') / seconds:,.0f}"
    yield f"{now.get('in_hand_messages', 0):,.0f}"
    yield f"{now.get('outbox_messages', 0):,.0f}"
    yield f"{now.get('outbox_oldest_seconds', 0):,.1f}s"
    yield f"{now.get('dropped_messages_total', 0):,.0f}"
    yield f"{now.get('errors_total', 0):,.0f}"
    yield _handler_time(before, now)


def _table_of_processes(before: Reading, now: Reading) -> Table:
    """Return a table of the master and its workers, as a rule within 80 columns."""
    caption = _queue(now.main)
    table = Table(caption=caption, caption_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("process", no_wrap=True)
    for name in ("state", "in/s", "out/s", "running", "waiting", "dropped", "errors", "ms", "late"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, process in sorted(now.processes.items(), key=lambda each: _order(each[0])):
        earlier = before.processes.get(name, Process())
        table.add_row(
            Text(printable(name) or "master"),
            *_row_of_process(earlier, process, now.taken - before.taken),
        )
    return table


def _order(name: str) -> tuple[int, str]:
    """Return what sorts workers by number: 2 before 10."""
    return len(name), name


def _row_of_process(before: Process, now: Process, seconds: float) -> Iterable[str]:
    totals = {name for numbers in now.sources.values() for name in numbers}
    earlier = {name: before.total(name) or 0.0 for name in totals}
    later = {name: now.total(name) or 0.0 for name in totals}

    def first(names: Iterable[str]) -> str | None:
        return next((name for name in names if name in later), None)

    ready = now.own.get("ready")
    yield "-" if ready is None else "ready" if ready else "not"
    for names in _RECEIVED, _SENT:
        name = first(names)
        yield "-" if name is None else _short(increase(earlier, later, name) / seconds)
    for gauges in _RUNNING, _WAITING:
        name = first(gauges)
        yield "-" if name is None else _short(later[name])
    yield _short(later.get("dropped_messages_total", 0.0))
    yield _short(later.get("errors_total", 0.0))
    yield _handler_time(earlier, later)
    late = quantile(before.lateness, now.lateness, 0.99)
    yield "-" if late is None else f"{1000 * late:g}"


def _queue(master: Process) -> Text | None:
    """Return the numbers of a broker's queue and workers; most of them only if they are not 0."""
    names = sorted({name for numbers in master.sources.values() for name in numbers})
    told = [
        (name.removeprefix("broker_").removesuffix("_total"), master.total(name) or 0.0)
        for name in names
        if name.startswith("broker_")
    ]
    shown = [f"{name} {_short(value)}" for name, value in told if value or name in _ALWAYS]
    # Also a name is text of the server's: markup for rich, as a string.
    text = printable(", ".join(shown).replace("_", " "))
    return Text(text, style="table.caption") if text else None


def _short(value: float, small: str = ",.0f") -> str:
    """Return a number in at most six characters; *small* is the format of one below 1000."""
    if value < 999.5:
        return f"{value:{small}}"
    for unit in ("", "k", "M", "G"):
        if value < 99_999.5:
            return f"{value:,.0f}{unit}"
        value /= 1000
    return f"{value:.0e}"


def _handler_time(before: dict[str, float], now: dict[str, float]) -> str:
    calls = increase(before, now, "handler_seconds_count")
    took = increase(before, now, "handler_seconds_sum")
    return _short(1000 * took / calls, ".2f") if calls else "-"
