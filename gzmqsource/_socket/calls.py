"""The edge of a socket, and pyzmq's calls that read the mailbox, and so consume it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from select import POLLIN
from typing import Any

from gevent.monkey import get_original
from zmq.sugar.socket import Socket as PlainSocket

#: Every such method and its aliases: pyzmq's ``getsockopt`` bypasses an overridden ``get``.
EAT_THE_EDGE = tuple(
    name
    for name in (
        *("send", "recv", "recv_into", "send_multipart", "recv_multipart", "poll"),
        *("bind", "connect", "unbind", "disconnect", "bind_to_random_port", "monitor"),
        *("get", "getsockopt", "get_string", "getsockopt_string", "getsockopt_unicode"),
        *("set", "setsockopt", "set_string", "setsockopt_string", "setsockopt_unicode"),
        *("subscribe", "unsubscribe", "join", "leave"),
    )
    if hasattr(PlainSocket, name)  # versions of libzmq and pyzmq have more or fewer
)


def override_calls(
    cls: type[PlainSocket[Any]], wrapped: Callable[[str, Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Override each call in *cls* that it does not override itself with ``wrapped(name, method)``.

    *method* is pyzmq's.
    """
    for name in EAT_THE_EDGE:
        if name not in vars(cls):
            method = getattr(PlainSocket, name)
            setattr(cls, name, functools.wraps(method)(wrapped(name, method)))


def has_edge(fd: int) -> bool:
    """Return whether a descriptor is readable now; `select` takes none above 1023."""
    poll = get_original("select", "poll")()
    poll.register(fd, POLLIN)
    return bool(poll.poll(0))
