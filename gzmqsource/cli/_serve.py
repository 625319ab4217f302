"""``serve``: a ready-made greenlet server."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, cast

import click
import gevent
import gevent.monkey
import zmq

from gzmqsource._source.handlers import check_handler
from gzmqsource._source.source import Source
from gzmqsource.cli._consumer import Consumer
from gzmqsource.cli._early import discard_closed_output
from gzmqsource.cli._fleet.options import FleetOptions, fleet_options
from gzmqsource.cli._handler import Handler
from gzmqsource.cli._loading import parts_of
from gzmqsource.cli._log import is_live
from gzmqsource.cli._numbers import MOST_BYTES, Seconds, Whole
from gzmqsource.cli._operations import Operations, operating_options, rates
from gzmqsource.cli._signals import (
    Interrupted,
    StopOrders,
    stop_accepted,
    unfinished,
)
from gzmqsource.cli._sockets import RECEIVING, socket_options, telling_errors, type_of
from gzmqsource.monkey import patch_zmq
from gzmqsource.workers import Responder
from gzmqsource.workers.responder import open_source

_log = logging.getLogger("gzmqsource.serve")

#: Seconds between two status lines, on a terminal and in a log.
_LIVE, _LOGGED = 0.5, 60.0


def _patching(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the blocking calls of handlers cooperative, before anything makes a context.

    Those of zmq are, too, unless the environment says otherwise. A master has no handlers.
    """

    @functools.wraps(function)
    def call(patch: bool, **rest: Any) -> Any:
        if patch and rest["workers"] is None:
            with _plugins_found_once():
                gevent.monkey.patch_all()
            if not os.environ.get("GZMQSOURCE_PATCH"):
                patch_zmq()
        return function(**rest)

    return click.option(
        "--patch/--no-patch",
        default=True,
        show_default=True,
        help="Whether to patch blocking calls with gevent before the module is imported.",
    )(call)


@click.command()
@_patching
@click.argument("handler", metavar="MODULE:FUNCTION")
@socket_options("rep", ("rep", *RECEIVING))
@click.option(
    "--spawn",
    type=Whole(1),
    default=100,
    show_default=True,
    help="The maximum number of messages that are handled at once.",
)
@click.option(
    "--max-waiting",
    type=Whole(0),
    default=Responder.default_waiting,
    show_default=True,
    help="The maximum number of requests that wait for a free handler. Further requests are "
    "refused, or not read if the client does not know refusals.",
)
@click.option(
    "--dead-after",
    type=Seconds(0.02),
    default=1.0,
    show_default=True,
    help="Seconds of silence after which clients consider this server dead. It sends four signs of "
    "life in that time.",
)
@click.option(
    "--timeout",
    type=Seconds(0, min_open=True),
    help="Seconds after which a call of the handler is interrupted.",
)
@click.option(
    "--stop-timeout",
    type=Seconds(0),
    default=30.0,
    show_default=True,
    help="Seconds to finish accepted messages after a signal to stop.",
)
@click.option(
    "--outbox",
    type=Whole(1),
    default=1000,
    show_default=True,
    help="The maximum number of messages that wait for one peer.",
)
@click.option(
    "--outbox-bytes",
    type=Whole(1, MOST_BYTES),
    default=1 << 24,
    show_default=True,
    help="The maximum number of bytes that wait for one peer.",
)
@click.option(
    "--outbox-total",
    type=Whole(1, MOST_BYTES),
    default=Source.max_outbox_bytes,
    show_default=True,
    help="The maximum number of bytes that wait for all peers.",
)
@click.option(
    "--max-message",
    type=Whole(1, MOST_BYTES),
    metavar="BYTES",
    help="The maximum size of a message. A larger message is dropped. libzmq disconnects a peer "
    "that sends a larger frame.",
)
@click.option(
    "--max-frames",
    type=Whole(1),
    default=Source.max_frames,
    show_default=True,
    help="The maximum number of frames of a message. A message with more is dropped.",
)
@operating_options
@fleet_options
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
    fleet: FleetOptions,
    **options: Any,
) -> None:
    """Call a Python function with each message, in greenlets.

    The module is imported from the current directory or from what is installed: hello:answer is the
    function answer in hello.py. With --type rep, router or dealer, the result of the function is
    the reply to any REQ or DEALER client.

    SIGTERM and SIGINT stop the server after it has finished the messages that it has accepted. Its
    clients are told to use other servers. SIGHUP reloads the module. With --workers, SIGHUP
    replaces the workers one by one, SIGTTIN adds a worker, and SIGTTOU removes one.

    \b
    Example:
      gzmqsource serve hello:answer \\
        --bind tcp://127.0.0.1:5557
    """
    discard_closed_output()
    limited = _limited(outbox_total, max_message, max_frames)
    if max_message is not None:
        options["maxmsgsize"] = max_message
    asked = {"max_waiting": max_waiting, "dead_after": dead_after}
    if fleet.workers is not None:
        from gzmqsource.cli._fleet.master import serve_with_workers

        parts_of(handler)
        open_front = functools.partial(_open_front, limited, socket | options)
        shown = functools.partial(_shown, operations)
        serve_with_workers(open_front, fleet, asked, stop_timeout, operations, shown)
        return
    orders = fleet.orders(stop_timeout)
    served = fleet.load(handler, timeout, orders)
    served.exited = orders.stop_now
    # Before the socket is bound: a signal would lose the messages that it has received by then.
    orders.listen()
    with operations:
        if fleet.join:
            server, source = _join(fleet.join, served, socket, spawn, dead_after)
            operations.not_ready = lambda: None if server.is_member else "no broker answers"
            fleet.tell_numbers(orders, operations.not_ready)
        else:
            server, source = _server(served, socket | options, kind, spawn, limited, asked)
        given_up = _run(server, source, served, orders, operations)
    orders.stopped(given_up)
    if served.exit is not None:
        raise served.exit


