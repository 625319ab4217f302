"""The options that all verbs with sockets share, and the sockets made from them."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import click
import zmq

from gzmqsource._socket.addresses import WrongEndpoint
from gzmqsource._source.source import Source
from gzmqsource.cli._numbers import Whole, port_of
from gzmqsource.cli._security import security_options
from gzmqsource.monitor import Monitor

#: The types of sockets that send and receive in any order, and all that do one of the two.
_BOTH = ("dealer", "router", "pair", "xsub", "xpub")
SENDING, RECEIVING = ("push", "pub", *_BOTH), ("pull", "sub", *_BOTH)


class Endpoint(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """An endpoint with a checked port: libzmq does not check it, and takes 80000 for 14464.

    Parameters
    ----------
    binds : bool
        Whether it is bound, and libzmq may choose the port.
    """

    name = "URL"

    def __init__(self, binds: bool) -> None:
        self._binds = binds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the endpoint."""
        url = str(value)
        try:
            url.encode()
        except UnicodeEncodeError:  # as Python has the bytes of an argument that are none
            self.fail(f"{url!r}: an endpoint is text in UTF-8", param, ctx)
        port = url.rpartition(":")[2]
        is_free = self._binds and port in ("*", "0")
        if url.startswith("tcp://") and port_of(port) is None and not is_free:
            self.fail(f"{url!r}: a port is a number from 1 to 65535", param, ctx)
        return url


#: Where a socket's peers are, and how much it holds.
_SOCKET = [
    click.option(
        "--bind",
        multiple=True,
        metavar="URL",
        type=Endpoint(binds=True),
        help="An endpoint to bind, such as tcp://0.0.0.0:5555. Repeatable.",
    ),
    click.option(
        "--connect",
        multiple=True,
        metavar="URL",
        type=Endpoint(binds=False),
        help="An endpoint to connect to, such as tcp://127.0.0.1:5555. Repeatable.",
    ),
    click.option(
        "--subscribe",
        multiple=True,
        metavar="TOPIC",
        help="A topic for --type sub. Repeatable; all topics if not given.",
    ),
    click.option(
        "--hwm", type=Whole(0), help="The high-water mark in both directions, in messages."
    ),
]


def socket_options(
    default: str | None, types: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of a socket to a verb, which is passed one dict, ``socket``."""
    options = [*_SOCKET]
    if default is not None:
        options.append(
            click.option(
                "--type",
                "kind",
                type=click.Choice(types),
                metavar="TYPE",
                default=default,
                show_default=True,
                help=f"The type of the socket: {', '.join(types)}.",
            )
        )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(
            bind: tuple[str, ...],
            connect: tuple[str, ...],
            subscribe: tuple[str, ...],
            hwm: int | None,
            security: dict[str, Any],
            **rest: Any,
        ) -> Any:
            if not (bind or connect or rest.get("join")):
                raise click.UsageError("no endpoint: use --bind URL or --connect URL")
            socket: dict[str, Any] = {"bind": bind, "connect": connect, **security}
            socket |= ipv6_for(*bind, *connect, *rest.get("join", ()))
            if rest.get("kind", default) == "sub":
                socket["subscribe"] = [*map(os.fsencode, subscribe)] or ("",)
            elif subscribe:
                raise click.UsageError("--subscribe is for --type sub")
            if hwm is not None:
                socket |= {"sndhwm": hwm, "rcvhwm": hwm}
            return function(socket=socket, **rest)

        decorated = security_options(call)
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def ipv6_for(*endpoints: str) -> dict[str, Any]:
    """Return the socket option that an IPv6 address, which is in brackets, needs.

    Without one it is not set: libzmq would bind a wildcard in both families, and prefer the IPv6
    address of a name, where the peer may be bound to the other one.
    """
    needs = any(each.startswith("tcp://") and "[" in each for each in endpoints)
    return {"ipv6": 1} if needs else {}


def type_of(kind: str) -> int:
    """Return the number of a type of socket."""
    return int(getattr(zmq, kind.upper()))


def open_source(kind: str, socket: dict[str, Any], handle: Any = None, **options: Any) -> Source:
    """Make a source from the options; an error of libzmq becomes one of the command."""
    with telling_errors():
        return Source.open(type_of(kind), handle, **socket, **options)


class Watched(NamedTuple):
    """A source, and the events that its monitor reports from the beginning."""

    source: Source
    events: Monitor
    #: Where it is bound; a wildcard was bound to an address.
    bound: list[str]


@contextlib.contextmanager
def watched_source(kind: str, socket: dict[str, Any], **options: Any) -> Iterator[Watched]:
    """Make a source and its monitor, and close both at the end of the block."""
    endpoints = {name: socket[name] for name in ("bind", "connect")}
    # The monitor comes first, or it would miss the first events.
    source = open_source(kind, socket | {"bind": (), "connect": ()}, **options)
    with contextlib.closing(source), Monitor(source) as events:
        bound = []
        with telling_errors():
            for endpoint in endpoints["bind"]:
                source.socket.bind(endpoint)
                bound.append(source.socket.get_string(zmq.LAST_ENDPOINT))
            for endpoint in endpoints["connect"]:
                source.socket.connect(endpoint)
        yield Watched(source, events, bound)


def check_sides(front: str, back: str) -> None:
    """Refuse one endpoint for both sides, unless libzmq chooses the ports."""
    if front == back and not front.endswith((":*", ":0")):
        raise click.UsageError(
            f"FRONT and BACK are both {front}: each needs an endpoint of its own"
        )


@contextlib.contextmanager
def telling_errors() -> Iterator[None]:
    """Turn the errors of a source that cannot be opened into those of the command."""
    try:
        yield
    except WrongEndpoint as error:
        raise click.UsageError(str(error)) from error
    except (TypeError, ValueError, zmq.ZMQError) as error:
        raise click.ClickException(str(error)) from error
