"""The exit status of a server that stops while a plain client goes on to ask."""

import contextlib
import signal

import gevent
import pytest
import zmq
from helpers import free_ports

from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@pytest.fixture
def flood(context, address):
    """Ask faster than any server answers, and read the answers; gives a list of these."""
    answers: list = []
    with context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(address)

        def ask():
            while True:
                with contextlib.suppress(zmq.Again):
                    for _ in range(100):
                        client.send_multipart([b"", b"x"], zmq.NOBLOCK)
                with contextlib.suppress(zmq.Again):
                    while True:
                        answers.append(client.recv_multipart(zmq.NOBLOCK))
                gevent.sleep(0.005)

        asking = gevent.spawn(ask)
        yield answers
        asking.kill()


@pytest.mark.parametrize("how", ["serve", "workers", "broker"])
def test_requests_that_were_never_accepted_leave_the_status_at_0(
    serving, starting, flood, address, how
):
    if how == "broker":
        back = f"tcp://127.0.0.1:{free_ports(1)[0]}"
        process = starting("broker", address, back)
        serving("--join", back, binds=False)
    else:
        process = serving(*(("--workers", 1) if how == "workers" else ()))
    wait_until(lambda: flood, timeout=60)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=40)
    assert process.returncode == 0, told
    assert " unread" in told
    assert "not finished" not in told
