"""A flood into a server whose handlers wait: how many messages pile up in its memory, over time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import psutil
import zmq
import zmq.green
from gevent.lock import Semaphore

from contenders.common import Cell, verify
from gzmqsource import Source

#: Seconds that a handler waits, and how many may do so at a time.
WORK, HANDLERS = 0.002, 20

#: Seconds between two samples.
SAMPLE = 0.02


class Sampler:
    """Notes every so often how many messages were taken and not yet handled."""

    def __init__(self, taken: Callable[[], int]) -> None:
        self.handled = self.checksum = 0
        self.held: list[int] = []
        self._taken = taken
        self._memory = psutil.Process().memory_info().rss
        self._began = time.perf_counter()
        self.most_memory = 0
        self._sampling = gevent.spawn(self._sample)

    def handle(self, message: list[bytes]) -> None:
        gevent.sleep(WORK)
        self.handled += 1
        self.checksum += message[-1][0]

    def result(self, cell: Cell, peer: Any) -> dict[str, Any]:
        while self.handled < cell.count:
            gevent.sleep(SAMPLE)
        seconds = time.perf_counter() - self._began
        self._sampling.kill()
        measured = {
            "seconds": seconds,
            "held": self.held,
            "most_held": max(self.held),
            "memory": self.most_memory,
        }
        return verify(peer, cell, self.checksum, **measured)

    def _sample(self) -> None:
        while True:
            self.held.append(self._taken() - self.handled)
            grown = psutil.Process().memory_info().rss - self._memory
            self.most_memory = max(self.most_memory, grown)
            gevent.sleep(SAMPLE)


def pressure(cell: Cell) -> dict[str, Any]:
    """Give the source a pool."""

    def handle(message: list[bytes]) -> None:
        sampler.handle(message)

    source = Source.open(zmq.PULL, handle, bind=cell.address(), spawn=HANDLERS)
    sampler = Sampler(lambda: source.stats().received)
    peer = cell.peer("send", source.socket)
    source.start()
    return sampler.result(cell, peer)


def pressure_green(cell: Cell) -> dict[str, Any]:
    """Spawn a greenlet for each message; as many as there are handlers work at a time."""
    socket = zmq.green.Context().socket(zmq.PULL)
    socket.bind(cell.address())
    taken = 0
    free = Semaphore(HANDLERS)

    def handle(message: list[bytes]) -> None:
        with free:
            sampler.handle(message)

    def receive() -> None:
        nonlocal taken
        while taken < cell.count:
            message = socket.recv_multipart()
            taken += 1
            gevent.spawn(handle, message)

    sampler = Sampler(lambda: taken)
    peer = cell.peer("send", socket)
    gevent.spawn(receive)
    return sampler.result(cell, peer)
