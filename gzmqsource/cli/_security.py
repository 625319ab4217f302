"""The options that authenticate peers, and this process to its peers: PLAIN and CURVE."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import click
import zmq.auth

from gzmqsource.auth import Authenticator
from gzmqsource.auth._rules import is_key
from gzmqsource.cli._log import log
from gzmqsource.cli._paths import here
from gzmqsource.cli._reloads import failed
from gzmqsource.cli._signals import on_hangup

#: Over these transports libzmq authenticates peers; over others (inproc, pgm) it does not.
_ASKING = ("tcp://", "ipc://")

#: The most bytes of a name and of a password that libzmq takes.
_LONGEST = 255

#: The options for which peers to accept, or how to be accepted.
_SECURITY = (
    click.option(
        "--plain-user",
        metavar="NAME",
        help="The user name to connect with, or with --bind the only one that is accepted.",
    ),
    click.option(
        "--plain-password",
        metavar="WORD",
        envvar="GZMQSOURCE_PLAIN_PASSWORD",
        show_envvar=True,
        help="The password for --plain-user.",
    ),
    click.option(
        "--curve-key",
        type=click.Path(exists=True, dir_okay=False),
        help="The secret key of this side, a file from `gzmqsource keygen`.",
    ),
    click.option(
        "--curve-server-key",
        type=click.Path(exists=True, dir_okay=False),
        help="The public key of the server to connect to. Without it, this side is the server.",
    ),
    click.option(
        "--curve-clients",
        type=click.Path(exists=True, file_okay=False),
        metavar="DIR",
        help="The directory of the public keys, NAME.key, that a server accepts. Without it, a "
        "server accepts every client that knows its own key. SIGHUP reads them again.",
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
        # A verb without --bind, the proxy, binds both of its endpoints.
        binds = bool(rest.get("bind", True))
        _check_pairs(plain_user, plain_password, curve_key, curve_server_key, curve_clients)
        if curve_key and not (binds or curve_server_key or curve_clients):
            raise click.UsageError(
                "--curve-key without --bind needs the --curve-server-key of the peer (or its key "
                "in --curve-clients): anyone with this side's public key could pass for the server"
            )
        if plain_user is not None or curve_key is not None:
            _check_transports(rest)
        security = _plain(plain_user, plain_password, binds) | _curve(curve_key, curve_server_key)
        with _admitting(security, plain_user, plain_password, curve_clients):
            return function(security=security, **rest)

    for option in reversed(_SECURITY):
        call = option(call)
    return call


def _check_pairs(
    user: str | None,
    password: str | None,
    key: str | None,
    server_key: str | None,
    clients: str | None,
) -> None:
    """Refuse each half of a pair, and two mechanisms: libzmq would leave a door open in silence."""
    if user is None and password is not None:
        raise click.UsageError(
            "--plain-password (or GZMQSOURCE_PLAIN_PASSWORD) needs --plain-user: "
            "alone it keeps no peer out"
        )
    if user is not None and password is None:
        raise click.UsageError("--plain-user needs --plain-password")
    if user is not None and (key or server_key or clients):
        raise click.UsageError(
            "--plain-user and --curve-… exclude each other: a socket has one of PLAIN and CURVE"
        )
    if server_key is not None and key is None:
        raise click.UsageError("--curve-server-key needs this side's --curve-key")
    if clients is not None and (key is None or server_key is not None):
        raise click.UsageError(
            "--curve-clients is for a server: with --curve-key, and without --curve-server-key"
        )


def _check_transports(given: dict[str, Any]) -> None:
    endpoints = (
        [*given["bind"], *given["connect"], *given.get("join", ())]
        if "bind" in given
        else [given["front"], given["back"]]
    )
    for endpoint in endpoints:
        if not endpoint.startswith(_ASKING):
            raise click.UsageError(
                f"{endpoint}: PLAIN and CURVE are for tcp:// and ipc://, not for this transport"
            )


def _plain(user: str | None, password: str | None, serves: bool) -> dict[str, Any]:
    if user is None or password is None:
        return {}
    name, word = _credential("--plain-user", user), _credential("--plain-password", password)
    if serves:
        return {"plain_server": True}
    return {"plain_username": name, "plain_password": word}


def _credential(option: str, text: str) -> bytes:
    try:
        value = text.encode()
    except UnicodeEncodeError:
        raise click.UsageError(f"{option} is not UTF-8") from None
    if not 0 < len(value) <= _LONGEST:
        raise click.UsageError(f"{option} has {len(value)} bytes: it takes 1 to {_LONGEST}")
    return value


def _curve(key: str | None, server_key: str | None) -> dict[str, Any]:
    if key is None:
        return {}
    public, secret = _keys_in(key)
    if secret is None:
        raise click.UsageError(f"{key} has no secret key: use the file *.key_secret")
    options: dict[str, Any] = {"curve_publickey": public, "curve_secretkey": secret}
    if server_key is None:
        return options | {"curve_server": True}
    return options | {"curve_serverkey": _keys_in(server_key)[0]}


def _keys_in(file: str) -> tuple[bytes, bytes | None]:
    """Return the public and the secret key of a file, checked."""
    try:
        public, secret = zmq.auth.load_certificate(file)
        for key in (public, secret):
            if key is not None and not is_key(key):
                raise ValueError(f"{file}: it has a key that is not in Z85")
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except IndexError as error:  # pyzmq's, of a line without a "="
        raise click.ClickException(f"{file}: it has a key that is not in Z85") from error
    return public, secret


@contextlib.contextmanager
def _admitting(
    security: dict[str, Any], user: str | None, password: str | None, clients: str | None
) -> Iterator[None]:
    """Accept only the peers that the options of a server name."""
    if not security.keys() & {"plain_server", "curve_server"}:
        yield
        return
    authenticator = Authenticator()
    if user is not None and password is not None:
        authenticator.configure_plain(passwords={user: password})
    elif clients is None:
        authenticator.configure_curve()
    else:
        try:
            authenticator.configure_curve(location=here(clients))
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        on_hangup(functools.partial(_reload, authenticator, clients))
    with authenticator:
        yield


def _reload(authenticator: Authenticator, clients: str) -> None:
    try:
        authenticator.reload()
    except Exception as error:
        failed["keys"] = True
        log.error("reading %s failed, the same keys as before are accepted: %s", clients, error)
    else:
        failed["keys"] = False
        log.info("%s was read again", clients)
