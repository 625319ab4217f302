"""Workers on several hosts that join, leave and die while requests continue.

One host runs a broker, which knows the free workers, and workers on other hosts join it::

    gzmqsource keygen keys --name server
    gzmqsource keygen keys --name client
    python examples/fleet.py broker tcp://*:5555 tcp://*:5556 --keys keys
    python examples/fleet.py worker tcp://broker:5556 --keys keys
    python examples/fleet.py ask tcp://broker:5555 --keys keys

Without a broker, each host is a server, and clients know the servers by one name that stands for
all their addresses, or by several endpoints::

    python examples/fleet.py server tcp://*:5555 --keys keys
    python examples/fleet.py ask tcp://servers:5555 --keys keys

The end that binds needs ``server.key_secret``, and the public keys of the clients that it admits.
The end that connects needs ``client.key_secret`` and ``server.key``. Without ``--keys`` there is no
encryption.

Without arguments, the example runs both ways on this host, each role in a process of its own: of
four workers, one is killed, one leaves, and one joins. The exit status is 1 unless every caller got
its answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.subprocess
import zmq
from gevent.event import Event
from gevent.pool import Pool
from zmq.auth import create_certificates, load_certificate

from gzmqsource.auth import Authenticator
from gzmqsource.broker import Broker
from gzmqsource.workers import Requester, Responder

#: With these, libzmq notices a lost host whose connection was never closed; in milliseconds.
HEARTBEATS: dict[str, Any] = {"heartbeat_ivl": 200, "heartbeat_timeout": 600}

#: The number of requests that a worker takes at a time; the others wait at the broker.
SLOTS = 20

#: Retries of a request whose worker was lost. They are safe, because the request changes no state.
RETRIES = 5


@contextlib.contextmanager
def lets_in(keys: str | None) -> Iterator[dict[str, Any]]:
    """Yield the options of an end that binds: encrypted, for clients whose key is in the folder."""
    if keys is None:
        yield HEARTBEATS
        return
    public, secret = load_certificate(os.path.join(keys, "server.key_secret"))
    with Authenticator() as authenticator:
        authenticator.configure_curve(location=keys)
        curve = {"curve_server": True, "curve_publickey": public, "curve_secretkey": secret}
        yield HEARTBEATS | curve


def gets_in(keys: str | None) -> dict[str, Any]:
    """Return the options of an end that connects."""
    if keys is None:
        return HEARTBEATS
    public, secret = load_certificate(os.path.join(keys, "client.key_secret"))
    server, _ = load_certificate(os.path.join(keys, "server.key"))
    curve = {"curve_serverkey": server, "curve_publickey": public, "curve_secretkey": secret}
    return HEARTBEATS | curve


def until_told_to_stop() -> None:
    """Wait for SIGTERM or SIGINT."""
    signalled = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, signalled.set)
    signalled.wait()


def broker(front: str, back: str, keys: str | None) -> None:
    """Distribute requests at FRONT to the workers at BACK, and print both endpoints."""
    with lets_in(keys) as options, Broker.open(front, back, **options) as sharing:
        sharing.start()
        ends = [each.socket.get_string(zmq.LAST_ENDPOINT) for each in (sharing.front, sharing.back)]
        print(json.dumps(ends), flush=True)
        until_told_to_stop()


def checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)


def answer(payload: list[bytes]) -> bytes:
    gevent.sleep(0.005)
    return checksum(payload[0])


def worker(back: str, keys: str | None) -> None:
    """Answer requests of a broker until a signal comes, and finish those that have begun."""
    with Responder.join(back, answer, SLOTS, **gets_in(keys)) as responder:
        responder.start()
        print("ready", flush=True)
        until_told_to_stop()


def server(endpoint: str, keys: str | None) -> None:
    """Print the endpoint, and answer requests there until a signal comes."""
    with (
        lets_in(keys) as options,
        Responder.open(answer, bind=endpoint, spawn=SLOTS, **options) as responder,
    ):
        responder.start()
        print(json.dumps(responder.source.socket.get_string(zmq.LAST_ENDPOINT)), flush=True)
        until_told_to_stop()


def ask(endpoints: list[str], count: int, keys: str | None, greenlets: int = 50) -> None:
    """Send requests, and print the number of answers after each tenth, and the statistics."""
    answered = 0

    def one(number: int) -> None:
        nonlocal answered
        text = b"request %d" % number
        if requester.request(text, timeout=60, retries=RETRIES) != [checksum(text)]:
            raise SystemExit(f"the answer to another request than {number}")
        answered += 1
        if answered % (count // 10) == 0:
            print(answered, flush=True)

    with Requester.open(endpoints, **gets_in(keys)) as requester:
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
    """Play all roles, with a broker and without; return whether every request was answered."""
    here = "tcp://127.0.0.1:*"
    with tempfile.TemporaryDirectory() as keys:
        for name in ("server", "client"):
            create_certificates(keys, name)
        secured = ("--keys", keys)
        with contextlib.ExitStack() as made:
            print("with a broker")
            sharing = made.enter_context(role("broker", here, here, *secured))
            front, back = json.loads(sharing.stdout.readline())
            workers = [made.enter_context(role("worker", back, *secured)) for _ in range(4)]
            for each in workers:
                each.stdout.readline()
            if not are_answered([front], workers, ("worker", back), count, keys):
                return False
        with contextlib.ExitStack() as made:
            print("without a broker")
            workers = [made.enter_context(role("server", here, *secured)) for _ in range(4)]
            ends = [json.loads(each.stdout.readline()) for each in workers]
            return are_answered(ends, workers, ("server", ends[0]), count, keys)


def are_answered(
    endpoints: list[str], workers: list[Any], joining: tuple[str, str], count: int, keys: str
) -> bool:
    """Send requests while one worker is killed, one leaves, and one joins."""
    secured = ("--keys", keys)
    with (
        role("ask", *endpoints, "--count", count, *secured) as asking,
        contextlib.ExitStack() as joined,
    ):
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
                joined.enter_context(role(*joining, *secured))
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
        (server, ["endpoint"]),
        (ask, ["endpoints"]),
    )
    for run, endpoints in played:
        added = roles.add_parser(run.__name__, help=run.__doc__)
        added.set_defaults(run=run)
        added.add_argument("--keys", help="a folder with keys")
        for endpoint in endpoints:
            added.add_argument(endpoint, nargs="+" if run is ask else None)
        if run is ask:
            added.add_argument("--count", type=int, default=5000)
    arguments = vars(parser.parse_args())
    chosen: Callable[..., object] = arguments.pop("run")
    if chosen not in (ask, demonstrate):
        del arguments["count"]
    return 1 if chosen(**arguments) is False else 0


if __name__ == "__main__":
    sys.exit(main())
