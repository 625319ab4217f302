"""Messages from one C program to another through a proxy: in this process, or in a C program."""

from __future__ import annotations

from typing import Any

import gevent
import zmq
from peer import Peer

from contenders.common import Cell
from contenders.fairness import percentile, tick
from gzmqsource.proxy import Proxy


def through(cell: Cell, front: str, back: str) -> dict[str, Any]:
    """Send through a proxy that is or will be there; tell the rate, and how late this hub was."""
    late: list[float] = []
    ticking = gevent.spawn(tick, late)
    receiver = Peer("receive", back, cell.count)
    sender = Peer("send", front, cell.count, cell.size, cell.frames)
    while not receiver.ended():
        gevent.sleep(0.01)
    received, sent = receiver.finish(), sender.finish()
    if received["checksum"] != sent["checksum"]:
        raise SystemExit(f"the two ends differ: {received}, {sent}")
    ticking.kill()
    return {
        "messages": cell.count - 1,
        "seconds": received["seconds"],
        "tick_99": percentile(late, 99),
        "tick_max": max(late),
    }


def proxy(cell: Cell) -> dict[str, Any]:
    context: zmq.Context[Any] = zmq.Context()
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    for socket in (front, back):
        socket.bind("tcp://127.0.0.1:*")
    ends = [socket.LAST_ENDPOINT.decode() for socket in (front, back)]
    with Proxy(front, back) as running:
        result = through(cell, *ends)
        frames = running.stats().backend_frames_out
        if frames != cell.count * cell.frames:
            raise SystemExit(f"{frames} frames passed, of {cell.count} messages")
    return result


def proxy_c(cell: Cell) -> dict[str, Any]:
    running = Peer("proxy", "@tcp://127.0.0.1:*,@tcp://127.0.0.1:*", 0)
    return through(cell, *running.endpoints)
