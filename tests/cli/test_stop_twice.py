"""A stop that takes long: what it says, and what another signal does."""

import os
import pathlib
import re
import signal

import gevent
import pytest
import zmq
from asking import Asker
from command_under_test import running, until_told
from gevent import subprocess
from helpers import closing, free_ports

from gzmqsource import Source
from gzmqsource.errors import PeerLost
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester
from gzmqsource.workers._header import Kind

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: Notes each call, which goes on until there is a file.
HANDLER = """
import gevent, os
def answer(payload):
    with open("begun", "ab", 0) as file:
        file.write(b"x")
    while not os.path.exists("finish"):
        gevent.sleep(0.01)
    return payload
"""


@pytest.fixture
def slow(serving, tmp_path):
    """Start ``serve`` with a handler that takes long; gives its process."""
    (tmp_path / "slow.py").write_text(HANDLER)

    def start(*arguments):
        return serving(*arguments, target="slow:answer")

    return start


@pytest.fixture
def begun(tmp_path):
    """Wait until so many handlers have begun."""
    path = pathlib.Path(tmp_path, "begun")
    return lambda count: wait_until(lambda: path.exists() and path.stat().st_size == count)


@pytest.fixture
def ask(context, address):
    """Make requests in greenlets of their own; gives these."""
    with Requester.open(address, context=context, linger=0) as requester:
        yield lambda count=1: [gevent.spawn(requester.request, b"x") for _ in range(count)]
        requester.close()


def test_a_ctrl_c_says_what_it_waits_for_and_a_second_one_quits(slow, begun, context, address):
    process = slow("--spawn", 2, "--max-waiting", 1)
    with Asker(context, address) as asker:
        *_, refused = [asker.ask() for _ in range(4)]
        asker.wait_for(refused, Kind.REFUSED)  # it came behind the one that waits
        begun(2)
        process.send_signal(signal.SIGINT)
        line = until_told(process, "stopping")
        assert (
            "3 requests (2 running, 1 waiting), for 30 s at most; Ctrl-C again gives them" in line
        )
        process.send_signal(signal.SIGINT)
        until_told(process, "quit before the end: 3 requests (2 running, 1 waiting) not finished")
        assert process.wait(timeout=20) == 130


def test_a_second_sigterm_of_a_manager_takes_no_time_from_the_handlers(slow, begun, ask, tmp_path):
    process = slow()
    (asked,) = ask()
    begun(1)
    process.terminate()
    line = until_told(process, "stopping: 1 request (1 running, 0 waiting), for 30 s at most")
    assert "Ctrl-C" not in line
    process.terminate()
    (tmp_path / "finish").touch()
    assert asked.get(timeout=20) == [b"x"]
    assert process.wait(timeout=20) == 0


def test_a_ctrl_c_after_a_sigterm_quits(slow, begun, ask):
    process = slow()
    ask()
    begun(1)
    process.terminate()
    until_told(process, "stopping: 1 request")
    process.send_signal(signal.SIGINT)
    until_told(process, "quit before the end: 1 request (1 running, 0 waiting) not finished")
    assert process.wait(timeout=5) == 130


def test_an_idle_server_stops_without_a_word_of_waiting(serving):
    process = serving()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert "stopping" not in process.stderr.read()


def test_messages_that_have_no_reply_are_waited_for_and_counted_too(slow, begun, context, address):
    process = slow("--type", "pull", "--spawn", 2)
    with closing(Source.open(zmq.PUSH, connect=address, context=context, linger=0)) as (source,):
        for _ in range(2):
            source.send(b"x")
        begun(2)
        process.send_signal(signal.SIGINT)
        until_told(process, "stopping: 2 messages (2 running, 0 waiting), for 30 s at most")
        process.send_signal(signal.SIGINT)
        until_told(process, "quit before the end: 2 messages (2 running, 0 waiting) not finished")
        assert process.wait(timeout=5) == 130


def test_messages_whose_handlers_were_killed_at_the_deadline_are_the_status(
    slow, begun, context, address
):
    process = slow("--type", "pull", "--stop-timeout", 0.5)
    with closing(Source.open(zmq.PUSH, connect=address, context=context, linger=0)) as (source,):
        source.send(b"x")
        begun(1)
        process.terminate()
        until_told(process, "not finished within 0.5 s: 1")
        assert process.wait(timeout=20) == 1


def test_a_second_ctrl_c_of_a_master_has_the_same_status(slow, begun, ask):
    process = slow("--workers", 1)
    ask()
    begun(1)
    process.send_signal(signal.SIGINT)
    until_told(process, "stopping: 1 request")
    process.send_signal(signal.SIGINT)
    until_told(process, "quit before the end: 1 request (1 running, 0 waiting) not finished")
    assert process.wait(timeout=20) == 130


def test_a_broker_whose_requests_wait_for_a_worker_can_be_quit(starting, address, context):
    process = starting("broker", address, f"tcp://127.0.0.1:{free_ports(1)[0]}")
    with Asker(context, address) as asker:
        asker.ask()
        asker.say(Kind.PING)
        asker.until_heard(Kind.PONG)
        process.send_signal(signal.SIGINT)
        until_told(process, "stopping: 1 request (0 running, 1 waiting), for 30 s at most")
        process.send_signal(signal.SIGINT)
        until_told(process, "quit before the end: 1 request (0 running, 1 waiting) not finished")
        assert process.wait(timeout=5) == 130


def test_a_proxy_whose_messages_no_peer_takes_can_be_quit(context, address):
    back = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    command = ("proxy", address, back, "--pattern", "jobs")
    options = {"context": context, "linger": 0}
    with running(*command, stderr=subprocess.PIPE) as process:
        until_told(process, "is served")
        with (
            closing(Source.open(zmq.PULL, connect=back, rcvhwm=1, rcvbuf=4096, **options)) as (
                slow,
            ),
            closing(Source.open(zmq.PUSH, connect=address, **options)) as (source,),
        ):
            for number in range(200):
                source.send([b"%d" % number, b"x" * 100_000])
            assert slow.recv(timeout=10)[0] == b"0"
            process.send_signal(signal.SIGINT)
            until_told(process, "stopping: messages that were received, for 30 s at most")
            process.send_signal(signal.SIGINT)
            until_told(process, "quit before the end")
            assert process.wait(timeout=5) == 130


def test_a_worker_that_dies_during_a_stop_makes_the_status_1(slow, begun, ask):
    process = slow("--workers", 1)
    worker = re.search(r"worker .*?(\d+).*is ready", until_told(process, "is ready"))
    (asked,) = ask()
    begun(1)
    process.terminate()
    until_told(process, "stopping: 1 request")
    assert worker
    os.kill(int(worker[1]), signal.SIGKILL)
    with pytest.raises(PeerLost):
        asked.get(timeout=20)
    until_told(process, "lost by workers during the stop: 1")
    assert process.wait(timeout=20) == 1
