"""A tour of the ``gzmqsource`` command, under load.

A server is started with ``gzmqsource serve``, whose handler is a function in a file. Client
processes send requests from hundreds of greenlets each. Meanwhile one client is killed, the handler
is replaced, and the server is stopped and started again. Then two worker processes answer: one gets
stuck and is replaced, and both are replaced by ones with new code. Each answer is checked, and the
exit status is 1 if one was wrong or missing, or if new code had a request executed twice.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import gevent
from gevent import subprocess as cooperative
from gevent.pool import Pool
from gevent.queue import Queue
from gevent.socket import socket as Socket
from rich.console import Console
from rich.syntax import Syntax

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester, RequestTimeout

HANDLER = """
import time, zlib

def answer(request):
    number, text = request
    time.sleep(0.005)  # a database; the other requests continue
    return [number, b"%08x" % zlib.crc32(text), b"version 1"]
"""

FOR_WORKERS = """
import time, zlib

executed = open("executed", "ab", buffering=0)

def answer(request):
    number, text = request
    while text == b"a mistake":
        pass  # no other code runs in this process any more
    executed.write(number + b"\\n")
    time.sleep(0.005)
    return [number, b"%08x" % zlib.crc32(text), b"version 1"]
"""

COMMAND = (sys.executable, "-m", "gzmqsource.cli")

#: Greenlets in each client that send requests at the same time.
GREENLETS = 200

#: Seconds for the whole run.
TIMEOUT = 120.0

console = Console(highlight=False)
# Without cached bytecode, a child sees a new handler that was written within the same second.
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}


def client(endpoint: str, count: int) -> None:
    """Send *count* requests, check each answer, and print the results."""
    answers: dict[bytes, int] = {}
    wrong = 0

    def ask(number: int) -> None:
        nonlocal wrong
        text = b"question %d" % number
        # Retried when the server is lost, all of them at once: see `retry_budget`.
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


def run(*arguments: str, status: int = 0) -> None:
    """Show a command, run it, and check its exit status."""
    show(*arguments)
    finished = cooperative.run([*COMMAND, *arguments], check=False, timeout=TIMEOUT)
    if finished.returncode != status:
        sys.exit(f"exit status {finished.returncode}, not {status}")


def free_port() -> int:
    """Return a port that stays free for a while: the kernel gives it to no connection."""
    for port in random.sample(range(10_000, 12_000), 100):
        with contextlib.suppress(OSError), Socket() as listening:
            listening.bind(("127.0.0.1", port))
            return port
    sys.exit("no port is free")


class Server:
    """``gzmqsource serve``, in a process of its own, which ends with the block."""

    def __init__(self, folder: pathlib.Path, *options: str) -> None:
        arguments = ["serve", "demo_handler:answer", *options]
        show(*arguments)
        self._process: Any = cooperative.Popen(
            [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        self.tell = self._process.send_signal
        self._lines: Queue[str] = Queue()
        self._echo = gevent.spawn(self._pass_on)

    def _pass_on(self) -> None:
        for line in self._process.stderr:
            sys.stderr.write(line)
            self._lines.put(line)

    def until_logged(self, text: str) -> None:
        """Wait for a line with *text*, among those after the last one that was waited for."""
        with gevent.Timeout(TIMEOUT, TimeoutError(f"the server has not logged: {text}")):
            while text not in self._lines.get():
                pass

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._echo.join(TIMEOUT)

    def stop(self) -> int:
        """Stop the server, and return its exit status."""
        self.tell(signal.SIGTERM)
        status: int = self._process.wait(timeout=TIMEOUT)
        return status


def start_client(endpoint: str, count: int) -> Any:
    command = [sys.executable, __file__, "--client", endpoint, "--count", str(count)]
    return cooperative.Popen(command, stdout=subprocess.PIPE, text=True)


class Load:
    """Greenlets that send one request after the other, until `end` is called."""

    #: Each request of all loads has a number of its own.
    numbers = itertools.count()

    def __init__(self, endpoint: str, retries: int) -> None:
        self.asked: list[bytes] = []
        #: The number of right answers, by the version of the code.
        self.right: Counter[bytes] = Counter()
        self.retries = 0
        # On a busy machine, a hub may be silent for long without being stuck.
        self._requester = Requester.open(endpoint, dead_after=20, retry_budget=1)
        self._retries = retries
        self._enough = False
        self._asking = [gevent.spawn(self._ask) for _ in range(GREENLETS)]

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        gevent.killall(self._asking)
        self._requester.stop()

    def end(self) -> None:
        """Stop sending, and wait for the last answers."""
        self._enough = True
        gevent.joinall(self._asking, raise_error=True)
        self.retries = self._requester.stats().retries

    def until_answered(self, more: int) -> None:
        """Wait for *more* further answers."""
        goal = self.right.total() + more
        wait_until(lambda: self.right.total() >= goal, timeout=TIMEOUT)

    def _ask(self) -> None:
        while not self._enough:
            number = b"%d" % next(self.numbers)
            text = b"question " + number
            self.asked.append(number)
            try:
                reply = self._requester.request([number, text], 60, self._retries)
            except (PeerLost, RequestTimeout) as error:
                console.print(f"request {number.decode()} is lost: {error}")
            else:
                if reply[:2] == [number, b"%08x" % zlib.crc32(text)]:
                    self.right[reply[2]] += 1


def one_process(folder: pathlib.Path, code: str, clients: int, count: int) -> int:
    """Show a server of one process; return the exit status."""
    endpoint, metrics = f"tcp://127.0.0.1:{free_port()}", str(free_port())
    options = ("--bind", endpoint, "--metrics", metrics)
    handler = folder / "demo_handler.py"
    handler.write_text(code)

    step("A handler in a file, and a server for it")
    console.print(Syntax(code.strip(), "python", background_color="default"))
    with Server(folder, *options) as server:
        run("request", "--connect", endpoint, "--frame", "1", "question 1")

        step(f"{clients + 1} clients, {GREENLETS} greenlets each")
        began = time.perf_counter()
        processes = [start_client(endpoint, count) for _ in range(clients + 1)]
        gevent.sleep(1)
        run("top", metrics, "--count", "1")

        step("One client is killed; the others continue")
        processes.pop().kill()

        step("New code, without a stop")
        handler.write_text(code.replace("version 1", "version 2"))
        server.tell(signal.SIGHUP)
        gevent.sleep(1)

        step("The server stops under load: it answers the requests that it has accepted")
        status = server.stop()
        console.print(f"exit status {status}")

    step("Another server takes its place, and the clients continue")
    with Server(folder, *options) as server:
        run("request", "--connect", endpoint, "--frame", "1", "question 2")
        gevent.sleep(1)
        run("top", metrics, "--count", "1")
        results = [json.loads(each.communicate(timeout=TIMEOUT)[0]) for each in processes]
        seconds = time.perf_counter() - began
        status = server.stop() or status
    return tell(results, clients * count, seconds) or status


def tell(results: list[dict[str, Any]], total: int, seconds: float) -> int:
    """Print the results of all requests; return the exit status."""
    by_version: Counter[str] = Counter()
    for result in results:
        by_version.update(result["answers"])
    right, wrong = by_version.total(), sum(result["wrong"] for result in results)
    tabulate(
        {
            "answers right": [f"{right:,} of {total:,}"],
            "answers wrong": [f"{wrong:,}"],
            **{f"by {version}": [f"{by_version[version]:,}"] for version in sorted(by_version)},
            "retried": [f"{sum(result['retries'] for result in results):,}"],
            "requests a second": [f"{right / seconds:,.0f}"],
        }
    )
    return 0 if right == total and not wrong else 1


def tabulate(rows: dict[str, Sequence[str]]) -> None:
    step("Results")
    for name, values in rows.items():
        print(f"{name:<20}" + "".join(f"{value:>20}" for value in values))


def two_workers(folder: pathlib.Path, code: str) -> int:
    """Show a server with workers; return the exit status."""
    endpoint, metrics = f"tcp://127.0.0.1:{free_port()}", str(free_port())
    handler = folder / "demo_handler.py"
    handler.write_text(code)

    step("Two processes answer, and a master distributes the requests")
    console.print(Syntax(code.strip(), "python", background_color="default"))
    options = ("--workers", "2", "--dead-after", "3", "--stuck-after", "3")
    with Server(folder, "--bind", endpoint, "--metrics", metrics, *options) as server:
        for _ in range(2):
            server.until_logged("is ready")

        # Retried when the worker that had them is lost.
        with Load(endpoint, retries=10) as stuck:
            stuck.until_answered(1000)
            step("One worker gets stuck: its clients are notified, and it is replaced")
            mistake = ("--timeout", "60", "--frame", "0", "a mistake")
            run("request", "--connect", endpoint, *mistake, status=1)
            server.until_logged("is stuck")
            server.until_logged(" in answer")
            server.until_logged("is ready")
            run("top", metrics, "--count", "1")
            stuck.end()

        # Not retried: no request may be lost here.
        with Load(endpoint, retries=0) as rolled:
            rolled.until_answered(1000)
            step("New code: each goes once its successor is ready")
            handler.write_text(code.replace("version 1", "version 2"))
            server.tell(signal.SIGHUP)
            server.until_logged("all workers were replaced")
            rolled.until_answered(1000)
            rolled.end()
            # Its client still listens, and agrees that the server leaves.
            status = server.stop()
    executed = Counter((folder / "executed").read_bytes().split())
    return tell_both(stuck, rolled, executed) or status


def tell_both(stuck: Load, rolled: Load, executed: Counter[bytes]) -> int:
    """Print the results of the requests of two loads; return the exit status."""
    loads = (stuck, rolled)
    twice = [sum(executed[number] > 1 for number in load.asked) for load in loads]
    tabulate(
        {
            "": ["one is stuck", "new code"],
            "answers right": [f"{load.right.total():,} of {len(load.asked):,}" for load in loads],
            "by version 1": [f"{load.right[b'version 1']:,}" for load in loads],
            "by version 2": [f"{load.right[b'version 2']:,}" for load in loads],
            "retried": [f"{load.retries:,}" for load in loads],
            "executed twice": [f"{number:,}" for number in twice],
        }
    )
    complete = all(load.right.total() == len(load.asked) for load in loads)
    # Requests that the stuck worker had begun run once more in another, because they have retries.
    return 0 if complete and rolled.right[b"version 2"] and not twice[1] else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=3, help="client processes")
    parser.add_argument("--count", type=int, default=20_000, help="requests of each client")
    parser.add_argument("--work", default="0.005", help="seconds that the handler waits")
    parser.add_argument("--client", metavar="ENDPOINT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        client(arguments.client, arguments.count)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        one, two = (code.replace("0.005", arguments.work) for code in (HANDLER, FOR_WORKERS))
        return one_process(path, one, arguments.clients, arguments.count) or two_workers(path, two)


if __name__ == "__main__":
    sys.exit(main())
