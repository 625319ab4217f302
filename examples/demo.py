"""A tour of the ``gzmqsource`` command, under load.

A server is started with ``gzmqsource serve``, whose handler is a function in a file. Client
processes ask it, hundreds of greenlets each. Meanwhile one client is killed, the handler is
exchanged, and the server is stopped and started again. Each answer is checked, and the exit status
is 1 if one was wrong or missing.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from typing import Any

import gevent
from gevent import subprocess as cooperative
from gevent.pool import Pool
from gevent.socket import socket as Socket
from rich.console import Console
from rich.syntax import Syntax

from gzmqsource.workers import Requester

HANDLER = """
import time, zlib

def answer(request):
    number, text = request
    time.sleep(0.005)  # a database, say; the other requests go on
    return [number, b"%08x" % zlib.crc32(text), b"version 1"]
"""

COMMAND = (sys.executable, "-m", "gzmqsource.cli")

#: Greenlets that ask at a time, in each client.
GREENLETS = 200

#: Seconds for the whole run.
TIMEOUT = 120.0

console = Console(highlight=False)
# A child sees a new handler at once, whatever second it was written in.
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}


def client(endpoint: str, count: int) -> None:
    """Ask *count* times, check each answer, and print what became of them."""
    answers: dict[bytes, int] = {}
    wrong = 0

    def ask(number: int) -> None:
        nonlocal wrong
        text = b"question %d" % number
        # Sent again when the server is lost. All of them are at once: see `retry_budget`.
        reply = requester.request([b"%d" % number, text], timeout=60, retries=10)
        if reply[:2] == [b"%d" % number, b"%08x" % zlib.crc32(text)]:
            answers[reply[2]] = answers.get(reply[2], 0) + 1
        else:
            wrong += 1

    with Requester.open(endpoint, retry_budget=1) as requester:
        asking = Pool(GREENLETS)
        for number in range(count):
            asking.spawn(ask, number)
        asking.join(raise_error=True)
        retries = requester.stats().retries
    versions = {name.decode(): number for name, number in answers.items()}
    print(json.dumps({"answers": versions, "wrong": wrong, "retries": retries}))


def step(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def show(*arguments: str) -> None:
    console.print(f"$ gzmqsource {shlex.join(arguments)}", style="green", soft_wrap=True)


def run(*arguments: str) -> None:
    """Show a command, and run it."""
    show(*arguments)
    cooperative.run([*COMMAND, *arguments], check=True, timeout=TIMEOUT)


def free_port() -> int:
    with Socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


class Server:
    """``gzmqsource serve``, in a process of its own, told to stop at the end of the block."""

    def __init__(self, folder: pathlib.Path, endpoint: str, metrics: int) -> None:
        arguments = ["serve", "demo_handler:answer", "--bind", endpoint, "--metrics", str(metrics)]
        show(*arguments)
        self._process: Any = cooperative.Popen([*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT)
        self.tell = self._process.send_signal

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Tell it to stop, and give its exit status."""
        self.tell(signal.SIGTERM)
        status: int = self._process.wait(timeout=TIMEOUT)
        return status


def start_client(endpoint: str, count: int) -> Any:
    command = [sys.executable, __file__, "--client", endpoint, "--count", str(count)]
    return cooperative.Popen(command, stdout=subprocess.PIPE, text=True)


def tour(folder: pathlib.Path, clients: int, count: int) -> int:
    """Go through it; return the exit status."""
    endpoint, metrics = f"tcp://127.0.0.1:{free_port()}", free_port()
    handler = folder / "demo_handler.py"
    handler.write_text(HANDLER)

    step("A handler in a file, and a server for it")
    console.print(Syntax(HANDLER.strip(), "python", background_color="default"))
    with Server(folder, endpoint, metrics) as server:
        run("request", "--connect", endpoint, "--frame", "1", "question 1")

        step(f"{clients + 1} clients, {GREENLETS} greenlets each")
        began = time.perf_counter()
        processes = [start_client(endpoint, count) for _ in range(clients + 1)]
        gevent.sleep(1)
        run("top", str(metrics), "--count", "1")

        step("One client is killed; the others go on")
        processes.pop().kill()

        step("New code, without a stop")
        handler.write_text(HANDLER.replace("version 1", "version 2"))
        server.tell(signal.SIGHUP)
        gevent.sleep(1)

        step("The server is told to stop, under load: it answers what it has accepted")
        status = server.stop()
        console.print(f"exit status {status}")

    step("Another one takes its place, and the clients go on")
    with Server(folder, endpoint, metrics) as server:
        run("request", "--connect", endpoint, "--frame", "1", "question 2")
        gevent.sleep(1)
        run("top", str(metrics), "--count", "1")
        results = [json.loads(each.communicate(timeout=TIMEOUT)[0]) for each in processes]
        seconds = time.perf_counter() - began
        status = server.stop() or status
    return tell(results, clients * count, seconds) or status


def tell(results: list[dict[str, Any]], total: int, seconds: float) -> int:
    """Print what became of all requests; return the exit status."""
    step("What became of it")
    by_version: dict[str, int] = {}
    for result in results:
        for version, number in result["answers"].items():
            by_version[version] = by_version.get(version, 0) + number
    right = sum(by_version.values())
    wrong = sum(result["wrong"] for result in results)
    for name, value in {
        "answers right": f"{right:,} of {total:,}",
        "answers wrong": f"{wrong:,}",
        **{f"by {version}": f"{number:,}" for version, number in sorted(by_version.items())},
        "asked again": f"{sum(result['retries'] for result in results):,}",
        "requests a second": f"{right / seconds:,.0f}",
    }.items():
        print(f"{name:<20}{value:>20}")
    return 0 if right == total and not wrong else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=3, help="client processes")
    parser.add_argument("--count", type=int, default=20_000, help="requests of each client")
    parser.add_argument("--client", metavar="ENDPOINT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        client(arguments.client, arguments.count)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return tour(pathlib.Path(folder), arguments.clients, arguments.count)


if __name__ == "__main__":
    sys.exit(main())
