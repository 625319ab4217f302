"""Workers, and an asker, of a broker or a proxy: ``python -m contenders.hands ROLE ENDPOINT …``.

Each says on its first line that it is ready, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.subprocess
import zmq
from gevent.fileobject import FileObject

from contenders.common import allow_files
from gzmqsource.workers import Requester, Responder

#: A request whose handler sleeps: when it was sent, by the clock of all processes, and for how
#: long. The reply has how long it waited before that.
TIMES = struct.Struct("!dd")

#: Seconds of silence after which many workers of one process would count as dead: what they say
#: again and again is not what is measured.
PATIENT = 60


def echo(payload: list[bytes]) -> list[bytes]:
    return payload


def sleep(payload: list[bytes]) -> bytes:
    began = time.monotonic()
    sent, seconds = TIMES.unpack(payload[0])
    gevent.sleep(seconds)
    return TIMES.pack(began - sent, seconds)


HANDLERS: dict[str, Any] = {"echo": echo, "sleep": sleep}


def until_told() -> None:
    print("ready", flush=True)
    FileObject(sys.stdin.fileno(), "rb").read()


def join(endpoint: str, handler: str, spawn: str) -> None:
    """Be a worker of a broker."""
    responder = Responder.join(endpoint, HANDLERS[handler], int(spawn))
    responder.start()
    until_joined([responder])
    until_told()


def join_often(endpoint: str, count: str, spawn: str) -> None:
    """Be so many workers of a broker."""
    allow_files()
    context: zmq.Context[Any] = zmq.Context()
    context.max_sockets = 3 * int(count) + 10
    responders = [
        Responder.join(endpoint, echo, int(spawn), context=context, dead_after=PATIENT)
        for _ in range(int(count))
    ]
    for responder in responders:
        responder.start()
    until_joined(responders)
    until_told()


def until_joined(responders: list[Responder]) -> None:
    while not all(each.stats().askers for each in responders):
        gevent.sleep(0.01)


def connect(endpoint: str, handler: str, spawn: str) -> None:
    """Be a worker behind a proxy."""
    responder = Responder.open(HANDLERS[handler], connect=endpoint, spawn=int(spawn))
    responder.start()
    until_told()


def ask(endpoint: str, greenlets: str, size: str) -> None:
    """Ask from so many greenlets; print how many requests were answered, and in what time."""
    answered, body, is_over = 0, b"x" * int(size), False

    def work() -> None:
        nonlocal answered
        while not is_over:
            if requester.request(body) != [body]:
                raise SystemExit("the answer to another request")
            answered += 1

    requester = Requester.open(endpoint)
    requester.request(body, timeout=10)
    began = time.perf_counter()
    asking = [gevent.spawn(work) for _ in range(int(greenlets))]
    until_told()
    is_over = True
    gevent.joinall(asking, raise_error=True)
    seconds = time.perf_counter() - began
    print(json.dumps({"messages": answered, "seconds": seconds}), flush=True)


@contextlib.contextmanager
def hand(role: str, endpoint: str, *arguments: object) -> Iterator[Any]:
    """Play a role in a process of its own, while the hub runs."""
    command = [sys.executable, "-m", "contenders.hands", role, endpoint, *map(str, arguments)]
    pipe = gevent.subprocess.PIPE
    process: Any = gevent.subprocess.Popen(command, stdin=pipe, stdout=pipe)
    try:
        if process.stdout.readline() != b"ready\n":
            raise SystemExit(f"{role}: exit status {process.wait()}")
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
