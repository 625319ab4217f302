"""A flood into one socket, and what it does to a ticking greenlet and to an echo on another."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import gevent
import zmq
import zmq.asyncio
import zmq.green
from peer import Peer

from contenders.common import Cell, Clock, verify
from gzmqsource import Source

TICK = 0.001

#: Round trips of the echo's peer, and the pause between them in microseconds.
PINGS, PAUSE = 300, 1000


class Unbounded(Source):
    """A source whose turn does not end."""

    max_messages = 1 << 40
    max_seconds = 1e9


def percentile(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]


def peers(cell: Cell, flooded: Any, echoing: Any) -> tuple[Peer, Peer]:
    """Start both; the flood has the lowest priority, for the machine's fairness is not asked."""
    ping = Peer("ping", echoing.LAST_ENDPOINT.decode(), PINGS, 32, PAUSE)
    return cell.peer("send", flooded, nice=19), ping


def result(
    cell: Cell, flood: Peer, ping: Peer, checksum: int, late: list[float], **measured: Any
) -> dict[str, Any]:
    echo = ping.finish()
    verify(flood, cell, checksum)
    return measured | {
        "tick_99": percentile(late, 99),
        "tick_max": max(late),
        "echo_99": echo["delay_99"],
        "echo_max": echo["delay_max"],
    }


def tick(late: list[float]) -> None:
    while True:
        before = time.perf_counter()
        try:
            gevent.sleep(TICK)
        finally:  # also the one that never came
            late.append(max(0, time.perf_counter() - before - TICK))


def fairness(cell: Cell, kind: type[Source] = Source) -> dict[str, Any]:
    checksum = 0
    late: list[float] = []
    clock: Clock | None = None

    def handle(message: list[bytes]) -> None:
        nonlocal checksum, clock
        if clock is None:  # a turn that does not end may take them all
            late.clear()
            clock = Clock()
        checksum += message[-1][0]

    def answer(message: list[bytes]) -> None:
        echo.send(message)

    source = kind.open(zmq.PULL, handle, bind=cell.address())
    echo = Source.open(zmq.REP, answer, bind=cell.address())
    flood, ping = peers(cell, source.socket, echo.socket)
    ticking = gevent.spawn(tick, late)
    source.start()
    echo.start()
    while source.stats().received < cell.count or source.stats().in_hand:
        gevent.sleep(0.001)
    assert clock is not None
    measured = clock.read()
    ticking.kill()
    while not ping.ended():
        gevent.sleep(0.01)
    return result(cell, flood, ping, checksum, late, **measured)


def fairness_unbounded(cell: Cell) -> dict[str, Any]:
    return fairness(cell, Unbounded)


def fairness_green(cell: Cell) -> dict[str, Any]:
    late: list[float] = []
    context = zmq.green.Context()
    flooded, echoing = context.socket(zmq.PULL), context.socket(zmq.REP)
    flooded.bind(cell.address())
    echoing.bind(cell.address())

    def answer() -> None:
        while True:
            echoing.send_multipart(echoing.recv_multipart())

    gevent.spawn(answer)
    flood, ping = peers(cell, flooded, echoing)
    checksum = flooded.recv_multipart()[-1][0]
    clock = Clock()
    ticking = gevent.spawn(tick, late)
    gevent.sleep(0)
    for _ in range(cell.count - 1):
        checksum += flooded.recv_multipart()[-1][0]
    measured = clock.read()
    ticking.kill()
    while not ping.ended():
        gevent.sleep(0.01)
    return result(cell, flood, ping, checksum, late, **measured)


def fairness_asyncio(cell: Cell) -> dict[str, Any]:
    late: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            try:
                await asyncio.sleep(TICK)
            finally:
                late.append(max(0, time.perf_counter() - before - TICK))

    async def answer(echoing: Any) -> None:
        while True:
            await echoing.send_multipart(await echoing.recv_multipart())

    async def main() -> dict[str, Any]:
        context = zmq.asyncio.Context()
        flooded, echoing = context.socket(zmq.PULL), context.socket(zmq.REP)
        flooded.bind(cell.address())
        echoing.bind(cell.address())
        answering = asyncio.create_task(answer(echoing))
        flood, ping = peers(cell, flooded, echoing)
        checksum = (await flooded.recv_multipart())[-1][0]
        clock = Clock()
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        for _ in range(cell.count - 1):
            checksum += (await flooded.recv_multipart())[-1][0]
        measured = clock.read()
        ticking.cancel()
        while not ping.ended():
            await asyncio.sleep(0.01)
        answering.cancel()
        return result(cell, flood, ping, checksum, late, **measured)

    return asyncio.run(main())