def _limited(outbox_total: int, max_message: int | None, max_frames: int) -> type[Source]:
    limits = {
        "max_outbox_bytes": outbox_total,
        "max_message_bytes": max_message,
        "max_frames": max_frames,
    }
    return type("Source", (Source,), limits)


def _run(
    server: Any, source: Source, served: Handler, orders: StopOrders, operations: Operations
) -> Any:
    """Serve until a signal or the master asks to stop; return the work that was given up."""
    is_consumer = isinstance(server, Consumer)
    pending = server.pending if is_consumer else functools.partial(_pending, server)
    stop = server.stop if is_consumer else functools.partial(stop_accepted, server)
    server.start()
    lines = functools.partial(_lines, source) if is_consumer else functools.partial(_asked, server)
    shown = _shown(operations, source, lines)
    with shown if orders.is_alone else contextlib.nullcontext():
        orders.ready(server, functools.partial(operations.reload, served.reload))
        gevent.wait(cast(Any, [orders.told, source]), count=1)
    if source.closed:  # its context was terminated, for example
        raise click.ClickException(f"{source}: the socket is lost, and the log says how")
    try:
        return orders.finish(stop, pending)
    except Interrupted:
        server.close()
        raise


def _pending(server: Responder) -> str | None:
    stats = server.stats()
    return unfinished(stats.running, stats.waiting)


@contextlib.contextmanager
def _plugins_found_once() -> Iterator[None]:
    """Let gevent look for its plugins only once.

    When it patches, it looks 25 times, and each time in all packages that are installed: with 180
    of them that is half of a worker's start.
    """
    from importlib import metadata  # as gevent does, only when it patches

    found, entry_points = metadata.entry_points(), metadata.entry_points
    module: Any = metadata
    module.entry_points = found.select
    try:
        yield
    finally:
        module.entry_points = entry_points


def _server(
    handler: Handler,
    socket: dict[str, Any],
    kind: str,
    spawn: int,
    limited: type[Source],
    asked: dict[str, Any],
) -> tuple[Any, Source]:
    """Make the server, and return it with its source; *asked* is for one that answers requests."""
    with telling_errors():
        if kind not in ("rep", "router", "dealer"):
            check_handler(handler.function)
            opening = functools.partial(limited.open, type_of(kind), spawn=spawn, **socket)
            consumer = Consumer(handler, opening)
            return consumer, consumer.source
        if kind == "dealer":
            source = limited.open(zmq.DEALER, **socket)
        else:
            source = open_source(limited, **socket)
        return Responder(source, handler, spawn, **asked), source


def _open_front(limited: type[Source], socket: dict[str, Any]) -> Source:
    with telling_errors():
        return open_source(limited, **socket)


def _join(
    brokers: tuple[str, ...],
    handler: Handler,
    socket: dict[str, Any],
    spawn: int,
    dead_after: float,
) -> tuple[Any, Source]:
    options = {name: value for name, value in socket.items() if name not in ("bind", "connect")}
    with telling_errors():
        worker = Responder.join(brokers, handler, spawn, dead_after=dead_after, **options)
    return worker, worker.source


@contextlib.contextmanager
def _shown(
    operations: Operations, source: Source, lines: Callable[[float], Iterator[str]]
) -> Iterator[None]:
    """Report the source and the process that serves it; show the status while the block runs."""
    _log.info("%s: pid %d", source, os.getpid())
    operations.serving(str(source))
    showing = gevent.spawn(_show, operations, lines)
    try:
        yield
    finally:
        showing.kill()
        operations.stopping()


def _show(operations: Operations, lines: Callable[[float], Iterator[str]]) -> None:
    """Show the lines of a status: live on a terminal, in the log and to systemd otherwise."""
    if is_live():
        from gzmqsource.cli._live import ForegroundLive, console

        with ForegroundLive(console(), transient=True) as live:
            for line in lines(_LIVE):
                live.show(line)
    else:
        for line in lines(_LOGGED):
            _log.info("%s", line)
            operations.status(line)


def _asked(server: Responder, interval: float) -> Iterator[str]:
    """Yield the status of a server that answers requests, each *interval*."""
    for stats, rate in rates(server.stats, "replies", interval):
        yield (
            f"requests {stats.requests}, replies {stats.replies}, {rate:.0f}/s, "
            f"running {stats.running}, waiting {stats.waiting}, errors {stats.errors}"
        )


def _lines(source: Source, interval: float) -> Iterator[str]:
    """Yield the status of a server that only receives, each *interval*."""
    for stats, rate in rates(source.stats, "received", interval):
        yield (
            f"in {stats.received}, out {stats.sent}, {rate:.0f}/s, "
            f"queued {stats.outbox_depth}, errors {stats.errors}"
        )
