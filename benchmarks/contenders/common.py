"""What the contenders share: addresses, the messages to send, the clock, and the final check."""

from __future__ import annotations

import atexit
import itertools
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gevent
from peer import Peer, number


@dataclass(frozen=True)
class Cell:
    """What is measured: so many messages of so many frames of so many bytes.

    Where a run is bounded in time it has `seconds`. A handler takes `work` seconds of CPU.
    """

    transport: str = "tcp"
    size: int = 32
    frames: int = 1
    count: int = 5000
    others: int = 0
    seconds: float = 0.5
    work: float = 0.0
    #: Where handlers run: None, int or Pool; and each so-many-th of their calls waits.
    spawn: str = "None"
    every: int = 0
    #: Whether one of many has a slow handler.
    slow: bool = False
    #: Who asks, where that makes a difference, and how many requests are outstanding.
    asker: str = ""
    outstanding: int = 100
    #: What `measure.run` has set ``GEVENT_LOOP`` and ``GZMQSOURCE_TRANSFER`` to.
    loop: str = ""
    transfer: str = ""

    def address(self) -> str:
        """Give an address to bind to."""
        if self.transport == "ipc":
            folder = tempfile.mkdtemp(prefix="gzmqsource-")
            atexit.register(shutil.rmtree, folder)
            return f"ipc://{folder}/socket"
        return {"tcp": "tcp://127.0.0.1:*", "inproc": "inproc://benchmark"}[self.transport]

    def peer(self, role: str, socket: Any, **options: Any) -> Peer:
        """Start the other end of a bound socket."""
        context = socket.context if self.transport == "inproc" else None
        endpoint = socket.LAST_ENDPOINT.decode()
        return Peer(role, endpoint, self.count, self.size, self.frames, context, **options)

    def messages(self) -> Iterator[list[bytes]]:
        """Give the messages to send, in frames that were made before."""
        bodies = [bytes([number(index)]) * self.size for index in range(13)]
        once = [
            [bodies[(index * self.frames + frame) % 13] for frame in range(self.frames)]
            for index in range(13)
        ]
        return itertools.islice(itertools.cycle(once), self.count)


class Clock:
    """Seconds on the wall, of CPU of this process with libzmq's threads, and of this thread's."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.process_time()
        self._thread_cpu = time.thread_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
            "thread_cpu": time.thread_time() - self._thread_cpu,
        }


def work(seconds: float) -> None:
    """Compute for so long, by the CPU time of this thread."""
    if seconds:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass


def allow_files() -> None:
    """Allow this process as many descriptors as it may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def heard_out(ping: Peer) -> dict[str, Any]:
    """End a peer that asks, while the hub goes on to answer, and give what it measured."""
    ping.dismiss()
    while not ping.ended():
        gevent.sleep(0.001)
    return ping.finish()


def verify(peer: Peer, cell: Cell, checksum: int, **measured: Any) -> dict[str, Any]:
    """Compare both ends; a run that lost, doubled or tore a message is an error."""
    result = peer.finish()
    if (result["messages"], result["checksum"]) != (cell.count, checksum):
        raise SystemExit(
            f"of {cell.count} messages with checksum {checksum}, the other end counted {result}"
        )
    return measured or result


def sent(peer: Peer, cell: Cell, clock: Clock) -> dict[str, Any]:
    """Give the result of sending: by the receiver's clock, from its first message to its last."""
    cpu = clock.read()["cpu"]
    last = cell.frames - 1
    checksum = sum(number(index * cell.frames + last) for index in range(cell.count))
    return verify(peer, cell, checksum) | {"cpu": cpu}
