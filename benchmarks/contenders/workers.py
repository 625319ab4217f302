"""Many greenlets that ask at a time: over one Requester, over a REQ socket each, over zerorpc."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import zmq
import zmq.green
from peer import Peer

from contenders.common import Cell, Clock, verify
from gzmqsource.workers import Requester

ZERORPC_SERVER = """
import zerorpc
class Echo:
    def echo(self, body):
        return body
server = zerorpc.Server(Echo())
server.bind("tcp://127.0.0.1:*")
print(server._events._socket.LAST_ENDPOINT.decode(), flush=True)
server.run()
"""

SILENT_SERVER = """
import zmq
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind("tcp://127.0.0.1:*")
print(socket.LAST_ENDPOINT.decode(), flush=True)
while True:
    socket.recv_multipart()
"""


def server(program: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server of Python; give where it has bound, too."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def ask_all(cell: Cell, asks: list[Callable[[bytes], bytes]]) -> tuple[int, dict[str, float]]:
    """Ask from a greenlet for each function; give the checksum, and what was measured."""
    bodies = iter(cell.messages())

    def work(ask: Callable[[bytes], bytes], bodies: Iterator[list[bytes]]) -> int:
        checksum = 0
        for (body,) in bodies:
            reply = ask(body)
            if reply != body:
                raise SystemExit("the answer to another request")
            checksum += reply[0]
        return checksum

    clock = Clock()
    greenlets = [gevent.spawn(work, ask, bodies) for ask in asks]
    gevent.joinall(greenlets, raise_error=True)
    return sum(greenlet.get() for greenlet in greenlets), clock.read()


def workers(cell: Cell) -> dict[str, Any]:
    peer = Peer("route", "@tcp://127.0.0.1:*", cell.count)
    requester = Requester.open(peer.endpoints[0])
    asks = [lambda body: requester.request(body)[0]] * cell.others
    checksum, measured = ask_all(cell, asks)
    return verify(peer, cell, checksum, messages=cell.count, **measured)


def workers_green(cell: Cell) -> dict[str, Any]:
    peer = Peer("route", "@tcp://127.0.0.1:*", cell.count)
    context = zmq.green.Context()

    def asking() -> Callable[[bytes], bytes]:
        req = context.socket(zmq.REQ)
        req.connect(peer.endpoints[0])

        def ask(body: bytes) -> bytes:
            req.send(body)
            reply: bytes = req.recv()
            return reply

        return ask

    checksum, measured = ask_all(cell, [asking() for _ in range(cell.others)])
    return verify(peer, cell, checksum, messages=cell.count, **measured)


def workers_zerorpc(cell: Cell) -> dict[str, Any]:
    import zerorpc

    process, endpoint = server(ZERORPC_SERVER)
    try:
        client = zerorpc.Client(timeout=60)
        client.connect(endpoint)
        client.echo(b"x")
        _, measured = ask_all(cell, [client.echo] * cell.others)
    finally:
        process.kill()
        process.wait()
    return {"messages": cell.count, **measured}


def outstanding(cell: Cell) -> dict[str, Any]:
    """Memory of requests that nobody answers, without what libzmq holds of them."""
    process, endpoint = server(SILENT_SERVER)
    try:
        requester = Requester.open(endpoint)
        results = [requester.submit(b"x" * cell.size, timeout=60) for _ in range(2000)]
        gevent.sleep(0.5)
        before = resident()
        for _ in range(cell.count):
            results.append(requester.submit(b"x" * cell.size, timeout=60))
        gevent.sleep(0.5)
        bytes_each = (resident() - before) / cell.count
    finally:
        process.kill()
        process.wait()
    return {"bytes": bytes_each, "messages": cell.count}


def resident() -> int:
    """Give the bytes of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
