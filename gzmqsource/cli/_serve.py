"""``serve``: a ready-made greenlet server."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import click
import gevent
import gevent.monkey
import zmq
from rich.live import Live

from gzmqsource._source.handlers import check_handler
from gzmqsource._source.source import Source
from gzmqsource.cli._handler import Handler
from gzmqsource.cli._log import console, is_live
from gzmqsource.cli._numbers import Seconds
from gzmqsource.cli._operations import Operations, operating_options
from gzmqsource.cli._signals import on_hangup, on_signals
from gzmqsource.cli._sockets import RECEIVING, socket_options, telling_errors, type_of
from gzmqsource.workers import Responder
from gzmqsource.workers.responder import open_source

_log = logging.getLogger("gzmqsource.serve")

#: Seconds between two status lines, on a terminal and in a log.
_LIVE, _LOGGED = 0.5, 60.0


@click.command()
@click.argument("handler", metavar="MODULE:FUNCTION")
@socket_options("rep", ("rep", *RECEIVING))
@click.option(
    "--spawn",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="The most messages to handle at once.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(0),
    default=Responder.default_waiting,
    show_default=True,
    help="The most requests that wait beside those. Further ones are refused, or, for clients that "
    "cannot be told so, not read.",
)
@click.option(
    "--dead-after",
    type=Seconds(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds of silence after which a client may take this server for dead. It says four "
    "times as often that it is not.",
)
@click.option(
    "--timeout",
    type=Seconds(0, min_open=True),
    help="Seconds after which the handler of a message is interrupted.",
)
@click.option(
    "--stop-timeout",
    type=Seconds(0),
    default=30.0,
    show_default=True,
    help="Seconds to finish accepted messages, after a signal to stop.",
)
@click.option(
    "--outbox",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="The most messages that wait for one peer.",
)
@click.option(
    "--outbox-bytes",
    type=click.IntRange(1),
    default=1 << 24,
    show_default=True,
    help="The most bytes of those.",
)
@click.option(
    "--outbox-total",
    type=click.IntRange(1),
    default=Source.max_outbox_bytes,
    show_default=True,
    help="The most bytes that wait for all peers.",
)
@click.option(
    "--max-message",
    type=click.IntRange(1),
    metavar="BYTES",
    help="The most bytes of a message. One with more is dropped; for a frame with more, libzmq "
    "disconnects the peer.",
)
@click.option(
    "--max-frames",
    type=click.IntRange(1),
    default=Source.max_frames,
    show_default=True,
    help="The most frames of a message; one with more is dropped.",
)
@operating_options
@click.option(
    "--patch/--no-patch",
    default=True,
    show_default=True,
    is_eager=True,
    expose_value=False,
    callback=lambda _context, _option, patch: gevent.monkey.patch_all() if patch else None,
    help="Whether to make blocking calls of the handler's modules cooperative first.",
)
def serve(
    handler: str,
    socket: dict[str, Any],
    kind: str,
    spawn: int,
    max_waiting: int,
    dead_after: float,
    timeout: float | None,
    stop_timeout: float,
    operations: Operations,
    outbox_total: int,
    max_message: int | None,
    max_frames: int,
    **options: Any,
) -> None:
    """Call MODULE:FUNCTION with each message, in greenlets.

    With --type rep, router or dealer, the function's result is the reply, to any REQ or DEALER.
    SIGTERM and SIGINT stop the server once it has finished what it has accepted; its clients are
    told to ask others. SIGHUP reloads the module.

    \b
    Example:
      gzmqsource serve hello:answer --bind tcp://127.0.0.1:5557
    """
    served = Handler(handler, timeout)
    limits = {
        "max_outbox_bytes": outbox_total,
        "max_message_bytes": max_message,
        "max_frames": max_frames,
    }
    if max_message is not None:
        options["maxmsgsize"] = max_message
    asked = {"max_waiting": max_waiting, "dead_after": dead_after}
    told = gevent.event.Event()
    # Before the socket is bound: a signal would lose what peers have sent to it by then.
    on_signals(told.set, signal.SIGTERM, signal.SIGINT)
    with operations:
        server, source = _server(served, socket | options, kind, spawn, limits, asked)
        on_hangup(operations.reloading()(served.reload))
        server.start()
        _log.info("%s: pid %d", source, os.getpid())
        operations.serving(str(source))
        showing = gevent.spawn(_show, source, operations)
        told.wait()
        showing.kill()
        operations.stopping()
        given_up: Any = server.stop(stop_timeout)
    _log.info("stopped")
    if given_up:
        raise click.ClickException(f"not finished within {stop_timeout:g} s: {given_up}")


def _server(
    handler: Handler,
    socket: dict[str, Any],
    kind: str,
    spawn: int,
    limits: dict[str, Any],
    asked: dict[str, Any],
) -> tuple[Any, Source]:
    """Make the server, and return it with its source; *asked* is for one that answers requests."""
    limited: type[Source] = type("Source", (Source,), limits)
    with telling_errors(socket):
        try:
            if kind not in ("rep", "router", "dealer"):
                check_handler(handler.function)
                source = limited.open(type_of(kind), handler, spawn=spawn, **socket)
                return source, source
            if kind == "dealer":
                source = limited.open(zmq.DEALER, **socket)
            else:
                source = open_source(limited, **socket)
            return Responder(source, handler, spawn, **asked), source
        except (TypeError, ValueError) as error:
            raise click.ClickException(str(error)) from error


def _show(source: Source, operations: Operations) -> None:
    """Show the server's status: live on a terminal, in the log and to systemd otherwise."""
    if is_live():
        with Live(console=console(), auto_refresh=False, transient=True) as live:
            for line in _lines(source, _LIVE):
                live.update(line, refresh=True)
    else:
        for line in _lines(source, _LOGGED):
            _log.info("%s", line)
            operations.status(line)


def _lines(source: Source, interval: float) -> Iterator[str]:
    received = 0
    while True:
        gevent.sleep(interval)
        stats = source.stats()
        rate, received = (stats.received - received) / interval, stats.received
        yield (
            f"in {stats.received}, out {stats.sent}, {rate:.0f}/s, "
            f"queued {stats.outbox_depth}, errors {stats.errors}"
        )
