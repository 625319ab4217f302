"""Servers for the tests of the command, each with its own port, and their systemd."""

import contextlib
import os
import time
from typing import Any

import gevent
import pytest
from command_under_test import running
from gevent import socket, subprocess
from helpers import free_ports

HANDLER = """
import gevent
def answer(payload):
    gevent.sleep(0.02)
    return [b"{version}", *payload]
def note(payload):
    with open("accepted", "ab", 0) as file:
        file.write(payload[0] + b"\\n")
    return answer(payload)[1:]
def fail(payload):
    raise KeyError("no such thing")
def block(payload):
    gevent.sleep(60)
"""


@pytest.fixture
def address():
    return f"tcp://127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture
def starting(tmp_path):
    """Start a verb that serves, with variables; gives its process, which has said which it is."""
    with contextlib.ExitStack() as ends:

        def start(*words, **environment):
            process = running(
                *words,
                cwd=tmp_path,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
            )
            started = ends.enter_context(process)
            assert "pid" in started.stderr.readline()
            return started

        yield start


@pytest.fixture
def serving(starting, tmp_path, address):
    """Start ``serve`` with more arguments, those of all verbs, and variables; gives its process."""
    path = tmp_path / "served.py"
    path.write_text(HANDLER.replace("{version}", "old"))

    def start(*arguments, target="served:answer", common=(), binds=True, **environment):
        where = ("--bind", address) if binds else ()
        return starting(*common, "serve", target, *where, *arguments, **environment)

    return start


@pytest.fixture
def systemd(tmp_path):
    """A socket as systemd's, at a path and abstract; gives what it was told, and its names."""

    class Manager:
        def __init__(self):
            self.told: list[str] = []
            self.names = [str(tmp_path / "notify"), f"@gzmqsource-{os.getpid()}-{time.time()}"]
            self._sockets: list[Any] = []
            for name in self.names:
                bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                bound.bind(name.replace("@", "\0"))
                self._sockets.append((bound, gevent.spawn(self._read, bound)))

        def _read(self, bound):
            while True:
                self.told.append(bound.recv(1000).decode())

        def count(self, line):
            return sum(line in each.split("\n") for each in self.told)

        def close(self):
            for bound, reading in self._sockets:
                reading.kill()
                bound.close()

    manager = Manager()
    yield manager
    manager.close()
