"""Making the socket of `gzmqsource.Source.open`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import zmq

from gzmqsource._socket.endpoints import Endpoints as Known
from gzmqsource._socket.linger import close_and_free
from gzmqsource._source.flusher import Report

#: One endpoint, or several.
Endpoints: TypeAlias = "str | Iterable[str]"

#: One topic, or several.
Topics: TypeAlias = "str | bytes | Iterable[str | bytes]"

#: What a socket option may be set to.
SocketOption: TypeAlias = "int | str | bytes"

#: What an option of a socket, or of the source that owns it, may be set to.
SourceOption: TypeAlias = "SocketOption | Report | None"

#: The domain of a socket that asks an authenticator and was given none. In pyzmq's authenticators,
#: too, the rules of this name are those for every socket.
COMMON_DOMAIN = b"*"

#: The options with which a socket asks an authenticator.
_ASKING = ("plain_server", "curve_server", "zap_domain")


def guarded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Let nobody into a socket that asks an authenticator while none is there to be asked.

    Without ``zap_enforce_domain`` libzmq lets in every peer then. With it and without a domain it
    never asks for CURVE, and aborts the process for PLAIN.
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
    socket: zmq.Socket[Any] = (context or zmq.Context.instance()).socket(socket_type)
    known = Known.of(socket)
    try:
        for name, value in guarded(options).items():
            setattr(socket, name, value)
        for topic in _each(subscribe):
            socket.subscribe(topic)
        for endpoint in _each(bind):
            socket.bind(endpoint)
            known.note_bound(socket)
        for endpoint in _each(connect):
            socket.connect(endpoint)
            known.note_connected(endpoint)
    except BaseException:
        close_and_free(socket, 0)
        raise
    return socket


def _each(values: Any) -> Iterable[Any]:
    return (values,) if isinstance(values, (str, bytes)) else values
