"""Libraries that call back: pyzmq's ZMQStream, and aiozmq."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import aiozmq
import zmq
from zmq.eventloop.zmqstream import ZMQStream

from contenders.common import Cell, Clock, sent, verify


class Counter:
    """Counts and sums what it is called with, and tells when all has come."""

    def __init__(self, cell: Cell) -> None:
        self.all_here = asyncio.Event()
        self.clock: Clock | None = None
        self._cell = cell
        self._left = cell.count
        self._checksum = 0

    def __call__(self, message: list[bytes]) -> None:
        if self.clock is None:
            self.clock = Clock()
        self._checksum += message[-1][0]
        self._left -= 1
        if not self._left:
            self.all_here.set()

    async def result(self, peer: Any) -> dict[str, Any]:
        await self.all_here.wait()
        assert self.clock is not None
        measured = self.clock.read()
        return verify(peer, self._cell, self._checksum, **measured)


def stream_of(kind: int, cell: Cell) -> ZMQStream:
    socket = zmq.Context().socket(kind)
    socket.bind(cell.address())
    return ZMQStream(socket)


def receive_stream(cell: Cell) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        stream, count = stream_of(zmq.PULL, cell), Counter(cell)
        stream.on_recv(count)
        return await count.result(cell.peer("send", stream.socket))

    return asyncio.run(main())


def send_stream(cell: Cell) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        stream = stream_of(zmq.PUSH, cell)
        messages, all_sent = cell.messages(), asyncio.Event()

        def send_next(*_: Any) -> None:
            # A few at a time, for its queue has no bound.
            for message in itertools.islice(messages, 100):
                stream.send_multipart(message)
            if not stream.sending():
                all_sent.set()

        def when_sent(*_: Any) -> None:
            if not stream.sending():
                send_next()

        stream.on_send(when_sent)
        peer = cell.peer("receive", stream.socket)
        clock = Clock()
        send_next()
        await all_sent.wait()
        stream.flush()
        return sent(peer, cell, clock)

    return asyncio.run(main())


def roundtrip_stream(cell: Cell) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        stream, count = stream_of(zmq.REQ, cell), Counter(cell)

        def answered(message: list[bytes]) -> None:
            count(message)
            send_next(messages, stream.send_multipart)

        messages = cell.messages()
        stream.on_recv(answered)
        peer = cell.peer("echo", stream.socket)
        send_next(messages, stream.send_multipart)
        return await count.result(peer)

    return asyncio.run(main())


def send_next(messages: Iterator[list[bytes]], send: Callable[[list[bytes]], object]) -> None:
    message = next(messages, None)
    if message is not None:
        send(message)


class Protocol(aiozmq.ZmqProtocol):
    """Hands messages on, and waits as aiozmq's flow control says."""

    def __init__(self, received: Callable[[list[bytes]], None]) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.msg_received = received

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


def with_aiozmq(
    kind: int, cell: Cell, role: str, main: Callable[..., Coroutine[Any, Any, dict[str, Any]]]
) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        count = Counter(cell)
        received: Callable[[list[bytes]], None] = count
        messages = cell.messages()
        if kind == zmq.REQ:

            def received(message: list[bytes]) -> None:
                count(message)
                send_next(messages, transport.write)

        transport, protocol = await aiozmq.create_zmq_connection(
            lambda: Protocol(received), kind, bind=cell.address()
        )
        socket = transport.get_extra_info("zmq_socket")
        return await main(transport, protocol, messages, count, cell.peer(role, socket))

    return asyncio.new_event_loop().run_until_complete(run())


def receive_aiozmq(cell: Cell) -> dict[str, Any]:
    async def main(_: Any, __: Any, ___: Any, count: Counter, peer: Any) -> dict[str, Any]:
        return await count.result(peer)

    return with_aiozmq(zmq.PULL, cell, "send", main)


def send_aiozmq(cell: Cell) -> dict[str, Any]:
    async def main(
        transport: Any, protocol: Protocol, messages: Any, _: Any, peer: Any
    ) -> dict[str, Any]:
        clock = Clock()
        for message in messages:
            await protocol.writable.wait()
            transport.write(message)
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        return sent(peer, cell, clock)

    return with_aiozmq(zmq.PUSH, cell, "receive", main)


def roundtrip_aiozmq(cell: Cell) -> dict[str, Any]:
    async def main(
        transport: Any, _: Any, messages: Any, count: Counter, peer: Any
    ) -> dict[str, Any]:
        send_next(messages, transport.write)
        return await count.result(peer)

    return with_aiozmq(zmq.REQ, cell, "echo", main)
