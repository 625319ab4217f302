"""Many flooded sockets in one hub: their rate and shares, and how late everything else is."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import gevent
import zmq
from gevent.pool import Pool
from peer import Peer

from contenders.common import Cell, Clock, allow_files, heard_out, work
from contenders.fairness import PAUSE, TICK, percentile
from gzmqsource import Source, green

#: Seconds of CPU that the handler of the first socket takes, if the cell asks for a slow one.
SLOW = 0.005

#: Seconds within which every socket has its first message; beyond them it counts as starved.
PATIENCE = 20

#: The most round trips of a peer that asks for echoes.
PINGS = 100_000

#: Starts to serve a socket: it is passed a context, the address, and the handler. It gives the
#: socket, and what ends it.
Serve = Callable[[Any, str, Callable[[Any], None]], tuple[Any, Callable[[], object]]]


def serve_source(
    context: Any, address: str, handle: Callable[[Any], None], spawn: Any = None
) -> tuple[Any, Callable[[], object]]:
    spawn = spawn() if isinstance(spawn, functools.partial) else spawn
    source = Source.open(zmq.PULL, handle, bind=address, context=context, spawn=spawn)
    source.start()
    return source.socket, source.close


def serve_pulled(
    context: Any, address: str, handle: Callable[[Any], None]
) -> tuple[Any, Callable[[], object]]:
    source = Source.open(zmq.PULL, bind=address, context=context)

    def pull() -> None:
        for message in source:
            handle(message)

    gevent.spawn(pull)
    return source.socket, source.close


def serve_green(
    context: Any, address: str, handle: Callable[[Any], None]
) -> tuple[Any, Callable[[], object]]:
    socket: Any = green.Socket(context, zmq.PULL)
    socket.bind(address)

    def receive() -> None:
        while True:
            handle(socket.recv())

    return socket, gevent.spawn(receive).kill


def many(cell: Cell, serve: Serve) -> dict[str, Any]:
    allow_files()
    context: zmq.Context[Any] = zmq.Context()
    context.max_sockets = cell.others + 10
    counts = [0] * cell.others

    def handler(index: int) -> Callable[[Any], None]:
        seconds = SLOW if cell.slow and not index else cell.work

        def handle(_: Any) -> None:
            counts[index] += 1
            work(seconds)

        return handle

    served: list[tuple[Any, Callable[[], object]]] = [
        serve(context, cell.address(), handler(index)) for index in range(cell.others)
    ]
    echo: Source = Source.open(zmq.REP, lambda message: echo.send(message), bind=cell.address())
    echo.start()
    endpoints = ",".join(socket.LAST_ENDPOINT.decode() for socket, _ in served)
    flood = Peer("flood", endpoints, 0, cell.size, nice=19)
    deadline = time.monotonic() + PATIENCE
    while not all(counts) and time.monotonic() < deadline:
        gevent.sleep(0.01)
    result = measure(cell, echo.socket.get_string(zmq.LAST_ENDPOINT), counts)
    # What is queued now would be handled for seconds.
    for _, end in served:
        end()
    flood.finish()
    return result


def measure(cell: Cell, echo: str, counts: list[int]) -> dict[str, Any]:
    """Give the figures of so many seconds, with those of a peer that asks for echoes meanwhile."""
    late: list[tuple[float, float]] = []
    # What a program that does nothing else answers in the same seconds: the machine is busy, too.
    other = Peer("echo", "@tcp://127.0.0.1:*", PINGS)
    ping, control = (Peer("ping", end, PINGS, 32, PAUSE) for end in (echo, *other.endpoints))
    ticking = gevent.spawn(tick, late)
    before = counts[:]
    clock = Clock()
    gevent.sleep(cell.seconds)
    measured = clock.read()
    handled = [after - at_first for after, at_first in zip(counts, before, strict=True)]
    ticking.kill()
    # While the flood goes on.
    asked, control_asked = heard_out(ping), heard_out(control)
    total = sum(handled)
    if not total:
        raise SystemExit("nothing was handled")
    wall, cpu = ([*each] for each in zip(*late, strict=True))
    return measured | {
        "messages": total,
        "tick_50": percentile(wall, 50),
        "tick_99": percentile(wall, 99),
        "tick_cpu_99": percentile(cpu, 99),
        "jain": total**2 / (len(handled) * sum(count**2 for count in handled)),
        "least_of_most": min(handled) / max(handled),
        "share_of_slow": handled[0] * SLOW / measured["thread_cpu"] if cell.slow else 0,
        "echo_99": asked["delay_99"],
        "echo_max": asked["delay_max"],
        "c_echo_99": control_asked["delay_99"],
    }


def tick(late: list[tuple[float, float]]) -> None:
    """Note how late each tick was: on the wall, and by the CPU time of this thread.

    The latter is what this hub alone has to answer for, whatever else the machine does.
    """
    while True:
        before, cpu = time.perf_counter(), time.thread_time()
        try:
            gevent.sleep(TICK)
        finally:  # also the one that never came
            passed = time.perf_counter() - before, time.thread_time() - cpu
            late.append((max(0, passed[0] - TICK), max(0, passed[1] - TICK)))


many_handler = functools.partial(many, serve=serve_source)
many_workers = functools.partial(many, serve=functools.partial(serve_source, spawn=20))
many_pool = functools.partial(
    many, serve=functools.partial(serve_source, spawn=functools.partial(Pool, 20))
)
many_pulled = functools.partial(many, serve=serve_pulled)
many_green = functools.partial(many, serve=serve_green)
