"""`serve --workers` when a worker is stuck, and when the master itself is killed or stopped."""

import os
import pathlib
import re
import signal
import sys
import time

import gevent
import pytest
from command_under_test import until_told
from loads import Clients

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: Answers with the process; is stuck if asked to be.
CODE = """
import atexit, os, time, gevent
from gevent.monkey import get_original
sleep = get_original("time", "sleep")
if os.path.exists("lingers"):
    atexit.register(sleep, 2.5)
def answer(request):
    if request == [b"loop"]:
        while True:
            pass
    if request == [b"sleep"]:
        sleep(600)
    gevent.sleep(0.01)
    return [b"%d" % os.getpid(), *request]
"""


@pytest.fixture
def serve(serving, tmp_path):
    """Start a master with so many workers and more arguments; wait until they are ready."""
    (tmp_path / "code.py").write_text(CODE)

    def start(workers, *arguments):
        process = serving("--workers", workers, *arguments, target="code:answer")
        pids = [int(pid_in(until_told(process, "is ready"))) for _ in range(workers)]
        return process, pids

    return start


@pytest.fixture
def requester(context, address):
    with Requester.open(address, context=context, linger=0) as requester:
        yield requester


def pid_in(line):
    """Return the worker that a line is about."""
    return int(re.findall(r"worker (\d+) ", line)[0])


def is_running(pid):
    """Return whether a process has not ended; nobody may have waited for it yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", [b"loop", b"sleep"])
def test_a_stuck_worker_costs_what_it_had_and_is_replaced(serve, requester, how):
    process, pids = serve(4, "--spawn", 5)
    clients = Clients(requester, 15, patient=True)
    wait_until(lambda: len(clients.answers) > 100)
    with pytest.raises(PeerLost):
        requester.request(how, timeout=20)
    stuck = pid_in(until_told(process, "is stuck: its hub has not run for 2 s"))
    assert stuck in pids
    assert 'code.py", line' in until_told(process, " in answer")
    until_told(process, "is ready")
    wait_until(lambda: not is_running(stuck))
    clients.join()
    assert len(clients.errors) <= 4
    assert all(isinstance(error, PeerLost) for error in clients.errors)


@pytest.mark.idle
def test_that_is_told_within_a_quarter_more_than_dead_after_and_it_is_replaced_within_3_seconds(
    serve, requester
):
    process, _ = serve(4)
    began = time.monotonic()
    with pytest.raises(PeerLost):
        requester.request(b"loop", timeout=20)
    told = time.monotonic()
    until_told(process, "is stuck")
    until_told(process, "is ready")
    assert told - began < 1.25 + 0.05
    assert time.monotonic() - began < 3


def test_a_stuck_worker_does_not_hold_up_a_stop(serve, requester):
    process, pids = serve(2, "--stuck-after", 1)

    def workers():
        asked = [gevent.spawn(requester.request, b"x", timeout=20) for _ in pids]
        return {each.get(timeout=20)[0] for each in asked}

    wait_until(lambda: len(workers()) == 2)  # none waits behind the one that will be stuck
    stuck = gevent.spawn(requester.request, b"loop", timeout=20)
    answered = gevent.spawn(requester.request, b"x", timeout=20)
    answered.get(timeout=20)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(PeerLost):
        stuck.get(timeout=20)
    assert process.wait(timeout=20) == 1  # its request was accepted, and is lost


def test_workers_end_with_a_master_that_is_killed_and_the_next_one_serves(
    serve, requester, address
):
    process, pids = serve(2, "--stuck-after", 60)
    gevent.spawn(requester.request, b"loop", timeout=60)
    requester.request(b"x", timeout=20)
    command = pathlib.Path(f"/proc/{pids[0]}/cmdline").read_text()
    (folder,) = re.findall(r"ipc://(.*)/workers", command)
    assert os.path.exists(folder)
    process.kill()
    process.wait(timeout=20)
    wait_until(lambda: not any(map(is_running, pids)))
    assert not os.path.exists(folder)
    _, others = serve(1)
    assert requester.request(b"x", timeout=20)[0] == b"%d" % others[0]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is a call of Linux")
def test_workers_that_are_stopped_end_with_a_master_that_is_killed_too(serve):
    process, pids = serve(2, "--stuck-after", 60)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.wait(timeout=20)
    wait_until(lambda: not any(map(is_running, pids)), timeout=3)


def test_a_master_that_was_stopped_accuses_no_worker(serve, requester):
    process, pids = serve(2, "--stuck-after", 1)
    process.send_signal(signal.SIGSTOP)
    gevent.sleep(2.5)  # for nothing can be waited for in a process that does not run
    process.send_signal(signal.SIGCONT)
    for _ in range(100):
        assert int(requester.request(b"x", timeout=20)[0]) in pids
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert "stuck" not in process.stderr.read()


def test_a_worker_that_is_stopped_is_replaced(serve):
    process, pids = serve(2, "--stuck-after", 0.5)
    os.kill(pids[0], signal.SIGSTOP)
    assert pid_in(until_told(process, "is stuck")) == pids[0]
    until_told(process, "is ready")
    wait_until(lambda: not is_running(pids[0]))


def test_a_worker_that_takes_long_to_end_after_it_has_left_is_not_stuck(serve, tmp_path):
    (tmp_path / "lingers").touch()
    process, pids = serve(1, "--stuck-after", 1)
    os.kill(pids[0], signal.SIGTERM)
    assert "has left" in until_told(process, f"worker {pids[0]} ")
