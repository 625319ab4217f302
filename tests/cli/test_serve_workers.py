"""`serve --workers`: how many processes answer, with which code, and how they come and go."""

import itertools
import os
import pathlib
import re
import signal
import stat

import gevent
import pytest
from asking import Asker, Kind
from command_under_test import COMMAND, run, until_told
from gevent import subprocess
from helpers import free_ports, process_of
from http_pages import ask
from loads import Clients

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: Answers with the process, the version of the code, and the request; notes each execution.
CODE = """
import os, gevent
with open("importers", "a") as file:
    file.write(f"{{os.getpid()}}\\n")
ran = open("ran", "ab", 0)
def answer(request):
    ran.write(request[0] + b"\\n")
    gevent.sleep(0.05)
    return [b"%d" % os.getpid(), b"{version}", *request]
def block(request):
    ran.write(request[0] + b"\\n")
    gevent.sleep(600)
"""


class Master:
    """A `serve` with workers, and a requester for it."""

    def __init__(self, process, folder, requester):
        self.process = process
        self.folder = folder
        self.requester = requester

    def ready(self, count):
        """Wait until so many workers have said that they serve."""
        for _ in range(count):
            until_told(self.process, "is ready")

    def ask(self, payload=b"x"):
        """Return the process that has answered, and the version of its code."""
        pid, version, _ = self.requester.request(payload, timeout=20)
        return int(pid), version.decode()

    def pids(self):
        """Return the processes that answer now."""
        asked = [gevent.spawn(self.ask) for _ in range(20)]
        return {greenlet.get(timeout=20)[0] for greenlet in asked}

    def all_pids(self, count):
        """Return the processes of so many workers, once each of them has answered."""
        pids: set[int] = set()

        def have_answered():
            pids.update(self.pids())
            return len(pids) == count

        wait_until(have_answered)
        return pids

    def code(self, version):
        (self.folder / "code.py").write_text(CODE.format(version=version))

    def roll(self):
        """Replace all workers, and return once they are."""
        self.process.send_signal(signal.SIGHUP)
        until_told(self.process, "all workers were replaced")

    def ran(self):
        """Return each request that a worker has begun, as often as it was."""
        return (self.folder / "ran").read_bytes().split()


@pytest.fixture
def master(serving, context, address, tmp_path):
    """Start a master with so many workers and more arguments; what is late is not lost."""
    (tmp_path / "code.py").write_text(CODE.format(version="old"))
    with Requester.open(address, context=context, linger=0, dead_after=20) as requester:

        def start(workers, *arguments, target="code:answer"):
            given = ("--workers", workers, "--dead-after", 20, *arguments)
            process = serving(*given, target=target)
            started = Master(process, tmp_path, requester)
            started.ready(workers)
            return started

        yield start


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_answer_and_only_they_import_the_module(master, tmp_path):
    started = master(3)
    pids = started.all_pids(3)
    importers = {int(line) for line in (tmp_path / "importers").read_text().split()}
    assert importers == pids
    assert started.process.pid not in importers


def test_workers_join_in_a_folder_that_no_other_user_may_enter_and_that_goes(master):
    started = master(1)
    (pid,) = started.pids()
    command = pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    (name,) = re.findall(r"ipc://(.*)/workers", command)
    folder = pathlib.Path(name)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(timeout=20) == 0
    assert not folder.exists()
    assert not is_running(pid)


def test_rolls_under_load_lose_nothing_and_repeat_nothing(master):
    started = master(2)
    clients = Clients(started.requester, 50)
    for number in range(5):
        started.code(f"new {number}")
        started.roll()
        assert started.ask()[1] == f"new {number}"
    clients.join()
    assert not clients.errors
    assert {answer[-1] for answer in clients.answers.values()} == set(clients.answers)
    ran = [number for number in started.ran() if number != b"x"]
    assert len(ran) == len(set(ran)) == len(clients.answers)


