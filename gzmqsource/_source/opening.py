"""Making the socket of `gzmqsource.Source.open`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import zmq

#: One endpoint, or several.
Endpoints: TypeAlias = "str | Iterable[str]"

#: One topic, or several.
Topics: TypeAlias = "str | bytes | Iterable[str | bytes]"


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
    try:
        for name, value in options.items():
            setattr(socket, name, value)
        for topic in _each(subscribe):
            socket.subscribe(topic)
        for endpoint in _each(bind):
            socket.bind(endpoint)
        for endpoint in _each(connect):
            socket.connect(endpoint)
    except BaseException:
        socket.close(0)
        raise
    return socket


def _each(values: Any) -> Iterable[Any]:
    return (values,) if isinstance(values, (str, bytes)) else values
