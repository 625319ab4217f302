"""The options that all verbs with sockets share, and the sockets made from them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import zmq
import zmq.auth
from gevent import signal_handler

from gzmqsource._source.source import Source
from gzmqsource.auth import Authenticator

#: The types of sockets that send and receive in any order, and all that do one of the two.
_BOTH = ("dealer", "router", "pair", "xsub", "xpub")
SENDING, RECEIVING = ("push", "pub", *_BOTH), ("pull", "sub", *_BOTH)


def _endpoints(_context: object, _option: object, values: tuple[str, ...]) -> tuple[str, ...]:
    """Check what libzmq does not: it mistakes the port 80000 for 14464."""
    for value in values:
        port = value.rpartition(":")[2]
        if value.startswith("tcp://") and port.isdigit() and int(port) > 65535:
            raise click.BadParameter(f"{value}: a port is at most 65535")
    return values


#: The options for which peers to accept, or how to be accepted.
_SECURITY = (
    click.option(
        "--plain-user",
        metavar="NAME",
        help="The user to connect as, with --plain-password; with --bind, the only user to accept.",
    ),
    click.option(
        "--plain-password",
        metavar="WORD",
        envvar="GZMQSOURCE_PLAIN_PASSWORD",
        show_envvar=True,
        help="The password of --plain-user.",
    ),
    click.option(
        "--curve-key",
        type=click.Path(exists=True, dir_okay=False),
        help="This side's secret key, as `gzmqsource keygen` makes it.",
    ),
    click.option(
        "--curve-server-key",
        type=click.Path(exists=True, dir_okay=False),
        help="The public key of the server to connect to; without it, this side is the server.",
    ),
    click.option(
        "--curve-clients",
        type=click.Path(exists=True, file_okay=False),
        metavar="DIR",
        help="The public keys, NAME.key, that a server accepts; without it, all that know its own.",
    ),
)


def security_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of PLAIN and CURVE to a verb, which is passed one dict, ``security``."""

    @functools.wraps(function)
    def call(
        plain_user: str | None,
        plain_password: str | None,
        curve_key: str | None,
        curve_server_key: str | None,
        curve_clients: str | None,
        **rest: Any,
    ) -> Any:
        # A verb without --bind, the proxy, always binds.
        security = _plain(plain_user, plain_password, bool(rest.get("bind", True)))
        security |= _curve(curve_key, curve_server_key)
        with _admitting(security, plain_user, plain_password, curve_clients):
            return function(security=security, **rest)

    for option in reversed(_SECURITY):
        call = option(call)
    return call


#: Where a socket's peers are, and how much it holds.
_SOCKET = [
    click.option(
        "--bind",
        multiple=True,
        metavar="URL",
        callback=_endpoints,
        help="An endpoint to bind; repeatable.",
    ),
    click.option(
        "--connect",
        multiple=True,
        metavar="URL",
        callback=_endpoints,
        help="An endpoint to connect to; repeatable.",
    ),
    click.option(
        "--subscribe", multiple=True, metavar="TOPIC", help="A topic of a SUB; '' is all."
    ),
    click.option("--hwm", type=click.IntRange(0), help="Both high-water marks, in messages."),
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
                default=default,
                show_default=True,
                help="The type of the socket.",
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
            if not bind and not connect:
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


def _plain(user: str | None, password: str | None, serves: bool) -> dict[str, Any]:
    if user is None:
        return {}
    if password is None:
        raise click.UsageError("--plain-user needs --plain-password")
    if serves:
        return {"plain_server": True}
    return {"plain_username": user.encode(), "plain_password": password.encode()}


def _curve(key: str | None, server_key: str | None) -> dict[str, Any]:
    if key is None:
        if server_key is not None:
            raise click.UsageError("--curve-server-key needs this side's --curve-key")
        return {}
    try:
        public, secret = zmq.auth.load_certificate(key)
        options: dict[str, Any] = {"curve_publickey": public, "curve_secretkey": secret}
        if secret is None:
            raise click.UsageError(f"{key} has no secret key: use the file *.key_secret")
        if server_key is None:
            return options | {"curve_server": True}
        return options | {"curve_serverkey": zmq.auth.load_certificate(server_key)[0]}
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def _admitting(
    security: dict[str, Any], user: str | None, password: str | None, clients: str | None
) -> Iterator[None]:
    """Accept only the peers that the options of a server name."""
    with contextlib.ExitStack() as stack:
        if clients is not None and "curve_server" not in security:
            raise click.UsageError("--curve-clients is for a server: --curve-key alone")
        if clients is not None or "plain_server" in security:
            authenticator = Authenticator()
            try:
                if clients is not None:
                    authenticator.configure_curve(location=clients)
            except (OSError, ValueError) as error:
                raise click.ClickException(str(error)) from error
            if user is not None and password is not None:
                authenticator.configure_plain(passwords={user: password})
            stack.enter_context(authenticator)
        yield


def type_of(kind: str) -> int:
    """Return the number of a type of socket."""
    return int(getattr(zmq, kind.upper()))


def open_source(kind: str, socket: dict[str, Any], handle: Any = None, **options: Any) -> Source:
    """Make a source from the options; an error of libzmq becomes one of the command."""
    with telling_errors(socket):
        return Source.open(type_of(kind), handle, **socket, **options)


@contextlib.contextmanager
def telling_errors(socket: dict[str, Any]) -> Iterator[None]:
    """Turn an error of libzmq into a line that names the endpoint."""
    try:
        yield
    except zmq.ZMQError as error:
        where = ", ".join([*socket["bind"], *socket["connect"]])
        raise click.ClickException(f"{where}: {zmq.strerror(error.errno or 0)}") from error


def on_signals(function: Callable[[], object], *numbers: int) -> None:
    """Call a function in the hub on each of some signals."""
    for number in numbers:
        signal_handler(number, function)
