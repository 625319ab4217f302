"""`serve`, as a user runs it: under load, stopped, and with new code."""

import itertools
import signal
import urllib.request

import gevent
import pytest
import zmq
from command_under_test import run
from helpers import free_ports

from gzmqsource import Source, SourceClosed
from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


def test_requests_are_answered_by_a_handler(serving, address):
    serving()
    finished = run("request", "--connect", address, "one", "two")
    assert (finished.returncode, finished.stdout) == (0, b"old\tone\nold\ttwo\n")


def test_a_handler_that_raises_is_told_to_who_asked(serving, address):
    serving(target="served:fail")
    finished = run("request", "--connect", address, "x")
    assert finished.returncode == 1
    assert "KeyError: 'no such thing'" in finished.stderr.decode()


def test_a_handler_that_takes_too_long_is_ended(serving, address):
    serving("--timeout", 0.05, target="served:block")
    finished = run("request", "--connect", address, "x")
    assert "Timeout: 0.05 seconds" in finished.stderr.decode()


class Clients:
    """200 greenlets that ask, one request after another, until they are told or an error comes."""

    def __init__(self, requester):
        self.requester = requester
        self.answers = {}
        self.errors = []
        self.told = False
        self._numbers = itertools.count()
        self._greenlets = [gevent.spawn(self._ask) for _ in range(200)]

    def _ask(self):
        while not self.told:
            number = b"%d" % next(self._numbers)
            try:
                self.answers[number] = self.requester.request(number, timeout=10)
            except (PeerLost, SourceClosed) as error:
                self.errors.append(error)
                return

    def join(self):
        gevent.joinall(self._greenlets, timeout=20, raise_error=True)


def test_a_server_told_to_stop_answers_what_it_has_accepted(serving, address, context, tmp_path):
    process = serving(target="served:note")
    with Requester.open(address, context=context, lost="fail", linger=0) as requester:
        clients = Clients(requester)
        wait_until(lambda: len(clients.answers) > 1000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        wait_until(lambda: clients.errors)  # the connection is lost, and all replies are in
        requester.close()
        clients.join()
    accepted = (tmp_path / "accepted").read_bytes().split()
    assert clients.answers == {number: [number] for number in accepted}


def test_after_a_hangup_the_new_code_serves_and_no_request_is_lost(
    serving, address, context, tmp_path
):
    process = serving()
    served = tmp_path / "served.py"
    with Requester.open(address, context=context, lost="fail", linger=0) as requester:
        clients = Clients(requester)
        wait_until(lambda: len(clients.answers) > 1000)
        served.write_text(served.read_text().replace("old", "new, and longer"))
        process.send_signal(signal.SIGHUP)
        assert "loaded anew" in process.stderr.readline()
        wait_until(lambda: requester.request(b"x", 10) == [b"new, and longer", b"x"])
        served.write_text("this is no Python")
        process.send_signal(signal.SIGHUP)
        assert "the old code goes on" in process.stderr.readline()
        assert requester.request(b"x", 10) == [b"new, and longer", b"x"]
        clients.told = True
        clients.join()
    assert not clients.errors
    for number, answer in clients.answers.items():
        assert answer in ([b"old", number], [b"new, and longer", number])


def test_a_server_tells_its_numbers(serving, address):
    port = free_ports(1)[0]
    serving("--metrics", port)
    run("request", "--connect", address, "x")

    def read():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}") as answer:
            return answer.read().decode()

    assert "gzmqsource_received_messages_total{" in gevent.get_hub().threadpool.apply(read)


def test_jobs_are_handled_without_an_answer(serving, address, context):
    process = serving("--type", "pull", target="builtins:print")
    with Source.open(zmq.PUSH, connect=address, context=context) as source:
        source.send(b"job")
        assert process.stdout.readline() == "[b'job']\n"
