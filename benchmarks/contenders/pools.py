"""Where handlers run: in order, in as many greenlets, in a pool; and what a message costs there."""

from __future__ import annotations

import itertools
from typing import Any

import gevent
import zmq
from gevent.pool import Pool
from peer import Peer

from contenders.common import Cell, Clock
from gzmqsource import Source
from gzmqsource.workers import Responder

#: How many handlers run at a time, and how many requests are outstanding.
HANDLERS, OUTSTANDING = 100, 500

#: Seconds that a handler waits.
WAIT = 0.001


class Handler:
    """Counts messages, and waits at each so-many-th one."""

    def __init__(self, every: int) -> None:
        self.count = 0
        self._numbers = itertools.count(1)
        self._every = every

    def __call__(self, message: list[bytes]) -> Any:
        if self._every and not next(self._numbers) % self._every:
            gevent.sleep(WAIT)
        self.count += 1


def spawn_of(cell: Cell) -> Any:
    return {"None": None, "int": HANDLERS, "Pool": Pool(HANDLERS)}[cell.spawn]


def measure(cell: Cell, handler: Handler) -> dict[str, Any]:
    while not handler.count:
        gevent.sleep(0.001)
    gevent.sleep(0.1)
    before = handler.count
    clock = Clock()
    gevent.sleep(cell.seconds)
    return clock.read() | {"messages": handler.count - before}


def pools(cell: Cell) -> dict[str, Any]:
    handler = Handler(cell.every)
    source = Source.open(zmq.PULL, handler, bind=cell.address(), spawn=spawn_of(cell))
    flood = Peer("flood", source.socket.get_string(zmq.LAST_ENDPOINT), 0, cell.size)
    source.start()
    result = measure(cell, handler)
    flood.dismiss()
    return result


def pools_responder(cell: Cell) -> dict[str, Any]:
    handler = Handler(cell.every)

    def answer(payload: list[bytes]) -> list[bytes]:
        handler(payload)
        return payload

    responder = Responder.open(answer, bind=cell.address(), spawn=spawn_of(cell))
    endpoint = responder.source.socket.get_string(zmq.LAST_ENDPOINT)
    asking = Peer("window", endpoint, 0, cell.size, OUTSTANDING)
    responder.start()
    result = measure(cell, handler)
    asking.dismiss()
    return result
