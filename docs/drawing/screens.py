"""Screens of the command, from real runs: ``make screens``."""

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
from collections.abc import Iterator

from drawing.canvas import TARGET
from drawing.terminal import draw, last_row, running

COMMAND = [sys.executable, "-m", "gzmqsource.cli"]

HANDLER = """
import time

def answer(request):
    time.sleep(0.005)  # a database, say
    return [b"hello", *request]
"""

#: Sixty callers, each of which asks every 50 ms or so, until it is ended.
LOAD = """
import sys
import gevent
from gzmqsource.workers import Requester

def ask():
    while True:
        requester.request(b"world", timeout=30)
        gevent.sleep(0.05)

with Requester.open(sys.argv[1]) as requester:
    gevent.joinall([gevent.spawn(ask) for _ in range(60)])
"""

#: Seconds for which a server is asked before its numbers are shown.
WARM = 3


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def load(folder: str, endpoint: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "load.py", endpoint], cwd=folder)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def serve_and_top(folder: str) -> None:
    """Draw a server with two workers that loads new code, and `top` beside it."""
    port, metrics = free_port(), free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    arguments = ["serve", "hello:answer", "--bind", endpoint, "--workers", "2"]
    arguments += ["--metrics", str(metrics)]
    with running(COMMAND + arguments, 80, 24, folder) as server:
        server.wait(lambda lines: sum("is ready" in line for line in lines) == 2)
        with load(folder, endpoint):
            ends = time.monotonic() + WARM
            server.wait(lambda _: time.monotonic() > ends)
            with running([*COMMAND, "top", str(metrics)], 70, 10, folder) as top:
                tables = time.monotonic() + WARM
                top.wait(lambda lines: time.monotonic() > tables and "master" in "".join(lines))
                draw("top", f"gzmqsource top {metrics}", top.screen, last_row(top.screen))
            os.kill(server.process.pid, signal.SIGHUP)
            server.wait(lambda lines: sum("has left" in line for line in lines) == 2)
            ends = time.monotonic() + 1
            server.wait(lambda _: time.monotonic() > ends)
            prompt = "gzmqsource serve hello:answer --bind … --workers 2"
            draw("serve", prompt, server.screen, last_row(server.screen))


def bench(folder: str) -> None:
    """Draw the rates that `bench` measures."""
    with running([*COMMAND, "bench"], 78, 16, folder) as terminal:
        terminal.wait(lambda _: terminal.process.poll() is not None, seconds=600)
        draw("bench", "gzmqsource bench", terminal.screen, last_row(terminal.screen))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "hello.py").write_text(HANDLER)
        pathlib.Path(folder, "load.py").write_text(LOAD)
        serve_and_top(folder)
        bench(folder)
    print(f"drawn into {TARGET}")


if __name__ == "__main__":
    main()
