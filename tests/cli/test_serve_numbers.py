"""`serve --workers --metrics`: one answer has the numbers of the master and of each worker."""

import contextlib
import os
import re
import signal
import time
from base64 import b64encode

import gevent
import pytest
from command_under_test import run, until_told
from helpers import free_ports
from http_pages import ask
from prometheus_client.parser import text_string_to_metric_families

from gzmqsource.cli._fleet.answers import Answers
from gzmqsource.cli._fleet.words import END, NUMBERS, RUNS
from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

CODE = """
import os, sys, time
from prometheus_client import REGISTRY, Gauge
class Broken:
    def collect(self):
        if os.path.exists("broken"):
            raise KeyError("no such number")
        return []
REGISTRY.register(Broken())
size = int(os.environ.get("SIZE", 0))
if size:
    many = Gauge("many", "A lot.", ["text"])
    for number in range(size // 1000):
        many.labels(f"{number:0990}").set(number)
def answer(request):
    return b"%d" % os.getpid()
"""


class Server:
    """A master and its page."""

    def __init__(self, process, port):
        self.process = process
        self.port = port

    def ready(self, count):
        """Wait until so many more workers are ready; return their processes."""
        lines = [until_told(self.process, "is ready") for _ in range(count)]
        return {int(re.findall(r"worker (\d+) ", line)[0]) for line in lines}

    def samples(self, name):
        """Return the values of a sample, by the name of the worker."""
        status, text = ask(self.port, "/metrics")
        assert status == 200
        return {
            sample.labels.get("worker", ""): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }

    def pids(self):
        """Return the process of each worker that has told its numbers."""
        pids = self.samples("gzmqsource_pid")
        assert pids.pop("") == self.process.pid
        return pids

    def until_told_by(self, names):
        """Wait until these workers have told their numbers, in time, and no others."""
        wait_until(lambda: set(self.pids()) == names, timeout=30)

    def until_told_of(self, pids):
        """Wait until all have told their numbers in time, and these are their processes."""
        wait_until(lambda: set(self.pids().values()) == pids, timeout=30)

    def missed(self):
        return self.samples("gzmqsource_worker_metrics_missed_total")


@pytest.fixture
def serve(serving, tmp_path):
    """Start a master with so many workers and more arguments, which are ready."""
    (tmp_path / "code.py").write_text(CODE)

    def start(workers, *arguments, **environment):
        port = free_ports(1)[0]
        given = ("--workers", workers, "--metrics", port, *arguments)
        process = serving(*given, target="code:answer", **environment)
        started = Server(process, port)
        pids = started.ready(workers)
        return started, pids

    return start


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_one_answer_has_the_numbers_of_each_worker(serve, address):
    server, pids = serve(3)
    server.until_told_by({"1", "2", "3"})
    server.until_told_of(pids)
    for _ in range(10):
        run("request", "--connect", address, "x")
    answered = server.samples("gzmqsource_responder_requests_total")
    assert set(answered) == {"1", "2", "3"}
    assert sum(answered.values()) == 10
    assert server.samples("gzmqsource_broker_requests_total") == {"": 10}
    assert set(server.samples("gzmqsource_ready").items()) == {(each, 1) for each in ("", *"123")}
    assert server.missed() == {"1": 0, "2": 0, "3": 0}


def test_a_stuck_worker_is_left_out_and_counted_until_it_answers_again(serve):
    server, _ = serve(2, "--stuck-after", 60)
    server.until_told_by({"1", "2"})
    before = server.missed()
    with stopped(int(server.pids()["1"])):
        server.until_told_by({"2"})
        assert server.missed()["1"] >= before["1"] + 2
        assert ask(server.port, "/healthz")[0] == 200
    server.until_told_by({"1", "2"})


@pytest.mark.idle
def test_an_answer_without_a_stuck_worker_takes_no_second(serve):
    server, _ = serve(2, "--stuck-after", 60)
    with stopped(int(server.pids()["1"])):
        began = time.monotonic()
        assert set(server.pids()) == {"2"}
        assert time.monotonic() - began < 1