def test_new_code_that_does_not_import_leaves_the_old_one_serving(master):
    started = master(2)
    pids = started.all_pids(2)
    started.code('"\nraise KeyError("bad deploy")\n"')
    started.process.send_signal(signal.SIGHUP)
    until_told(started.process, "bad deploy")
    until_told(started.process, "the workers continue with the old code")
    assert started.pids() <= pids
    assert started.ask()[1] == "old"
    started.code("new")
    started.roll()
    assert started.ask()[1] == "new"


def test_a_hangup_during_a_roll_is_followed_by_another_roll(master):
    started = master(2)
    started.code("second")
    started.process.send_signal(signal.SIGHUP)
    until_told(started.process, "is ready")  # with the second code
    started.code("third")
    started.roll()
    versions = {gevent.spawn(started.ask).get(timeout=20)[1] for _ in range(20)}
    assert versions == {"third"}


HELD_UP = """
import os, time
open("importing", "w").close()
while not os.path.exists("go on"):
    time.sleep(0.01)
"""


def test_a_hangup_for_better_code_is_not_lost_to_the_failure_of_the_worse(master, tmp_path):
    started = master(1)
    (tmp_path / "code.py").write_text(f"{HELD_UP}\nraise KeyError('bad deploy')\n")
    started.process.send_signal(signal.SIGHUP)
    wait_until((tmp_path / "importing").exists, timeout=60)
    started.code("better")
    started.process.send_signal(signal.SIGHUP)
    until_told(started.process, "replaced one by one")
    until_told(started.process, "replaced one by one")
    (tmp_path / "go on").touch()
    until_told(started.process, "all workers were replaced")
    assert started.ask()[1] == "better"


