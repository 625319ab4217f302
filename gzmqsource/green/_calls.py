"""The calls of a green socket that do not wait, but read its mailbox or change the socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zmq

from gzmqsource.green._shared import recheck

_EVENTS, _LINGER = int(zmq.EVENTS), int(zmq.LINGER)


def checked(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a call for `gzmqsource._socket.calls.override_calls`.

    It raises `gevent.exceptions.InvalidThreadUseError`, and does nothing, while greenlets of
    another thread's hub wait on the socket, unless it is harmless to them. Otherwise its result or
    error is unchanged, and no greenlet loses its wake-up.
    """
    is_harmless = _HARMLESS.get(name[:3])

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        shared = self._shared
        if shared is not None and shared.is_here:
            shared.readiness.recheck()
        elif is_harmless is None or not is_harmless(args[0] if args else kwargs.get("option", 0)):
            recheck(self)  # another Python object may stand for the same socket
        return method(self, *args, **kwargs)

    return call


#: By the beginning of a call's name, the options with which any thread may call it: libzmq reads
#: the mailbox for no other option, and a thread that closes a socket sets the time to linger first.
_HARMLESS: dict[str, Callable[[int], bool]] = {
    "get": lambda option: option != _EVENTS,
    "set": lambda option: option == _LINGER,
}
