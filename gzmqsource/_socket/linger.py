"""Waiting until libzmq has sent what it holds of a socket, after that was closed.

``zmq_close`` returns at once. libzmq keeps sending what it holds for ``ZMQ_LINGER``, and pyzmq
does not wait for that when the interpreter exits. The monitor of a socket ends when the socket is
gone for good: everything it held was sent or given up. This one reports no events, which libzmq
would wait to send: its end is that of the pipe, after which the reader cannot be written to.
"""

from __future__ import annotations

import itertools
from typing import Any

import zmq
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.deadline import Deadline
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
    deadline = Deadline(timeout)
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
        PlainSocket.monitor(socket, address, 0)
    except BaseException:
        monitor.close()
        raise
    waited_for = HubSocket(monitor)
    try:
        socket.close(linger)
        while waited_for.transfer.events() and waited_for.wait_readable(deadline.left()):
            pass
    finally:
        waited_for.release(monitor.close)


def _holds_messages(socket: zmq.Socket[Any]) -> bool:
    """Return whether libzmq may hold messages of a socket that it has yet to send.

    Over inproc, sent messages are with the peer already, and the socket is gone only after the
    peer has used its own, which an idle peer does not do.
    """
    endpoint: Any = socket.get(zmq.LAST_ENDPOINT)
    is_remote = endpoint and not endpoint.startswith(b"inproc:")
    return bool(is_remote) and socket.get(zmq.TYPE) not in _SENDS_NOTHING
