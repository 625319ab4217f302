"""Workers on several machines behind a proxy, that join, leave and die while requests go on.

One machine runs the broker, to which all others connect::

    python examples/fleet.py broker tcp://*:5555 tcp://*:5556
    python examples/fleet.py worker tcp://broker:5556
    python examples/fleet.py ask tcp://broker:5555 --count 10000

Without arguments all of it runs here, in processes of their own: of four workers one is killed, one
leaves, and one joins. The exit status is 1 unless every caller got its answer, once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.subprocess
import zmq
from gevent.event import Event
from gevent.pool import Pool

from gzmqsource.proxy import Proxy
from gzmqsource.workers import Requester, RequestTimeout, Responder

#: By these libzmq notices that a machine is gone whose connection was never closed; milliseconds.
HEARTBEATS: dict[str, Any] = {"heartbeat_ivl": 200, "heartbeat_timeout": 600}

#: How many requests wait for a worker in its connection: they are lost with it, and asked again.
QUEUED = 20


def until_told_to_stop() -> None:
    """Wait for SIGTERM or SIGINT."""
    told = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, told.set)
    told.wait()


def broker(front: str, back: str) -> None:
    """Pass requests from *front* to the workers at *back*, and print both endpoints."""
    context: zmq.Context[Any] = zmq.Context.instance()
    sockets = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for socket, endpoint in zip(sockets, (front, back), strict=True):
        for name, value in HEARTBEATS.items():
            socket.set(getattr(zmq, name.upper()), value)
        socket.linger = 0
        socket.sndhwm = QUEUED if endpoint == back else 1000
        socket.bind(endpoint)
    with Proxy(*sockets):
        print(json.dumps([socket.LAST_ENDPOINT.decode() for socket in sockets]), flush=True)
        until_told_to_stop()


def checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)


def answer(payload: list[bytes]) -> bytes:
    gevent.sleep(0.005)
    return checksum(payload[0])


def worker(back: str) -> None:
    """Answer requests until told to leave; those that were begun are finished."""
    with Responder.open(answer, connect=back, spawn=20, rcvhwm=QUEUED, **HEARTBEATS) as responder:
        responder.start()
        print("ready", flush=True)
        until_told_to_stop()


def ask(front: str, count: int, greenlets: int = 50) -> None:
    """Ask *count* times, print how many are answered each time it is a tenth more, and the end."""
    answered = 0

    def one(number: int) -> None:
        nonlocal answered
        text = b"request %d" % number
        if until_answered(text) != [checksum(text)]:
            raise SystemExit(f"the answer to another request than {number}")
        answered += 1
        if answered % (count // 10) == 0:
            print(answered, flush=True)

    def until_answered(text: bytes) -> list[bytes]:
        # Behind a broker nobody knows which worker has what. If one dies, only time tells:
        # well above what an answer takes, and for longer than any trouble lasts.
        for _ in range(60):
            with contextlib.suppress(RequestTimeout):
                return requester.request(text, timeout=1, retries=60)
        raise SystemExit(f"no answer to {text!r}")

    with Requester.open(front, **HEARTBEATS) as requester:
        Pool(greenlets).map(one, range(count))
        print(json.dumps({"answered": answered, **requester.stats()._asdict()}), flush=True)


@contextlib.contextmanager
def role(*arguments: object) -> Iterator[Any]:
    """Play a role in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    process: Any = gevent.subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def demonstrate(count: int) -> bool:
    """Play all roles; tell whether every request was answered."""
    here = "tcp://127.0.0.1:*"
    with contextlib.ExitStack() as processes:
        front, back = json.loads(
            processes.enter_context(role("broker", here, here)).stdout.readline()
        )
        workers = [processes.enter_context(role("worker", back)) for _ in range(4)]
        for process in workers:
            process.stdout.readline()
        asking = processes.enter_context(role("ask", front, "--count", count))
        for line in asking.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                return bool(json.loads(line)["answered"] == count)
            step = int(line) * 10 // count
            if step == 2:
                print("one worker is killed")
                workers[0].kill()
            elif step == 4:
                print("one leaves")
                workers[1].terminate()
            elif step == 6:
                print("one joins")
                processes.enter_context(role("worker", back))
    return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=demonstrate)
    parser.add_argument("--count", type=int, default=5000, help="how many requests")
    roles = parser.add_subparsers()
    played: tuple[tuple[Callable[..., None], list[str]], ...] = (
        (broker, ["front", "back"]),
        (worker, ["back"]),
        (ask, ["front"]),
    )
    for run, endpoints in played:
        added = roles.add_parser(run.__name__, help=run.__doc__)
        added.set_defaults(run=run)
        for endpoint in endpoints:
            added.add_argument(endpoint)
        if run is ask:
            added.add_argument("--count", type=int, default=5000)
    arguments = vars(parser.parse_args())
    chosen: Callable[..., object] = arguments.pop("run")
    if chosen not in (ask, demonstrate):
        del arguments["count"]
    return 1 if chosen(**arguments) is False else 0


if __name__ == "__main__":
    sys.exit(main())
