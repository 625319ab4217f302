"""A socket that is closed by code other than its source, such as `zmq.Context.destroy`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import zmq
from gevent._hub_local import get_hub_if_exists

from gzmqsource._base.hubs import call_in_hub


class SocketOwner(Protocol):
    """A source, as this module uses it."""

    hub: Any

    def socket_closed(self) -> None:
        """Note, in its hub, that the socket is being closed."""

    def close_elsewhere(self, close: Callable[[], object]) -> None:
        """Close in another thread."""


def close_underneath(
    owner: weakref.ref[SocketOwner], socket: zmq.Socket[Any]
) -> Callable[[int | None], None]:
    """Return a ``close`` for a socket that notifies its owner first.

    In another thread it leaves everything to the owner's hub: pyzmq releases the GIL during a
    call, and closing a socket that the hub is using crashes libzmq. `zmq.Context.destroy` then
    waits. A hub that does not run any more does not use the socket.
    """

    def close(linger: int | None = None) -> None:
        source = owner()
        if source is not None and get_hub_if_exists() is source.hub:
            source.socket_closed()
        elif source is not None:
            if call_in_hub(source.hub, socket.close, linger):
                return
            source.close_elsewhere(lambda: None)
        type(socket).close(socket, linger)

    return close
