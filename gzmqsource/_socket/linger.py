"""Waiting until libzmq has released a socket.

``zmq_close`` returns at once; libzmq keeps sending what it holds for ``ZMQ_LINGER``, and pyzmq
does not wait for that when the interpreter exits. A socket's monitor reports ``MONITOR_STOPPED``
when the socket is gone for good: everything it held was sent or given up.

That event must have a reader: libzmq sends it without a time limit, on the thread that releases
closed sockets, and if nothing reads it no socket of the context is released any more. So a greenlet
that does not wait to the end leaves the reader to a thread, which no hub can block.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import zmq
from zmq.backend import zmq_poll
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.threads import start_thread
from gzmqsource._socket.hub_socket import HubSocket

_serial = itertools.count()

_SENDS_NOTHING = frozenset({zmq.PULL, zmq.SUB})


def close_and_wait(socket: zmq.Socket[Any], timeout: float | None) -> None:
    """Close a socket and wait until libzmq has sent what it holds.

    The socket's own monitor, if it had one, ends here. If the greenlet is killed, the socket is
    closed all the same.

    Parameters
    ----------
    timeout : float or None
        Seconds after which libzmq gives up what it still holds; None for the socket's own
        ``ZMQ_LINGER``, which also holds if it is shorter.
    """
    linger = int(socket.get(zmq.LINGER))
    if timeout is not None:
        limit = int(timeout * 1000)
        linger = limit if linger < 0 else min(linger, limit)
    if linger == 0 or socket.context is None or not _holds_messages(socket):
        socket.close(linger)
        return
    address = f"inproc://gzmqsource-linger-{next(_serial)}"
    monitor = socket.context.socket(zmq.PAIR)
    try:
        monitor.connect(address)
        socket.monitor(address, zmq.EVENT_MONITOR_STOPPED)
    except BaseException:
        monitor.close()
        raise
    waited_for = HubSocket(monitor)
    socket.close(linger)
    stopped: list[list[bytes]] = []
    try:
        waited_for.receive(stopped, 1, 1)
        while not stopped and waited_for.wait_readable(timeout):
            waited_for.receive(stopped, 1, 1)
    finally:
        waited_for.release(
            monitor.close if stopped else lambda: start_thread(_close_once_stopped, (monitor,))
        )


def _close_once_stopped(monitor: zmq.Socket[Any]) -> None:
    """Wait, in a native thread, for the event or for the end of the context, and close."""
    with contextlib.suppress(zmq.ZMQError):
        zmq_poll([(monitor, zmq.POLLIN)], -1)
    PlainSocket.close(monitor)


def _holds_messages(socket: zmq.Socket[Any]) -> bool:
    """Return whether libzmq may hold messages of a socket that it has yet to send.

    Over inproc, sent messages are with the peer already, and the socket is gone only after the
    peer has used its own, which an idle peer does not do.
    """
    endpoint: Any = socket.get(zmq.LAST_ENDPOINT)
    is_remote = endpoint and not endpoint.startswith(b"inproc:")
    return bool(is_remote) and socket.get(zmq.TYPE) not in _SENDS_NOTHING
