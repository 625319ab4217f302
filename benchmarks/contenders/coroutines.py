"""zmq.asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import zmq
import zmq.asyncio

from contenders.common import Cell, Clock, sent, verify


def bound(kind: int, cell: Cell) -> zmq.asyncio.Socket:
    socket = zmq.asyncio.Context().socket(kind)
    socket.bind(cell.address())
    return socket


def receive(cell: Cell) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        socket = bound(zmq.PULL, cell)
        peer = cell.peer("send", socket)
        checksum = (await socket.recv_multipart())[-1][0]
        clock = Clock()
        for _ in range(cell.count - 1):
            checksum += (await socket.recv_multipart())[-1][0]
        return verify(peer, cell, checksum, **clock.read())

    return asyncio.run(main())


def send(cell: Cell) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        socket = bound(zmq.PUSH, cell)
        peer = cell.peer("receive", socket)
        clock = Clock()
        for message in cell.messages():
            await socket.send_multipart(message)
        return sent(peer, cell, clock)

    return asyncio.run(main())


def roundtrip(cell: Cell) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        socket = bound(zmq.REQ, cell)
        peer = cell.peer("echo", socket)
        checksum = 0
        clock = None
        for message in cell.messages():
            await socket.send(message[0])
            checksum += (await socket.recv())[0]
            clock = clock or Clock()
        assert clock is not None
        return verify(peer, cell, checksum, **clock.read())

    return asyncio.run(main())
