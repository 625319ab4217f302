"""Many busy sockets in one hub: one peer sends to all of them in turn."""

from __future__ import annotations

from typing import Any

import gevent
import zmq
import zmq.green
from peer import Peer

from contenders.common import Cell, Clock, verify
from gzmqsource import Source


def start_peer(cell: Cell, sockets: list[Any]) -> Peer:
    endpoints = ",".join(socket.LAST_ENDPOINT.decode() for socket in sockets)
    return Peer("send", endpoints, cell.count, cell.size, cell.frames)


def busy(cell: Cell) -> dict[str, Any]:
    checksum = 0

    def handle(message: list[bytes]) -> None:
        nonlocal checksum
        checksum += message[-1][0]

    sources = [Source.open(zmq.PULL, handle, bind=cell.address()) for _ in range(cell.others)]
    peer = start_peer(cell, [source.socket for source in sources])
    for source in sources:
        source.start()

    def received() -> int:
        return sum(source.stats().received for source in sources)

    while not (before := received()):
        gevent.sleep(0.0002)
    clock = Clock()
    while received() < cell.count:
        gevent.sleep(0.005)
    measured = clock.read()
    gevent.sleep(0.01)  # the last batches are handled
    return verify(peer, cell, checksum, messages=cell.count - before, **measured)


def busy_green(cell: Cell) -> dict[str, Any]:
    context = zmq.green.Context()
    sockets = [context.socket(zmq.PULL) for _ in range(cell.others)]
    for socket in sockets:
        socket.bind(cell.address())
    started: list[Clock] = []

    def pull(socket: Any, count: int) -> int:
        checksum = 0
        for _ in range(count):
            checksum += socket.recv_multipart()[-1][0]
            if not started:
                started.append(Clock())
        return checksum

    def share(index: int) -> int:
        return len(range(index, cell.count, cell.others))

    peer = start_peer(cell, sockets)
    pulling = [gevent.spawn(pull, socket, share(i)) for i, socket in enumerate(sockets)]
    gevent.joinall(pulling, raise_error=True)
    measured = started[0].read()
    return verify(peer, cell, sum(greenlet.get() for greenlet in pulling), **measured)
