"""``GZMQSOURCE_DEBUG=1``: report each edge that a call on the raw socket consumes.

A call on the raw socket, which the caller kept after handing it to a source, consumes the edge
without the source's knowledge. The watchdog looks at the sockets of waiting greenlets twice a
second, logs the edges that they missed together with the last such call and its origin, and wakes
them. It costs a poll for each waiting socket, so it is for finding the call, not for production.
"""

from __future__ import annotations

import functools
import logging
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import zmq
from gevent.hub import get_hub

from gzmqsource._socket.calls import EAT_THE_EDGE
from gzmqsource._socket.readiness import Readiness

#: Seconds between two looks.
INTERVAL = 0.5

_log = logging.getLogger("gzmqsource.watchdog")


class _Watched:
    """The last raw call on one socket, and where it came from."""

    def __init__(self, readiness: Readiness) -> None:
        self.readiness = weakref.ref(readiness)
        self.last_call = "a call that is not a method of the socket"
        self.in_call = False


_watched: weakref.WeakKeyDictionary[zmq.Socket[Any], _Watched] = weakref.WeakKeyDictionary()
_patrols: weakref.WeakKeyDictionary[Any, gevent.Greenlet[[], None]] = weakref.WeakKeyDictionary()


def watch(readiness: Readiness, socket: zmq.Socket[Any]) -> None:
    """Watch a socket, whose owner waits with *readiness*."""
    watched = _watched[socket] = _Watched(readiness)
    for name in EAT_THE_EDGE:
        vars(socket)[name] = _recording(watched, name, getattr(type(socket), name), socket)
    modules: list[Any] = [zmq, sys.modules["zmq.sugar.poll"]]
    for module in modules:
        if not isinstance(module.zmq_poll, functools.partial):
            module.zmq_poll = functools.partial(_recorded_poll, module.zmq_poll)
    if readiness.hub not in _patrols:
        _patrols[readiness.hub] = gevent.spawn(_patrol)


def _recording(
    watched: _Watched, name: str, method: Callable[..., Any], socket: zmq.Socket[Any]
) -> Callable[..., Any]:
    owner = weakref.ref(socket)

    def call(*args: Any, **kwargs: Any) -> Any:
        if watched.in_call:  # pyzmq's methods call each other
            return method(owner(), *args, **kwargs)
        watched.last_call = _describe(name)
        watched.in_call = True
        try:
            return method(owner(), *args, **kwargs)
        finally:
            watched.in_call = False

    return call


def _recorded_poll(poll: Callable[..., Any], sockets: Any, timeout: int = -1) -> Any:
    for socket, _ in sockets:
        if isinstance(socket, zmq.Socket) and socket in _watched and not _watched[socket].in_call:
            _watched[socket].last_call = _describe("zmq_poll")
    return poll(sockets, timeout)


def _describe(name: str) -> str:
    caller = traceback.format_list(traceback.extract_stack(limit=4)[:-2])
    return f"{name}(), called from\n{''.join(caller)}"


def _patrol() -> None:
    while True:
        gevent.sleep(INTERVAL, ref=False)
        for socket, watched in list(_watched.items()):
            readiness = watched.readiness()
            if readiness is not None and readiness.hub is get_hub() and readiness.missed_edge():
                _log.error("missed edge on %r, eaten by %s", socket, watched.last_call)
                readiness.recheck()
