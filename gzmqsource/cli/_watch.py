"""``proxy`` and ``monitor``: passing messages, and watching connections."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import click
import gevent
import zmq

from gzmqsource._socket.addresses import check_endpoint, explained
from gzmqsource._source.opening import guarded
from gzmqsource.cli._events import as_json, as_line
from gzmqsource.cli._log import log
from gzmqsource.cli._numbers import Whole
from gzmqsource.cli._security import security_options
from gzmqsource.cli._signals import Told, finish
from gzmqsource.cli._sockets import (
    RECEIVING,
    SENDING,
    Endpoint,
    check_sides,
    ipv6_for,
    socket_options,
    telling_errors,
    watched_source,
)
from gzmqsource.cli._work import Work
from gzmqsource.monitor import Monitor, SocketEvent
from gzmqsource.proxy import Proxy

#: The most seconds that a proxy takes to pass on received messages after a signal to stop.
_LAST_SECONDS = 30

#: The types of the front and the back socket, by what passes.
_PATTERNS = {
    "requests": (zmq.ROUTER, zmq.DEALER),
    "publications": (zmq.XSUB, zmq.XPUB),
    "jobs": (zmq.PULL, zmq.PUSH),
}


@click.command()
@click.argument("front", type=Endpoint(binds=True))
@click.argument("back", type=Endpoint(binds=True))
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
    check_sides(front, back)
    told = Told()
    # Before a socket is bound: a signal would lose the messages that it has received by then.
    told.listen()
    context: zmq.Context[Any] = zmq.Context.instance()
    sockets = [context.socket(kind) for kind in _PATTERNS[pattern]]
    for socket in sockets:
        socket.linger = _LAST_SECONDS * 1000
        for name, value in guarded(security | ipv6_for(front, back)).items():
            setattr(socket, name, value)
    try:
        for socket, endpoint in zip(sockets, (front, back), strict=True):
            with telling_errors():
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
            log.info("%s is served", socket.get(zmq.LAST_ENDPOINT).decode())
        told.acquire()
    finish(told, _end, _LAST_SECONDS, lambda: "messages that were received")


def _end(_seconds: float) -> None:
    """Return once nothing is left to send, or the sockets have lingered long enough."""
    gevent.get_hub().threadpool.apply(zmq.Context.instance().term)


@click.command()
@socket_options("dealer", sorted({*SENDING, *RECEIVING, "req", "rep"}))
@click.option("--count", type=Whole(1), help="Stop after this many events.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The output format: columns, or one JSON object per line.",
)
def monitor(socket: dict[str, Any], kind: str, count: int | None, form: str) -> None:
    """Report what happens to a socket's connections.

    The events are those of zmq_socket_monitor(3): connections are made, shake hands, fail, and are
    lost. A line has the time, the event, the endpoint, and the reason, if libzmq reports one.

    \b
    Example:
      gzmqsource monitor \\
        --connect tcp://127.0.0.1:5557
    """
    show = as_json if form == "json" else as_line()
    work = Work()
    with watched_source(kind, socket, linger=0) as watched:
        work.run(_tell_all, watched.events, count, show)
    work.tell()


def _tell_all(events: Monitor, count: int | None, show: Callable[[SocketEvent], str]) -> None:
    for event in itertools.islice(events, count):
        click.echo(show(event))
