"""Disconnecting while libzmq has read a part of a message: without care, it aborts the process."""

import gevent
import pytest
import zmq
from gevent.event import Event
from gevent.queue import Empty
from helpers import closing

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Responder

MESSAGE = [b"topic", b"a", b"b", b"c"]


@pytest.fixture(params=["SUB", "XSUB", "ROUTER", "DEALER", "PULL"])
def connected(request, context):
    """A connected socket with three messages, of one of which a part was read; its endpoint."""
    kinds = {"ROUTER": zmq.ROUTER, "DEALER": zmq.ROUTER, "PULL": zmq.PUSH}
    peer = context.socket(kinds.get(request.param, zmq.XPUB))
    peer.linger = 0
    peer.bind("tcp://127.0.0.1:*")
    endpoint = peer.last_endpoint.decode()
    socket = context.socket(getattr(zmq, request.param))
    message = MESSAGE
    if request.param == "SUB":
        socket.subscribe(b"topic")
    elif request.param in ("ROUTER", "DEALER"):
        socket.routing_id = b"topic"
        peer.router_mandatory = 1
    if request.param == "ROUTER":
        socket.connect_routing_id = b"peer"
        message = [b"peer", *MESSAGE[1:]]
    elif request.param == "DEALER":
        message = MESSAGE[1:]
    socket.connect(endpoint)
    if request.param == "XSUB":
        socket.send(b"\1topic")
    if request.param in ("SUB", "XSUB"):
        assert peer.recv() == b"\1topic"

    def is_sent():
        try:
            peer.send_multipart([*MESSAGE, b"0"])
        except zmq.ZMQError:
            return False
        return True

    wait_until(is_sent)
    for number in (b"1", b"2"):
        peer.send_multipart([*MESSAGE, number])
    assert socket.poll(5000)
    yield socket, endpoint, message, peer
    peer.close()


def until_there(source):
    """Wait until libzmq has a message, and has read a part of it."""
    wait_until(lambda: source.socket.get(zmq.EVENTS) & zmq.POLLIN)


@pytest.mark.parametrize("times", [1, 3])
def test_a_message_that_is_there_is_received_after_a_disconnect(connected, times):
    socket, endpoint, message, _ = connected
    with closing(Source(socket)) as (source,):
        for _ in range(times - 1):
            source.socket.connect("tcp://127.0.0.1:1")
            source.socket.disconnect("tcp://127.0.0.1:1")
            until_there(source)
        source.socket.disconnect(endpoint)
        for number in range(times):
            assert source.recv(timeout=5) == [*message, b"%d" % number]
        if times == 3:
            with pytest.raises(Empty):
                source.recv(block=False)


def test_a_greenlet_that_waits_gets_it(connected):
    socket, endpoint, message, peer = connected
    with closing(Source(socket)) as (source,):
        for _ in range(3):
            source.recv(timeout=5)
        receiving = gevent.spawn(source.recv)
        all_blocked()
        peer.send_multipart(MESSAGE)
        assert source.socket.poll(5000)
        source.socket.disconnect(endpoint)
        assert receiving.get(timeout=5) == message


def test_a_handler_gets_it_too(connected):
    socket, endpoint, message, _ = connected
    gate, handled = Event(), []

    def handle(message):
        handled.append(message)
        gate.wait()

    with closing(Source(socket, handle, spawn=1)) as (source,):
        source.start()
        wait_until(lambda: handled)
        until_there(source)
        source.socket.disconnect(endpoint)
        gate.set()
        wait_until(lambda: len(handled) >= 2)
        assert handled[:2] == [[*message, b"0"], [*message, b"1"]]


def test_a_worker_that_leaves_a_broker_that_does_not_answer_ends(context):
    """It disconnects with requests unread, which are counted."""
    front = context.socket(zmq.ROUTER)
    front.linger = 0
    front.bind("tcp://127.0.0.1:*")
    with Responder.join(
        front.last_endpoint.decode(), lambda payload: payload, 1, context=context
    ) as worker:
        worker.start()
        wait_until(lambda: front.poll(0))
        name = front.recv_multipart()[0]
        worker.source.pause()
        for number in range(10):
            front.send_multipart([name, b"peer", b"%d" % number, b"", b"payload"])
        until_there(worker.source)
        worker.leave(timeout=0)
    front.close()
