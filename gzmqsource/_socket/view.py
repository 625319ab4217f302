"""The socket of a source, as its users see it: plain pyzmq, with the edge repaired."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zmq
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._socket.addresses import check_endpoint, explained
from gzmqsource._socket.calls import override_calls
from gzmqsource._socket.endpoints import Endpoints

if TYPE_CHECKING:
    from gzmqsource._socket.hub_socket import HubSocket


class SourceSocket(PlainSocket[Any]):
    """A second handle on the socket that a source owns.

    After each call that may consume the edge the socket is looked at again, so that no waiting
    greenlet misses it. Closing the handle closes the source.
    """

    _repr_cls = "gzmqsource.SourceSocket"

    #: Declared on the class because pyzmq treats any other attribute as a socket option.
    _recheck: Callable[[], None] = staticmethod(lambda: None)
    _receive_ahead: Callable[[], None] = staticmethod(lambda: None)
    _original_close: Callable[[int | None], None] = staticmethod(lambda linger=None: None)
    _endpoints: Endpoints

    if TYPE_CHECKING:
        # For pyzmq's types an option may be an int, too.
        last_endpoint: bytes
        LAST_ENDPOINT: bytes

    @classmethod
    def of(cls, original: zmq.Socket[Any], socket: HubSocket) -> SourceSocket:
        """Make the handle of *original*, which *socket* uses, too."""
        view = cls(shadow=original)
        view.context = original.context  # before 26.2.1 a shadow has none
        view._recheck = socket.readiness.recheck
        view._receive_ahead = socket.receive_ahead
        view._original_close = original.close
        view._endpoints = Endpoints.of(original)
        return view

    def bind(self, addr: str) -> Any:
        """Bind to an endpoint, and note it; see `zmq.Socket.bind`."""
        check_endpoint(addr, "bind")
        try:
            bound = super().bind(addr)
            self._endpoints.note_bound(self)
        except zmq.ZMQError as error:
            raise explained(error, self, "bind", addr) from None
        finally:
            self._recheck()
        return bound

    def connect(self, addr: str) -> Any:
        """Connect to an endpoint, and note it; see `zmq.Socket.connect`."""
        check_endpoint(addr, "connect")
        try:
            connected = super().connect(addr)
            self._endpoints.note_connected(addr)
        except zmq.ZMQError as error:
            raise explained(error, self, "connect", addr) from None
        finally:
            self._recheck()
        return connected

    def unbind(self, addr: str | bytes) -> None:
        """Unbind from an endpoint, and note it; see `zmq.Socket.unbind`."""
        try:
            super().unbind(addr)
            self._endpoints.forget(addr)
        except zmq.ZMQError as error:
            raise explained(error, self, "unbind", addr) from None
        finally:
            self._recheck()

    def disconnect(self, addr: str | bytes) -> None:
        """Disconnect from an endpoint, and note it; see `zmq.Socket.disconnect`."""
        self._receive_ahead()
        try:
            super().disconnect(addr)
            self._endpoints.forget(addr)
        except zmq.ZMQError as error:
            raise explained(error, self, "disconnect", addr) from None
        finally:
            self._recheck()

    def close(self, linger: int | None = None) -> None:
        """Close the source's socket; see `zmq.Socket.close`."""
        self._original_close(linger)
        self.mark_closed()

    def mark_closed(self) -> None:
        """Note that the original was closed, so that its dead handle is never used."""
        self._closed = True


def _rechecked(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: SourceSocket, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        finally:
            self._recheck()

    return call


override_calls(SourceSocket, _rechecked)


def check_is_free(socket: object, purpose: str) -> None:
    """Check that a socket can be taken over: a source or proxy puts its own ``close`` on it.

    Raises
    ------
    TypeError
        It is not a `zmq.Socket`, or one of ``zmq.asyncio``; the text has *purpose* in it.
    ValueError
        A source or a proxy owns it.
    zmq.ZMQError
        It is closed.
    """
    asynchronous = sys.modules.get("zmq._future")
    if not isinstance(socket, PlainSocket) or (
        asynchronous is not None and isinstance(socket, asynchronous._AsyncSocket)
    ):
        raise TypeError(f"{socket!r}: {purpose}, made by socket() of a zmq.Context")
    if isinstance(socket, SourceSocket) or "close" in vars(socket):
        raise ValueError(f"{socket!r} belongs to a source already, or to a proxy: use that one")
    if socket.closed:
        raise zmq.ZMQError(zmq.ENOTSOCK, f"{socket!r} is closed: make a new one")
