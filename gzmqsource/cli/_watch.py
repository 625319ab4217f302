"""``proxy`` and ``monitor``: passing messages, and watching connections."""

from __future__ import annotations

import contextlib
import itertools
import signal
from typing import Any

import click
import gevent
import zmq
from gevent.event import Event

from gzmqsource._socket.addresses import check_endpoint, explained
from gzmqsource._source.opening import guarded
from gzmqsource.cli._security import security_options
from gzmqsource.cli._signals import on_signals
from gzmqsource.cli._sockets import (
    RECEIVING,
    SENDING,
    open_source,
    socket_options,
    telling_errors,
)
from gzmqsource.cli._text import printable
from gzmqsource.cli._work import Work
from gzmqsource.monitor import Monitor
from gzmqsource.proxy import Proxy

#: The most seconds that a proxy takes to send what it has received, after a signal to stop.
_LAST_SECONDS = 30

#: The types of the front and the back socket, by what passes.
_PATTERNS = {
    "requests": (zmq.ROUTER, zmq.DEALER),
    "publications": (zmq.XSUB, zmq.XPUB),
    "jobs": (zmq.PULL, zmq.PUSH),
}


@click.command()
@click.argument("front")
@click.argument("back")
@click.option(
    "--pattern",
    type=click.Choice(list(_PATTERNS)),
    default="requests",
    show_default=True,
    help="The kind of messages, which decides on the types of the sockets.",
)
@security_options
def proxy(front: str, back: str, pattern: str, security: dict[str, Any]) -> None:
    """Pass messages between the endpoints FRONT and BACK.

    Clients, publishers or senders connect to FRONT; servers, subscribers or receivers to BACK.
    After SIGTERM or SIGINT it receives no more messages, sends the ones that it has, for half a
    minute at most, and exits.

    \b
    Example:
      gzmqsource proxy \\
        tcp://0.0.0.0:5557 tcp://0.0.0.0:5558
    """
    told = Event()
    # Before a socket is bound: a signal would lose what peers have sent to it by then.
    on_signals(told.set, signal.SIGTERM, signal.SIGINT)
    context: zmq.Context[Any] = zmq.Context.instance()
    sockets = [context.socket(kind) for kind in _PATTERNS[pattern]]
    for socket in sockets:
        socket.linger = _LAST_SECONDS * 1000
        for name, value in guarded(security).items():
            setattr(socket, name, value)
    try:
        for socket, endpoint in zip(sockets, (front, back), strict=True):
            with telling_errors({"bind": [endpoint], "connect": []}):
                check_endpoint(endpoint, "bind")
                try:
                    socket.bind(endpoint)
                except zmq.ZMQError as error:
                    raise explained(error, socket, "bind", endpoint) from None
    except click.ClickException:
        for socket in sockets:
            socket.close(0)
        raise
    with Proxy(*sockets):
        for socket in sockets:
            click.echo(f"{socket.get(zmq.LAST_ENDPOINT).decode()} is served", err=True)
        told.wait()
    # This returns once nothing is left to send.
    gevent.get_hub().threadpool.apply(context.term)


@click.command()
@socket_options("dealer", sorted({*SENDING, *RECEIVING, "req", "rep"}))
@click.option("--count", type=click.IntRange(1), help="Stop after this many events.")
def monitor(socket: dict[str, Any], kind: str, count: int | None) -> None:
    """Report what happens to a socket's connections.

    The events are those of zmq_socket_monitor(3): connections are made, shake hands, fail, and are
    lost.

    \b
    Example:
      gzmqsource monitor \\
        --connect tcp://127.0.0.1:5557
    """
    # The monitor comes first, or it would miss the first events.
    endpoints = {name: socket.pop(name) for name in ("bind", "connect")}
    source = open_source(kind, {"bind": (), "connect": (), **socket}, linger=0)
    with contextlib.closing(source), Monitor(source) as events:
        with telling_errors(endpoints):
            for endpoint in endpoints["bind"]:
                source.socket.bind(endpoint)
            for endpoint in endpoints["connect"]:
                source.socket.connect(endpoint)
        work = Work().run(_tell_all, events, count)
    work.tell()


def _tell_all(events: Monitor, count: int | None) -> None:
    for event in itertools.islice(events, count):
        click.echo(printable(str(event)))