def test_a_worker_that_is_not_ready_owes_nothing(serve, tmp_path):
    server, _ = serve(1)
    held_up = "import os, time\nwhile not os.path.exists('go on'): time.sleep(0.01)\n"
    (tmp_path / "code.py").write_text(held_up + CODE)
    server.process.send_signal(signal.SIGTTIN)
    until_told(server.process, "the number of workers is to be 2")
    assert server.missed() == {"1": 0}
    (tmp_path / "go on").touch()
    server.ready(1)
    server.until_told_by({"1", "2"})


def test_the_names_of_replaced_workers_are_used_again(serve):
    server, pids = serve(2)
    for _ in range(4):
        os.kill(min(pids), signal.SIGKILL)
        pids = pids - {min(pids)} | server.ready(1)
        server.until_told_by({"1", "2"})
        server.until_told_of(pids)


def test_rolls_need_one_name_more(serve):
    server, _ = serve(2)
    names = set()

    def keep_asking():
        while True:
            names.update(server.pids())
            gevent.sleep(0.05)  # a worker has its name for much longer

    asking = gevent.spawn(keep_asking)
    for _ in range(3):
        server.process.send_signal(signal.SIGHUP)
        until_told(server.process, "all workers were replaced")
        wait_until(lambda: len(server.pids()) == 2)
    asking.kill()
    assert names == {"1", "2", "3"}


def test_numbers_that_no_buffer_holds_are_told_whole(serve):
    server, _ = serve(2, SIZE="500000")
    reference = sum(range(500))
    for _ in range(2):
        text = ask(server.port, "/metrics")[1]
        for worker in "12":
            values = re.findall(rf'^many\{{text="\d+",worker="{worker}"\}} (\S+)$', text, re.M)
            assert sum(map(float, values)) == reference


def test_a_collector_that_fails_is_logged_and_the_worker_goes_on(serve, tmp_path):
    server, _ = serve(1)
    (tmp_path / "broken").touch()
    assert server.pids() == {}
    assert "no such number" in until_told(server.process, "the numbers of worker ")
    (tmp_path / "broken").unlink()
    server.until_told_by({"1"})


def test_without_pages_no_worker_collects_numbers(serving, address, tmp_path):
    code = (
        "import sys\ndef answer(x):\n    return str('prometheus_client' in sys.modules).encode()\n"
    )
    (tmp_path / "code.py").write_text(code)
    process = serving("--workers", 1, target="code:answer")
    until_told(process, "is ready")
    assert run("request", "--connect", address, "x").stdout == b"False\n"


def test_top_and_doctor_show_each_worker(serve):
    server, _ = serve(2)
    lines = run("top", server.port, "--count", 1, "--interval", 0.1).stdout.decode().splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["process", "master", "1", "2"]
    assert [line.split()[1] for line in lines[1:4]] == ["ready"] * 3
    assert max(map(len, lines[:4])) <= 80
    told = run("doctor", server.port).stdout.decode()
    assert re.search(r"workers +2, 2 of them ready", told)


# The line

ANSWER = NUMBERS + b64encode(b"one 1\n") + END


@pytest.mark.parametrize("size", [1, 3, 100])
def test_an_answer_is_taken_from_between_words_and_text(size):
    answers = Answers()
    said = b"Stack" + ANSWER[:4] + RUNS + ANSWER[4:] + b" of it\n"
    answer = answers.next()
    assert answers.next() is answer
    rest = b"".join(answers.take(said[at : at + size]) for at in range(0, len(said), size))
    assert (rest, answer.get(timeout=0)) == (b"Stack of it\n", "one 1\n")
    assert not answers.owed


def test_an_answer_that_is_too_long_is_none_and_not_kept(monkeypatch):
    monkeypatch.setattr(Answers, "most", 100)
    answers = Answers()
    answer = answers.next()
    answers.take(NUMBERS)
    for _ in range(100):
        answers.take(b"x" * 100)
    assert len(answers._body or b"") <= 200
    answers.take(END)
    assert answer.get(timeout=0) is None
    answer = answers.next()
    answers.take(ANSWER)
    assert answer.get(timeout=0) == "one 1\n"


def test_an_end_of_the_line_is_an_answer():
    answers = Answers()
    answer = answers.next()
    answers.take(ANSWER[:4])
    answers.give_up()
    assert answer.get(timeout=0) is None
    assert answers.take(b"Stack\n") == b"Stack\n"
