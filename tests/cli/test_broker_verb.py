"""`broker`, as a user runs it."""

import re
import signal

import pytest
from command_under_test import run
from helpers import free_ports
from http_pages import ask

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester, Responder

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(60)]


@pytest.fixture
def ends():
    return [f"tcp://127.0.0.1:{port}" for port in free_ports(2)]


@pytest.fixture
def brokering(starting, ends):
    """Start ``broker``; gives its process."""

    def start(*arguments):
        return starting("broker", *ends, *arguments)

    return start


def test_it_shares_requests_out_and_stops_when_they_are_answered(brokering, ends, context):
    [port] = free_ports(1)
    process = brokering("--metrics", f"127.0.0.1:{port}")
    begun = []

    def answer(payload):
        begun.append(payload)
        wait_until(lambda: goes_on)
        return payload

    goes_on: list[bool] = []
    worker = Responder.join(ends[1], answer, 2, context=context)
    with Requester.open(ends[0], context=context) as requester:
        worker.start()
        asked = [requester.submit(b"x", timeout=20) for _ in range(3)]
        wait_until(lambda: len(begun) == 2)
        # A request that it reads after that would be refused.
        one_waits = re.compile(r"^gzmqsource_broker_waiting\{.*\} 1\.0$", re.MULTILINE)
        wait_until(lambda: one_waits.search(ask(port, "/metrics")[1]))
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: requester.endpoints()[0].state == "leaving")
        goes_on.append(True)
        assert [each.get() for each in asked] == [[b"x"]] * 3
        assert process.wait(20) == 0
    worker.stop(5)


def test_what_it_could_not_finish_is_its_status(brokering, ends, context):
    process = brokering("--stop-timeout", 0.5)
    with Requester.open(ends[0], context=context) as requester:
        requester.submit(b"x")
        # The broker speaks to a client once it has read the first of its messages.
        wait_until(lambda: requester.endpoints()[0].speaks)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 1
        assert "not finished within 0.5 s: 1" in process.stderr.read()


def test_a_request_that_a_worker_loses_during_the_stop_is_its_status(brokering, ends, context):
    process = brokering()
    begun = []

    def answer(payload):
        begun.append(payload)
        wait_until(lambda: False)

    worker = Responder.join(ends[1], answer, 1, context=context)
    with Requester.open(ends[0], context=context) as requester:
        worker.start()
        asked = requester.submit(b"x", timeout=20)
        wait_until(lambda: begun)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: requester.endpoints()[0].state == "leaving")
        worker.stop(0)
        with pytest.raises(PeerLost):
            asked.get()
        assert process.wait(20) == 1
        assert "lost by workers during the stop: 1" in process.stderr.read()


def test_an_endpoint_that_is_taken_is_named(brokering, ends):
    brokering()
    finished = run("broker", *ends, text=True)
    assert finished.returncode == 1
    assert ends[0] in finished.stderr
    assert "in use" in finished.stderr
