"""The options that all verbs with sockets share, and the sockets made from them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import zmq

from gzmqsource._socket.addresses import WrongEndpoint
from gzmqsource._source.source import Source
from gzmqsource.cli._security import security_options

#: The types of sockets that send and receive in any order, and all that do one of the two.
_BOTH = ("dealer", "router", "pair", "xsub", "xpub")
SENDING, RECEIVING = ("push", "pub", *_BOTH), ("pull", "sub", *_BOTH)


def check_endpoints(_context: object, _option: object, values: tuple[str, ...]) -> tuple[str, ...]:
    """Check what libzmq does not: it mistakes the port 80000 for 14464."""
    for value in values:
        port = value.rpartition(":")[2].lstrip("0")
        is_large = port.isdecimal() and (len(port) > 5 or int(port) > 65535)
        if value.startswith("tcp://") and is_large:
            raise click.BadParameter(f"{value}: a port is at most 65535")
    return values


#: Where a socket's peers are, and how much it holds.
_SOCKET = [
    click.option(
        "--bind",
        multiple=True,
        metavar="URL",
        callback=check_endpoints,
        help="An endpoint to bind, such as tcp://0.0.0.0:5555. Repeatable.",
    ),
    click.option(
        "--connect",
        multiple=True,
        metavar="URL",
        callback=check_endpoints,
        help="An endpoint to connect to, such as tcp://127.0.0.1:5555. Repeatable.",
    ),
    click.option(
        "--subscribe",
        multiple=True,
        metavar="TOPIC",
        help="A topic for --type sub. Repeatable; all topics if not given.",
    ),
    click.option(
        "--hwm", type=click.IntRange(0), help="The high-water mark in both directions, in messages."
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
                raise click.UsageError("where to? --bind URL or --connect URL")
            socket: dict[str, Any] = {"bind": bind, "connect": connect, **security}
            if rest.get("kind", default) == "sub":
                socket["subscribe"] = subscribe or ("",)
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


def type_of(kind: str) -> int:
    """Return the number of a type of socket."""
    return int(getattr(zmq, kind.upper()))


def open_source(kind: str, socket: dict[str, Any], handle: Any = None, **options: Any) -> Source:
    """Make a source from the options; an error of libzmq becomes one of the command."""
    with telling_errors(socket):
        return Source.open(type_of(kind), handle, **socket, **options)


@contextlib.contextmanager
def telling_errors(socket: dict[str, Any]) -> Iterator[None]:
    """Turn an error of libzmq into a line that names the endpoint, and what is refused into one."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except WrongEndpoint as error:
        raise click.UsageError(str(error)) from error
    except zmq.ZMQError as error:
        where = ", ".join([*socket["bind"], *socket["connect"]])
        raise click.ClickException(f"{where}: {zmq.strerror(error.errno or 0)}") from error
