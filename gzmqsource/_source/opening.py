"""Making the socket of `gzmqsource.Source.open`."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import zmq
from zmq.sugar.context import Context as PlainContext

from gzmqsource._socket.addresses import check_endpoint, explained
from gzmqsource._socket.endpoints import Endpoints as Known
from gzmqsource._socket.endpoints import kind_of
from gzmqsource._socket.linger import close_and_free
from gzmqsource._source.flusher import Report
from gzmqsource._source.options import set_option

#: One endpoint, or several.
Endpoints: TypeAlias = "str | Iterable[str]"

#: One topic, or several.
Topics: TypeAlias = "str | bytes | Iterable[str | bytes]"

#: The values of a socket option.
SocketOption: TypeAlias = "int | str | bytes"

#: The values of an option of a socket, or of the source that owns it.
SourceOption: TypeAlias = "SocketOption | Report | None"

#: The domain of a socket that asks an authenticator and was given no domain. In pyzmq's
#: authenticators, too, the rules of this name apply to every socket.
COMMON_DOMAIN = b"*"

#: The options with which a socket asks an authenticator.
_ASKING = ("plain_server", "curve_server", "zap_domain")


def guarded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Let no peer into a socket that asks an authenticator while no authenticator is there.

    Without ``zap_enforce_domain``, libzmq would let every peer in. With it, but without a domain,
    libzmq never asks for CURVE, and aborts the process for PLAIN.
    """
    lowered = {name.lower(): value for name, value in options.items()}
    if not any(lowered.get(name) for name in _ASKING):
        return lowered
    domain = lowered.get("zap_domain") or COMMON_DOMAIN
    return {"zap_enforce_domain": 1, **lowered, "zap_domain": domain}


def open_socket(
    context: zmq.Context[Any] | None,
    socket_type: int,
    options: Mapping[str, Any],
    subscribe: Topics,
    bind: Endpoints,
    connect: Endpoints,
) -> zmq.Socket[Any]:
    """Make a socket and set it up; if that fails, close it."""
    bound, connected = each_of(bind, "bind"), each_of(connect, "connect")
    topics = _each_topic(subscribe)
    for verb, endpoints in ("bind", bound), ("connect", connected):
        for endpoint in endpoints:
            check_endpoint(endpoint, verb)
    socket = _new_socket(context, socket_type)
    known = Known.of(socket)
    endpoint, verb = "", "bind"
    try:
        for name, value in guarded(options).items():
            set_option(socket, name, value)
        for topic in topics:
            _subscribe(socket, topic)
        try:
            for endpoint in bound:
                socket.bind(endpoint)
                known.note_bound(socket)
            verb = "connect"
            for endpoint in connected:
                socket.connect(endpoint)
                known.note_connected(endpoint)
        except zmq.ZMQError as error:
            raise explained(error, socket, verb, endpoint) from None
    except BaseException:
        close_and_free(socket, 0)
        raise
    return socket


def each_of(endpoints: Endpoints, name: str) -> list[str]:
    """Return one endpoint, or several, as a list.

    Raises
    ------
    TypeError
        The value is neither; *name* is the name of the argument.
    """
    if isinstance(endpoints, (str, bytes)):
        return [endpoints]
    try:
        return list(endpoints)
    except TypeError:
        raise TypeError(
            f"{name}={endpoints!r}: an endpoint is a str, as 'tcp://127.0.0.1:5555', "
            "or pass an iterable of them"
        ) from None


def check_context(context: object) -> None:
    """Raise a `TypeError` unless it is a context or None."""
    if context is not None and not isinstance(context, PlainContext):
        raise TypeError(f"context={context!r}: a zmq.Context, or None for the common one")


def _new_socket(context: zmq.Context[Any] | None, socket_type: int) -> zmq.Socket[Any]:
    check_context(context)
    try:
        socket_type = zmq.SocketType(socket_type)
    except ValueError:
        raise TypeError(
            f"socket_type={socket_type!r}: a type of pyzmq's, as zmq.PULL or zmq.ROUTER"
        ) from None
    context = context or zmq.Context.instance()
    if context.closed:
        raise zmq.ZMQError(zmq.ETERM, f"{context!r} was terminated: pass another context")
    try:
        socket: zmq.Socket[Any] = context.socket(socket_type)
        return socket
    except zmq.ZMQError as error:
        if error.errno != errno.EMFILE:
            raise
        raise zmq.ZMQError(
            error.errno,
            f"{context!r} has no socket left: raise its MAX_SOCKETS, or `ulimit -n`",
        ) from None


def _each_topic(topics: Topics) -> list[str | bytes]:
    if isinstance(topics, (str, bytes)):
        return [topics]
    each = list(topics) if isinstance(topics, Iterable) else [topics]
    if not all(isinstance(topic, (str, bytes)) for topic in each):
        raise TypeError(f"subscribe={topics!r}: a topic is a str or bytes; '' is everything")
    return each


def _subscribe(socket: zmq.Socket[Any], topic: str | bytes) -> None:
    kind = kind_of(socket)
    if kind != "SUB":
        how = ": an XSUB sends b'\\x01' and the topic" if kind == "XSUB" else ""
        raise zmq.ZMQError(
            zmq.EINVAL, f"subscribe={topic!r}: a {kind} has no topics, only a SUB has{how}"
        )
    socket.subscribe(topic)
