"""The socket of a source, as the world outside may use it: plain pyzmq, with the edge repaired."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import zmq
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._socket.readiness import Readiness


class OwnedSocket(PlainSocket[Any]):
    """A second handle on the socket that a source owns.

    Every public method looks at the socket again after the call, so that a waiting greenlet is
    never robbed of its edge. Closing it closes the source.
    """

    _repr_cls = "gzmqsource.OwnedSocket"

    #: Declared on the class, for pyzmq takes any other attribute for a socket option.
    _check: Callable[[], None] = staticmethod(lambda: None)
    _original_close: Callable[[int | None], None] = staticmethod(lambda linger=None: None)

    @classmethod
    def of(cls, original: zmq.Socket[Any], readiness: Readiness) -> OwnedSocket:
        """Make the handle of *original*, whose edge *readiness* watches."""
        owned = cls(shadow=original)
        owned._check = readiness.check
        owned._original_close = original.close
        return owned

    def close(self, linger: int | None = None) -> None:
        """Close the source's socket; see `zmq.Socket.close`."""
        self._original_close(linger)
        self.mark_closed()

    def mark_closed(self) -> None:
        """Take note that the original was closed, so that its dead handle is never used."""
        self._closed = True


def _repairing(name: str) -> Callable[..., Any]:
    method = getattr(PlainSocket, name)

    @functools.wraps(method)
    def call(self: OwnedSocket, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        finally:
            self._check()

    return call


# Every method and every alias of it, for ``getsockopt`` is bound past an overridden ``get``.
for _name in set(dir(PlainSocket)) - set(vars(OwnedSocket)) - {"shadow"}:
    if not _name.startswith("_") and callable(getattr(PlainSocket, _name)):
        setattr(OwnedSocket, _name, _repairing(_name))
