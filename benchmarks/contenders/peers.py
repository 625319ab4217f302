"""A peer that reads what a server sends it, beside others that do not and are full."""

from __future__ import annotations

import time
from typing import Any

import gevent
import zmq
from peer import Peer

from contenders.common import Cell, allow_files, heard_out
from gzmqsource import Source, green
from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder

#: The high-water mark of the server, and what waits for each full peer beyond it.
MARK, QUEUED = 100, 2

#: Requests of a client that reads no reply, of 1 KB each: more than the kernel, libzmq and the
#: responder keep for it.
REQUESTS = 60

#: Seconds that pass before an idle process is looked at, and for which it is.
SETTLE, IDLE = 1.0, 1.0


def measure(cell: Cell, endpoint: str) -> dict[str, Any]:
    """Give the CPU of an idle process, and of a request of a client that reads its replies."""
    gevent.sleep(SETTLE)
    wall, cpu = time.perf_counter(), time.process_time()
    gevent.sleep(IDLE)
    idle = (time.process_time() - cpu) / (time.perf_counter() - wall)
    ping = Peer("ping", endpoint, 1_000_000, 32, 0)
    gevent.sleep(0.2)  # until it is connected
    cpu, began = time.thread_time(), time.perf_counter()
    gevent.sleep(cell.seconds)
    cpu, seconds = time.thread_time() - cpu, time.perf_counter() - began
    asked = heard_out(ping)
    # By its own rate: it has asked before this looked, and after.
    messages = asked["messages"] / asked["seconds"] * seconds
    return {
        "idle_cpu": idle,
        "thread_cpu": cpu,
        "seconds": seconds,
        "messages": messages,
        "delay_99": asked["delay_99"],
    }


def full_peers(cell: Cell, context: Any) -> list[Any]:
    """Connect peers that read nothing."""
    dealers = []
    for index in range(cell.others):
        dealer = context.socket(zmq.DEALER)
        dealer.routing_id = b"peer %d" % index
        dealer.rcvhwm = 1
        dealer.connect("inproc://server")
        dealers.append(dealer)
    return dealers


def context_of(cell: Cell) -> zmq.Context[Any]:
    allow_files()
    context: zmq.Context[Any] = zmq.Context()
    context.max_sockets = cell.others + 10
    return context


def peers(cell: Cell) -> dict[str, Any]:
    """Measure a source with a lane for each peer."""
    context = context_of(cell)
    source: Source = Source.open(
        zmq.ROUTER,
        lambda message: source.send(message),
        bind=["inproc://server", cell.address()],
        context=context,
        router_mandatory=1,
        sndhwm=MARK,
    )
    endpoint = source.socket.get_string(zmq.LAST_ENDPOINT)
    dealers = full_peers(cell, context)
    for dealer in dealers:
        # The pipe takes as many as the marks of both its ends.
        for _ in range(MARK + 1 + QUEUED):
            source.send_nowait([dealer.routing_id, b"x"])
    source.start()
    result = measure(cell, endpoint)
    depth = source.stats().outbox_depth
    if depth != QUEUED * cell.others:
        raise SystemExit(f"{depth} messages wait for {cell.others} full peers")
    return result


def peers_green(cell: Cell) -> dict[str, Any]:
    """Measure a socket of the drop-in, with a greenlet that waits to send to each full peer."""
    context = context_of(cell)
    socket: Any = green.Socket(context, zmq.ROUTER)
    socket.router_mandatory = 1
    socket.sndhwm = MARK
    socket.bind("inproc://server")
    socket.bind(cell.address())
    dealers = full_peers(cell, context)
    for dealer in dealers:
        for _ in range(MARK + 1):
            socket.send_multipart([dealer.routing_id, b"x"], zmq.NOBLOCK)

    def serve() -> None:
        while True:
            socket.send_multipart(socket.recv_multipart())

    waiting = [gevent.spawn(socket.send_multipart, [one.routing_id, b"x"]) for one in dealers]
    gevent.spawn(serve)
    result = measure(cell, socket.LAST_ENDPOINT.decode())
    if any(sender.dead for sender in waiting):
        raise SystemExit("not every peer is full")
    return result


def peers_responder(cell: Cell) -> dict[str, Any]:
    """Measure a responder beside clients that have asked and never read."""
    allow_files()
    responder = Responder.open(
        lambda payload: payload, bind=cell.address(), sndhwm=10, sndbuf=4096, outbox=10
    )
    source = responder.source
    endpoint = source.socket.get_string(zmq.LAST_ENDPOINT)
    responder.start()
    clog = Peer("clog", endpoint, REQUESTS, 1024, cell.others) if cell.others else None
    wait_until(lambda: source.stats().received == REQUESTS * cell.others, 60)
    result = measure(cell, endpoint)
    if clog is not None:
        # The kernel takes some more in the meantime.
        if source.stats().outbox_depth < 5 * cell.others:
            raise SystemExit(f"{source.stats()}: some clients are not full")
        clog.finish()
    return result