def test_an_interrupt_from_a_terminal_while_workers_start_is_for_the_master(address, tmp_path):
    (tmp_path / "code.py").write_text(HELD_UP)
    with process_of(
        *(*COMMAND, "serve", "code:answer", "--workers", 2, "--bind", address),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        wait_until((tmp_path / "importing").exists, timeout=60)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert "KeyboardInterrupt" not in process.stderr.read()


def test_a_master_is_ready_once_a_worker_is(serving, tmp_path):
    (tmp_path / "code.py").write_text(f"{HELD_UP}\nanswer = list\n")
    port = free_ports(1)[0]
    process = serving("--workers", 1, "--metrics", port, target="code:answer")
    wait_until((tmp_path / "importing").exists, timeout=60)
    assert ask(port, "/readyz") == (503, "no worker is ready\n")
    (tmp_path / "go on").touch()
    until_told(process, "is ready")
    assert ask(port, "/readyz") == (200, "ready\n")


def test_there_is_one_more_worker_or_one_less_and_one_at_least(master):
    started = master(1)
    started.process.send_signal(signal.SIGTTIN)
    started.ready(1)
    wait_until(lambda: len(started.pids()) == 2)
    started.process.send_signal(signal.SIGTTOU)
    until_told(started.process, "has left")
    started.process.send_signal(signal.SIGTTOU)
    until_told(started.process, "the number of workers is to be 1")
    assert len(started.pids()) == 1


def test_a_worker_leaves_after_so_many_requests_and_its_successor_is_there(master):
    started = master(1, "--max-requests", 50, "--spawn", 10)
    clients = Clients(started.requester, 20)
    for _ in range(5):
        until_told(started.process, "has left")
    clients.join()
    assert not clients.errors
    answered = [int(pid) for pid, *_ in clients.answers.values()]
    assert len(set(answered)) >= 5
    assert len(started.ran()) == len(clients.answers)


def test_a_signal_to_a_worker_has_it_replaced_in_order(master):
    started = master(1)
    clients = Clients(started.requester, 20)
    (before,) = started.pids()
    os.kill(before, signal.SIGTERM)
    until_told(started.process, f"worker {before} has left")
    assert before not in started.pids()
    clients.join()
    assert not clients.errors


def kill_one(started, clients):
    """Kill a worker that has requests: stopped, it keeps all that it is given."""
    wait_until(lambda: len(started.pids()) == 2)
    victim = min(started.pids())
    wait_until(lambda: victim in {int(pid) for pid, *_ in clients.answers.values()})
    os.kill(victim, signal.SIGSTOP)
    answered = len(clients.answers)
    wait_until(lambda: len(clients.answers) > answered + 30)
    clients.errors.clear()
    os.kill(victim, signal.SIGKILL)


def test_killed_workers_cost_what_they_had_and_that_is_told_at_once(master):
    started = master(2, "--spawn", 10)
    clients = Clients(started.requester, 15, patient=True)
    for _ in range(5):
        kill_one(started, clients)
        until_told(started.process, "was killed by SIGKILL")
        wait_until(lambda: clients.errors)
        assert len(clients.errors) <= 10
    clients.join()
    assert all(isinstance(error, PeerLost) for error in clients.errors)
    ran = started.ran()
    assert len(ran) == len(set(ran) - {b"x"}) + ran.count(b"x")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_finishes_what_was_accepted(master, number):
    started = master(2, "--spawn", 5)
    clients = Clients(started.requester, 50)
    wait_until(lambda: len(clients.answers) > 200)
    started.process.send_signal(number)
    assert started.process.wait(timeout=20) == 0
    wait_until(lambda: started.requester.stats().waiting == 50)  # for another server
    assert not clients.errors
    started.requester.close()
    clients.join()
    assert sorted(started.ran()) == sorted(clients.answers)


def test_what_is_not_finished_in_time_is_counted(master):
    started = master(2, "--stop-timeout", 0.5, target="code:block")
    lost = [gevent.spawn(started.ask) for _ in range(3)]
    wait_until(lambda: len(started.ran()) == 3)
    started.process.send_signal(signal.SIGTERM)
    until_told(started.process, "not finished within 0.5 s: 3")
    assert started.process.wait(timeout=20) == 1
    for greenlet in lost:
        with pytest.raises(PeerLost):
            greenlet.get(timeout=20)


def test_a_second_signal_quits_at_once_and_says_what_was_left(master, tmp_path, context, address):
    started = master(2, "--spawn", 1, "--dead-after", 1, "--stop-timeout", 600, target="code:block")
    asked = [gevent.spawn(started.ask) for _ in range(2)]
    wait_until(lambda: len(started.ran()) == 2)
    with Asker(context, address) as asker:
        asker.ask()
        asker.until_heard(Kind.PONG)
        started.process.send_signal(signal.SIGTERM)
        asker.until_heard(Kind.LEAVING)
        # Signals within 0.1 s are one, and it says every 0.25 s that it is alive.
        asker.until_heard(Kind.PONG, asker.count(Kind.PONG) + 2)
    started.process.send_signal(signal.SIGTERM)
    until_told(started.process, "quit before the end: 3 requests (2 running, 1 waiting) not")
    assert started.process.wait(timeout=20) == 1
    assert not any(map(is_running, map(int, (tmp_path / "importers").read_text().split())))
    for greenlet in asked:
        with pytest.raises(PeerLost):
            greenlet.get(timeout=20)


def test_workers_that_never_start_end_the_master(address, tmp_path):
    (tmp_path / "code.py").write_text("import no_such_module\n")
    finished = run(*("serve", "code:answer", "--workers", 2, "--bind", address), cwd=tmp_path)
    assert finished.returncode == 1
    assert "No module named 'no_such_module'" in finished.stderr.decode()
    assert "no worker was ready, and all have ended" in finished.stderr.decode()


DYING = """
import gevent, os, time
with open("starts", "a") as file:
    file.write(f"{time.monotonic()}\\n")
def answer(request):
    os._exit(3)
"""


def test_workers_that_end_soon_are_started_later_and_later(serving, address, context, tmp_path):
    (tmp_path / "dying.py").write_text(DYING)
    process = serving("--workers", 1, target="dying:answer")
    with Requester.open(address, context=context, linger=0) as requester:
        for _ in range(6):
            until_told(process, "is ready")
            with pytest.raises(PeerLost):
                requester.request(b"x", timeout=20)
            until_told(process, "has ended with exit status 3")
    starts = [float(line) for line in (tmp_path / "starts").read_text().split()]
    between = [after - before for before, after in itertools.pairwise(starts)]
    assert between[-1] > 1.6  # it waits 0.1 s after the first end, and so long after this one
