"""Idle sockets with a greenlet waiting on each: what they cost a busy one, the CPU and memory."""

from __future__ import annotations

import os
import time
from typing import Any

import gevent
import zmq
import zmq.green

from contenders import blocking, source
from contenders.common import Cell, allow_files
from gzmqsource import Source


def memory() -> int:
    """Give the bytes of this process that are in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(cell: Cell, green: bool) -> dict[str, Any]:
    allow_files()
    context = zmq.green.Context() if green else zmq.Context()
    context.max_sockets = cell.others + 10
    sockets = [context.socket(zmq.PULL) for _ in range(cell.others)]
    before = memory()
    receivers = sockets if green else [Source(socket) for socket in sockets]
    made = memory()
    waiting = [gevent.spawn(receiver.recv) for receiver in receivers]
    gevent.sleep(0.1)
    after = memory()
    started, cpu = time.monotonic(), time.process_time()
    gevent.sleep(2)
    idle = (time.process_time() - cpu) / (time.monotonic() - started)
    rate = blocking.receive(cell, "zmq.green") if green else source.receive(cell)
    assert not any(greenlet.dead for greenlet in waiting)
    return rate | {
        "idle_cpu": idle,
        "bytes_each": (made - before) / max(1, cell.others),
        "bytes_each_waited_on": (after - before) / max(1, cell.others),
    }


def idle(cell: Cell) -> dict[str, Any]:
    return measure(cell, green=False)


def idle_green(cell: Cell) -> dict[str, Any]:
    return measure(cell, green=True)
