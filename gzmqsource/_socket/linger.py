"""Closing a socket, and waiting until libzmq has released it.

``zmq_close`` returns at once. libzmq keeps sending the messages that it holds for ``ZMQ_LINGER``,
pyzmq does not wait for that when the interpreter exits, and an endpoint is free 1 to 3 ms later.
The monitor of a socket ends when the socket is gone for good: all its messages were sent or given
up, and nothing is bound. The monitor here reports no events, and is read on the thread of all
monitors, so this works even if the end of the context holds up the hub.
"""

from __future__ import annotations

import time
from typing import Any

import zmq
from gevent import getcurrent
from gevent._hub_local import get_hub_if_exists

from gzmqsource._base.deadline import LONGEST, Deadline
from gzmqsource._socket.endpoints import Endpoints, is_remote
from gzmqsource._socket.reports import Report, is_watched

#: The most seconds to wait until an endpoint is free; a socket that lingers keeps its monitor.
FREE_WITHIN = 0.1

_CLOSED = zmq.EVENT_CLOSED | zmq.EVENT_CLOSE_FAILED

#: Socket types that send nothing, and those that receive nothing.
SENDS_NOTHING = frozenset({zmq.PULL, zmq.SUB})
RECEIVES_NOTHING = frozenset({zmq.PUSH, zmq.PUB})


def unbind_and_wait(
    socket: zmq.Socket[Any], endpoints: Endpoints, hub: Any, deadline: Deadline
) -> None:
    """Unbind all endpoints, and wait until libzmq listens on none, while other greenlets receive.

    Its thread may have no time to do so for long. A socket has one monitor: if a user has it, this
    does not wait.
    """
    report = None
    if any(map(is_remote, endpoints.bound)) and not is_watched(socket):
        report = _watch(socket, hub, _CLOSED, len(endpoints.bound))
    try:
        ending = endpoints.unbind(socket)
        while report is not None and not report.ended and len(report.queue) < ending:
            left = deadline.left()
            # A timer keeps the loop running; nothing else here could.
            if not report.waiters.wait(hub, LONGEST if left is None else left):
                return
    finally:
        if report is not None:
            report.stop(socket)


def close_and_wait(socket: zmq.Socket[Any], timeout: float | None, has_sent: bool) -> bool:
    """Close a socket and wait until libzmq has sent its messages, and its endpoints are free.

    The socket's own monitor, if it had one, ends here. If the greenlet is killed, the socket is
    closed anyway.

    Parameters
    ----------
    timeout : float or None
        Seconds after which libzmq gives up messages that it still holds; None for the socket's own
        ``ZMQ_LINGER``, which also applies if it is shorter.
    has_sent : bool
        Whether it has sent anything. If not, this does not wait where a peer over inproc, which may
        be idle, could keep it.

    Returns
    -------
    bool
        Whether libzmq held messages until that time was over, as far as is known: they are lost.
    """
    deadline = Deadline(timeout)
    linger = int(socket.get(zmq.LINGER))
    if timeout is not None:
        limit = int(timeout * 1000)
        linger = limit if linger < 0 else min(linger, limit)
    endpoints = Endpoints.of(socket)
    has_local = endpoints.has_local
    may_hold = may_hold_messages(socket, endpoints) and (has_sent or not has_local)
    if linger == 0 or not may_hold:
        _close_watched(socket, endpoints, linger, Deadline(0))
        return False
    began = time.monotonic()
    _close_watched(socket, endpoints, linger, deadline)
    # libzmq counts in whole milliseconds, and may give up one too early.
    lasted = 1000 * (time.monotonic() - began) + 1
    return has_sent and not has_local and 1 < linger <= lasted


def close_and_free(socket: zmq.Socket[Any], linger: int | None = None) -> None:
    """Close a socket at once, and wait a short time until its endpoints are free.

    A callback of the hub cannot wait, so it does not.
    """
    _close_watched(socket, Endpoints.of(socket), linger, Deadline(0))


def close_on_thread(socket: zmq.Socket[Any], linger: int | None) -> None:
    """Close a socket as `close_and_free` does, on a native thread, and block it meanwhile."""
    endpoints = Endpoints.of(socket)
    endpoints.unbind_names(socket)
    report = _watch(socket) if endpoints.holds_names else None
    socket.close(linger)  # a green one has the hub of greenlets that wait close it
    if report is not None:
        report.released.block(FREE_WITHIN)


def may_hold_messages(socket: zmq.Socket[Any], endpoints: Endpoints) -> bool:
    """Return whether libzmq may hold messages of a socket that it has yet to send.

    Over inproc, sent messages are with the peer already, and the socket is gone only after the
    peer has used its own, which an idle peer does not do.
    """
    return endpoints.is_remote and socket.get(zmq.TYPE) not in SENDS_NOTHING


def _close_watched(
    socket: zmq.Socket[Any], endpoints: Endpoints, linger: int | None, deadline: Deadline
) -> None:
    """Close a socket, and wait for its end until the deadline, or `FREE_WITHIN` if later."""
    endpoints.unbind_names(socket)
    holds_names = endpoints.holds_names
    in_hub = getcurrent() is get_hub_if_exists()
    if socket.context is None or in_hub or (deadline.left() == 0 and not holds_names):
        socket.close(linger)
        return
    report = _watch(socket)
    socket.close(linger)
    if report is not None:
        report.released.wait(_later(deadline, Deadline(FREE_WITHIN if holds_names else 0)))


def _watch(
    socket: zmq.Socket[Any], hub: Any = None, events: int = 0, most: int = 1
) -> Report | None:
    """Have the end of a socket reported, and events; return None if that is impossible."""
    try:
        return Report(hub, socket, events, most)
    except (zmq.ZMQError, OSError, RuntimeError):  # no sockets or threads, or no context any more
        return None


def _later(one: Deadline, other: Deadline) -> float | None:
    """Return the seconds that are left until the later of two deadlines."""
    left = one.left()
    return None if left is None else max(left, other.left() or 0.0)
