"""The sockets whose peers an authenticator decides about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import zmq
from gevent._hub_local import get_hub_if_exists

from gzmqsource._source import registry

#: The option that makes a socket a server, by its mechanism.
_SERVES = {int(zmq.PLAIN): zmq.PLAIN_SERVER, int(zmq.CURVE): zmq.CURVE_SERVER}


def relying_on(context: zmq.Context[Any]) -> Iterator[tuple[str, str]]:
    """Yield the endpoints of this hub's open sources that use it, and their behaviour from now on.

    Sources of other hubs are left alone, because their threads may be using the sockets now.
    """
    for reference in registry.live.valuerefs():
        source: Any = reference()
        if source is None or source.closed or source.hub is not get_hub_if_exists():
            continue
        its = source.raw.context  # None of a shadow: its endpoint is that of the original
        if its is not None and its.underlying == context.underlying and _asks(source.raw):
            what = "lets no peer in" if _is_closed(source.raw) else "lets every peer in"
            yield source.endpoint, what


def _asks(socket: zmq.Socket[Any]) -> bool:
    serves = _SERVES.get(int(socket.get(zmq.MECHANISM)))
    return bool(socket.get(zmq.ZAP_DOMAIN)) or (serves is not None and bool(socket.get(serves)))


def _is_closed(socket: zmq.Socket[Any]) -> bool:
    # With PLAIN, libzmq always needs an answer.
    return bool(socket.get(zmq.ZAP_ENFORCE_DOMAIN)) or socket.get(zmq.MECHANISM) == zmq.PLAIN
