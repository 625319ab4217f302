"""Plain sockets beside the drop-in: what is done with them is not seen, and may eat their edge."""

import gevent
import pytest
import zmq
from green_under_test import soon
from zmq.sugar.context import Context as PlainContext

from gzmqsource.testing import all_blocked


@pytest.fixture
def plain_pair():
    """Two connected DEALERs, the first of which is polled, the second a peer that sends."""
    with (
        PlainContext() as context,
        context.socket(zmq.DEALER) as polled,
        context.socket(zmq.DEALER) as peer,
    ):
        polled.linger = peer.linger = 0
        polled.bind("inproc://plain")
        peer.connect("inproc://plain")
        yield polled, peer


CALLS = {
    "EVENTS": lambda socket: socket.get(zmq.EVENTS),
    "send": lambda socket: socket.send(b"x"),
    "bind": lambda socket: socket.bind("inproc://another"),
}


def poller_poll(green, socket):
    poller = green.Poller()
    poller.register(socket, zmq.POLLIN)
    return poller.poll()


POLLS = {
    "Poller": poller_poll,
    "zmq_poll": lambda green, socket: green.zmq_poll([(socket, zmq.POLLIN)]),
    "select": lambda green, socket: green.select([socket], [], []),
}


@pytest.mark.parametrize("poll", POLLS.values(), ids=list(POLLS))
@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_a_call_on_a_plain_socket_costs_no_poll_its_wake_up(green, plain_pair, call, poll):
    polled, peer = plain_pair
    polling = gevent.spawn(poll, green, polled)
    all_blocked()
    peer.send(b"message")
    call(polled)
    polled.get(zmq.EVENTS)  # now it is surely eaten
    assert soon(polling)
