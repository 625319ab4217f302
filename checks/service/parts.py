"""Servers, clients and proxies in processes of their own, and what they did."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
from gevent.server import StreamServer
from helpers import free_ports

from gzmqsource.testing import wait_until


def free_endpoint() -> str:
    """Give an endpoint that nobody has; a server that is started anew binds it again."""
    return f"tcp://127.0.0.1:{free_ports(1)[0]}"


class Log:
    """What the handlers of all servers noted."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gzmqsource-")
        self.path = pathlib.Path(self._folder.name) / "log"
        self.path.touch()

    def count(self, what: str) -> Counter[bytes]:
        """Count how often each number began, ended, or was cancelled."""
        found: Counter[bytes] = Counter()
        for line in self.path.read_bytes().splitlines():
            words = line.split()
            if words[1] == what.encode():
                found[words[2]] += 1
        return found

    def times(self, what: str) -> list[float]:
        """Give when that happened, in seconds of the clock on the wall."""
        lines = map(bytes.split, self.path.read_bytes().splitlines())
        return [float(words[3]) for words in lines if words[1] == what.encode()]

    def begun_by(self) -> dict[bytes, set[int]]:
        """Give the processes in which each number began."""
        found: dict[bytes, set[int]] = {}
        for line in self.path.read_bytes().splitlines():
            pid, what, number, _ = line.split()
            if what == b"began":
                found.setdefault(number, set()).add(int(pid))
        return found

    def twice(self) -> int:
        """Give how many numbers began more than once."""
        return sum(times > 1 for times in self.count("began").values())


class Process:
    """A program of this package, which says on its first line that it is ready."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", f"service.{module}", *map(str, arguments)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        gevent.get_hub().threadpool.apply(self._process.stdout.readline)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal, and wait while the hub runs."""
        self._process.send_signal(number)
        wait_until(lambda: self._process.poll() is not None, timeout=30)

    def close(self) -> None:
        """See that it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def processes() -> Iterator[Callable[..., Process]]:
    """Give what starts processes, and end them with the block."""
    started: list[Process] = []

    def start(module: str, *arguments: object) -> Process:
        started.append(Process(module, *arguments))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.close()


class Load:
    """Greenlets that ask one after another, and what became of it.

    Parameters
    ----------
    ask : callable
        ``ask(number)`` sends one request, and returns its reply or raises.
    greenlets : int
        How many ask at a time.
    """

    def __init__(self, ask: Callable[[int], object], greenlets: int) -> None:
        self.answered = 0
        self.failed: Counter[str] = Counter()
        #: When each number failed, in seconds of the clock on the wall.
        self.failed_at: dict[int, float] = {}
        self._ask = ask
        self._numbers = 0
        self._is_over = False
        self._greenlets = [gevent.spawn(self._run) for _ in range(greenlets)]

    @property
    def lost(self) -> int:
        """How many requests had no reply."""
        return sum(self.failed.values())

    def end(self) -> None:
        """Begin no more, and wait for what was begun."""
        self._is_over = True
        gevent.joinall(self._greenlets, raise_error=True)

    def _run(self) -> None:
        while not self._is_over:
            number, self._numbers = self._numbers, self._numbers + 1
            try:
                self._ask(number)
            except Exception as error:
                # The text of a lost request has its id.
                self.failed[type(error).__name__] += 1
                self.failed_at[number] = time.time()
            else:
                self.answered += 1


class Cut:
    """A way to an endpoint whose connections can be cut, in this hub.

    Parameters
    ----------
    endpoint : str
        Where it leads.
    """

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.removeprefix("tcp://").split(":")
        self._target = host, int(port)
        self._ends: list[Any] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.endpoint = f"tcp://127.0.0.1:{self._server.server_port}"

    def cut(self) -> None:
        """Cut the connections that there are now; new ones go through."""
        for end in self._ends:
            end.close()
        self._ends.clear()

    def __enter__(self) -> Cut:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self.cut()

    def _serve(self, near: Any, _: object) -> None:
        try:
            far = gevent.socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        self._ends += [near, far]
        gevent.joinall([gevent.spawn(_copy, near, far), gevent.spawn(_copy, far, near)])


def _copy(source: Any, target: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def block_hub(seconds: float) -> None:
    """Keep this hub from running."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
