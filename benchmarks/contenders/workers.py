"""Many greenlets that ask at a time: over one Requester, over a REQ socket each, over zerorpc."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket as socket
import zmq
import zmq.green
from peer import Peer

from contenders.common import Cell, Clock, free_endpoint, verify
from gzmqsource.workers import Requester

ZERORPC_SERVER = """
import sys, zerorpc
class Echo:
    def echo(self, body):
        return body
server = zerorpc.Server(Echo())
server.bind(sys.argv[1])
server.run()
"""

SILENT_SERVER = """
import sys, zmq
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind(sys.argv[1])
while True:
    socket.recv_multipart()
"""


def router(endpoint: str, count: int) -> Peer:
    """Start the C program that answers, and wait until it listens."""
    peer = Peer("route", "@" + endpoint, count)
    host, port = endpoint.removeprefix("tcp://").split(":")
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            gevent.sleep(0.01)
        else:
            return peer


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
    endpoint = free_endpoint()
    peer = router(endpoint, cell.count)
    requester = Requester.open(endpoint)
    asks = [lambda body: requester.request(body)[0]] * cell.others
    checksum, measured = ask_all(cell, asks)
    return verify(peer, cell, checksum, messages=cell.count, **measured)


def workers_green(cell: Cell) -> dict[str, Any]:
    endpoint = free_endpoint()
    peer = router(endpoint, cell.count)
    context = zmq.green.Context()

    def asking() -> Callable[[bytes], bytes]:
        req = context.socket(zmq.REQ)
        req.connect(endpoint)

        def ask(body: bytes) -> bytes:
            req.send(body)
            reply: bytes = req.recv()
            return reply

        return ask

    checksum, measured = ask_all(cell, [asking() for _ in range(cell.others)])
    return verify(peer, cell, checksum, messages=cell.count, **measured)


def workers_zerorpc(cell: Cell) -> dict[str, Any]:
    import zerorpc

    endpoint = free_endpoint()
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", ZERORPC_SERVER, endpoint])
    try:
        client = zerorpc.Client(timeout=60)
        client.connect(endpoint)
        client.echo(b"x")
        _, measured = ask_all(cell, [client.echo] * cell.others)
    finally:
        server.kill()
        server.wait()
    return {"messages": cell.count, **measured}


def outstanding(cell: Cell) -> dict[str, Any]:
    """Memory of requests that nobody answers, without what libzmq holds of them."""
    endpoint = free_endpoint()
    server = subprocess.Popen([sys.executable, "-c", SILENT_SERVER, endpoint])
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
        server.kill()
        server.wait()
    return {"bytes": bytes_each, "messages": cell.count}


def resident() -> int:
    """Give the bytes of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
