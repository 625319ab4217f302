"""Requests through a broker, or through libzmq's proxy, to workers in processes of their own."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gevent
import zmq
from peer import Peer

from contenders.common import Cell, Clock, allow_files, heard_out
from contenders.fairness import percentile
from contenders.hands import TIMES, hand
from gzmqsource.broker import Broker
from gzmqsource.proxy import Proxy
from gzmqsource.workers import Requester

#: How many workers there are where they reply at once, and how many requests each takes at a time.
FAST, ENOUGH = 2, 100

#: How many workers there are where requests wait, and how many requests each takes at a time.
WORKERS, SLOTS = 4, 2

#: Seconds that a handler sleeps, one in so many for long; and the part of their time that is asked.
SHORT, LONG, ONE_IN, LOAD = 0.02, 0.4, 50, 0.6

#: The most workers that one process is.
MOST = 250

#: A middle that runs, with the endpoints of its front and back, and what workers do at that.
Middle = tuple[str, str, str]


@contextlib.contextmanager
def a_broker() -> Iterator[Middle]:
    context: zmq.Context[Any] = zmq.Context()
    with Broker.open("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", context=context) as broker:
        broker.start()
        ends = [each.socket.get_string(zmq.LAST_ENDPOINT) for each in (broker.front, broker.back)]
        yield ends[0], ends[1], "join"
        broker.close()


@contextlib.contextmanager
def a_proxy() -> Iterator[Middle]:
    context: zmq.Context[Any] = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for socket in (front, back):
        socket.bind("tcp://127.0.0.1:*")
    ends = [socket.LAST_ENDPOINT.decode() for socket in (front, back)]
    with Proxy(front, back):
        yield ends[0], ends[1], "connect"


MiddleMaker = Callable[[], contextlib.AbstractContextManager[Middle]]


def cpu_of(pids: list[int]) -> float:
    """Give the seconds of CPU that processes have taken, by the clock that each has."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)  # as clock_getcpuclockid(3)


def asked(cell: Cell, front: str, workers: list[int]) -> dict[str, Any]:
    """Have another process ask for the cell's seconds; give what this one took, and what all."""
    with contextlib.ExitStack() as stack:
        if cell.asker == "C":
            window = Peer("window", front, 0, cell.size, cell.outstanding)
            pids = [*workers, window.pid]
        else:
            asking = stack.enter_context(hand("ask", front, cell.outstanding, cell.size))
            pids = [*workers, asking.pid]
        clock, before = Clock(), cpu_of(pids)
        gevent.sleep(cell.seconds)
        took, others = clock.read(), cpu_of(pids) - before
        if cell.asker == "C":
            result = heard_out(window)
        else:
            asking.stdin.close()
            result = json.loads(asking.stdout.readline())
    # What was answered beside the time that was measured, at the beginning and the end, is little.
    part = took["seconds"] / result["seconds"]
    return took | {"messages": part * result["messages"], "all": took["cpu"] + others}


def through(cell: Cell, make: MiddleMaker) -> dict[str, Any]:
    """Ask small requests of two workers."""
    with contextlib.ExitStack() as stack:
        front, back, role = stack.enter_context(make())
        workers = [stack.enter_context(hand(role, back, "echo", ENOUGH)) for _ in range(FAST)]
        gevent.sleep(0.2)  # a proxy does not say who is there
        return asked(cell, front, [worker.pid for worker in workers])


def wait_through(cell: Cell, make: MiddleMaker) -> dict[str, Any]:
    """Have handlers sleep; give how long short requests wait before theirs begins."""
    chance = random.Random(1)  # the same requests for both
    mean = (SHORT * (ONE_IN - 1) + LONG) / ONE_IN
    rate = LOAD * WORKERS * SLOTS / mean
    results: list[Any] = []
    with contextlib.ExitStack() as stack:
        front, back, role = stack.enter_context(make())
        for _ in range(WORKERS):
            stack.enter_context(hand(role, back, "sleep", SLOTS))
        gevent.sleep(0.2)
        requester = Requester.open(front)
        began = at = time.monotonic()
        while at < began + cell.seconds:
            at += chance.expovariate(rate)
            seconds = LONG if chance.randrange(ONE_IN) == 0 else SHORT
            gevent.sleep(max(0, at - time.monotonic()))
            results.append(requester.submit(TIMES.pack(time.monotonic(), seconds)))
        gevent.wait(results, timeout=30)
        replies = [TIMES.unpack(result.get_nowait()[0]) for result in results]
        requester.close()
    waits = [wait for wait, seconds in replies if seconds == SHORT]
    return {"waits": len(waits), "wait_50": percentile(waits, 50), "wait_99": percentile(waits, 99)}


def joined(cell: Cell) -> dict[str, Any]:
    """Ask a broker that so many workers have joined, without what they cost when nobody asks."""
    allow_files()
    with contextlib.ExitStack() as stack:
        front, back, _ = stack.enter_context(a_broker())
        for first in range(0, cell.others, MOST):
            count = min(MOST, cell.others - first)
            stack.enter_context(hand("join_often", back, count, ENOUGH))
        clock = Clock()
        gevent.sleep(cell.seconds)
        idle = clock.read()
        took = asked(cell, front, [])
    part = idle["thread_cpu"] / idle["seconds"]
    cpu = took["thread_cpu"] - part * took["seconds"]
    return took | {"idle": part, "cpu_each": cpu / took["messages"]}


broker, broker_proxy = partial(through, make=a_broker), partial(through, make=a_proxy)
waits, waits_proxy = partial(wait_through, make=a_broker), partial(wait_through, make=a_proxy)
