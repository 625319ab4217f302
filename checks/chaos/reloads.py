"""A server whose code is replaced while it serves."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import sys
import tempfile

import gevent
from gevent import subprocess
from helpers import free_ports, process_of

from chaos.counting import fault
from chaos.peer import PATIENCE, message_of, number_of
from chaos.traffic import COUNT, held
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester

#: A module that takes a while to load. Each reply tells the version of two of its parts.
MODULE = """
import gevent
TABLE = b"{version}"
gevent.sleep(0.01)
def answer(request, version=b"{version}"):
    return [TABLE, version, *request]
"""

#: What may be at its end, so that it cannot be loaded.
FAILS = ("raise RuntimeError", "import no_such_module", "del answer", "this is no Python", "exit()")


class Server:
    """``serve`` with a module that is written anew."""

    def __init__(self, folder, process):
        self._module = pathlib.Path(folder) / "served.py"
        self._process = process

    def load(self, version, end=""):
        """Give the server new code, in one step, and hang up."""
        new = self._module.with_suffix(".new")
        new.write_text(MODULE.format(version=version) + end)
        new.replace(self._module)
        self._process.send_signal(signal.SIGHUP)


@contextlib.contextmanager
def served(*words):
    """Give the address of a server with more arguments, and the `Server`."""
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    serve = (sys.executable, "-m", "gzmqsource.cli", "serve", "served:answer")
    command = (*serve, "--bind", address, *words)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "served.py").write_text(MODULE.format(version="first"))
        options = {"cwd": folder, "env": environment, "stderr": subprocess.PIPE}
        with process_of(*command, **options) as process:
            reading = gevent.spawn(process.stderr.read)
            yield address, Server(folder, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
            reading.get()
            process.stderr.close()


def asking(requester):
    """Give what asks once, and returns the version that replies, and the number of the reply."""

    def ask(number=0, timeout=PATIENCE):
        table, version, *payload = requester.request(message_of(number), timeout)
        assert table == version, f"half of the code is new: {table} {version}"
        assert not version.startswith(b"bad"), version
        return version, number_of(payload)

    return ask


def deploy(server):
    """Hang up again and again, mostly with bad code, and often while code is loaded."""
    for number in range(20):
        server.load(f"bad {number}", random.choice(FAILS))
        gevent.sleep(random.choice([0, 0, 0.005, 0.02]))
        if number % 4 == 0:
            server.load(f"good {number}")
            gevent.sleep(random.choice([0, 0.02]))
    server.load("last")


@fault("a server is told to load bad and good code, again and again")
def _(tally):
    with served() as (address, server), held(Requester.open(address, linger=0)) as requester:
        ask = asking(requester)
        ask(timeout=30)  # until it has started
        deploying = gevent.spawn(deploy, server)
        tally.add(COUNT, [ask(number)[1] for number in range(COUNT)])
        deploying.get(timeout=30)
        wait_until(lambda: ask()[0] == b"last")


@fault("a server rolls its workers while it is asked")
def _(tally):
    with (
        served("--workers", "2", "--dead-after", "20") as (address, server),
        held(Requester.open(address, linger=0, dead_after=20)) as requester,
    ):
        ask = asking(requester)
        ask(timeout=30)  # until a worker is ready
        server.load("last")
        numbers: list[int] = []
        in_a_row = 0
        while in_a_row < COUNT:  # each worker may be asked in turn
            version, number = ask(len(numbers))
            in_a_row = in_a_row + 1 if version == b"last" else 0
            numbers.append(number)
        tally.add(len(numbers), numbers)
