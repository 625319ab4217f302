"""`serve` at the limit of descriptors: who is connected is served, others come in later."""

import pathlib
import resource
import signal
import socket

import gevent
import psutil
import pytest
from command_under_test import COMMAND
from gevent import subprocess
from helpers import process_of

from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: Descriptors of the server, of which some 30 are its own.
LIMIT = 80

#: Connections of the flood.
FLOOD = 300


def set_limit():
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


def descriptors(process):
    return len([*pathlib.Path(f"/proc/{process.pid}/fd").iterdir()])


def until_the_hub_sleeps(process):
    """Wait until the main thread sleeps, and goes on to do so."""
    quiet = 0
    while quiet < 20:
        stat = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/stat").read_text()
        quiet = quiet + 1 if stat.rpartition(")")[2].split()[0] == "S" else 0
        gevent.sleep(0.002)


def test_a_flood_of_connections_costs_nobody_who_is_there(address, context, tmp_path):
    (tmp_path / "echo.py").write_text("def answer(request):\n    return request\n")
    command = (*COMMAND, "serve", "echo:answer", "--bind", address)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with (
        process_of(*command, cwd=tmp_path, stderr=subprocess.PIPE, preexec_fn=set_limit) as server,
        Requester.open(address, context=context, linger=0) as requester,
    ):
        lines: list[str] = []
        reading = gevent.spawn(lines.extend, iter(server.stderr.readline, ""))
        assert requester.request(b"before", 20) == [b"before"]
        before = psutil.Process(server.pid).memory_info().rss
        for _ in range(5):
            flood = []
            for _ in range(FLOOD):
                peer = socket.socket()
                peer.setblocking(False)
                peer.connect_ex((host, int(port)))
                flood.append(peer)
            wait_until(lambda: descriptors(server) == LIMIT)
            for _ in range(100):
                assert requester.request(b"meanwhile", 20) == [b"meanwhile"]
            until_the_hub_sleeps(server)
            assert descriptors(server) == LIMIT
            for peer in flood:
                peer.close()
            with Requester.open(address, context=context, linger=0) as other:
                assert other.request(b"after", 20) == [b"after"]
        assert psutil.Process(server.pid).memory_info().rss < before + (8 << 20)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0
        reading.join()
    assert len(lines) == 2  # that it has begun, and that it has stopped
