"""A signal handler between the call that found nothing and the wait for an edge."""

import time

import gevent
import pytest
import zmq
from helpers import closing, unique_inproc

from gzmqsource import Source, SourceClosed, green
from gzmqsource._socket.readiness import Readiness
from gzmqsource.green._shared import shared_socket
from gzmqsource.testing import all_blocked, wait_until


@pytest.fixture
def strike(monkeypatch):
    """Have a function called once, when the next greenlet is about to wait."""
    strikes: list[object] = []
    start_watching = Readiness._start_watching

    def struck(readiness):
        if strikes:
            strikes.pop()()  # type: ignore[operator]
        start_watching(readiness)

    monkeypatch.setattr(Readiness, "_start_watching", struck)
    return strikes.append


@pytest.fixture
def peer(context):
    socket = context.socket(zmq.PAIR)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = 1
    socket.bind(unique_inproc())
    yield socket
    socket.close()


def pair_with(peer, handle=None):
    endpoint = peer.LAST_ENDPOINT.decode()
    return Source.open(
        zmq.PAIR, handle, connect=endpoint, context=peer.context, linger=0, sndhwm=1, rcvhwm=1
    )


def look(source):
    source.socket.get(zmq.EVENTS)


def send(source):
    time.sleep(0.01)  # libzmq's delay until a send processes commands again
    source.send(b"x")


@pytest.mark.parametrize("call", [look, send])
@pytest.mark.parametrize("way", ["handler", "recv"])
def test_a_message_is_not_missed(peer, strike, way, call):
    got: list[list[bytes]] = []
    with closing(pair_with(peer, got.append if way == "handler" else None)) as (source,):

        def eat_edge():
            peer.send(b"x")
            call(source)

        strike(eat_edge)
        if way == "handler":
            source.start()
        else:
            gevent.spawn(lambda: got.append(source.recv()))
        wait_until(lambda: got == [[b"x"]])


def test_a_message_for_a_green_socket_is_not_missed(peer, strike):
    socket = green.Socket(green.Context.shadow(peer.context), zmq.PAIR)
    socket.connect(peer.LAST_ENDPOINT.decode())

    def eat_edge():
        peer.send(b"x")
        socket.get(zmq.EVENTS)

    strike(eat_edge)
    receiving = gevent.spawn(socket.recv)
    assert receiving.get(timeout=5) == b"x"
    socket.close(0)


@pytest.mark.parametrize(
    "receive_one",
    [
        lambda socket: socket.recv(),
        lambda socket: socket.recv_multipart()[0],
        lambda socket: socket.recv(copy=False).bytes,
    ],
    ids=["frame", "message", "uncopied"],
)
def test_a_green_receive_without_a_shortcut_needs_no_look(peer, receive_one):
    socket = green.Socket(green.Context.shadow(peer.context), zmq.PAIR)
    socket.connect(peer.LAST_ENDPOINT.decode())
    shared = shared_socket(socket)
    shared.shortcuts.may_pull = False
    events = shared.readiness._events
    looks: list[int] = []
    got: list[bytes] = []

    def look_at():
        looks.append(len(got))
        return events()

    def receive():
        while len(got) < 20:
            got.append(receive_one(socket))

    receiving = gevent.spawn(receive)
    all_blocked()
    shared.readiness._events = look_at
    for _ in range(20):
        peer.send(b"x")
        all_blocked()
    receiving.join(5)
    socket.close(0)
    assert (len(got), looks) == (20, [])


def test_room_for_a_sender_is_not_missed(peer, strike):
    with closing(pair_with(peer)) as (source,):

        def eat_edge():
            while peer.poll(0):
                peer.recv()
            source.socket.get(zmq.EVENTS)

        while not source.stats().outbox_depth:
            strike(eat_edge)
            source.send(b"x")
        before = source.stats().sent
        wait_until(lambda: source.stats().sent > before)


@pytest.mark.parametrize("way", ["handler", "recv"])
def test_a_close_ends_the_greenlet_that_is_about_to_wait(peer, strike, way):
    with closing(pair_with(peer, print if way == "handler" else None)) as (source,):
        readiness = source._core.socket.readiness
        strike(source.close)
        if way == "handler":
            source.start()
            wait_until(lambda: source.closed)
            all_blocked()
            assert not source._receiver._crew._workers
        else:
            with pytest.raises(SourceClosed):
                gevent.spawn(source.recv).get(timeout=5)
        assert not readiness.waiting
        assert readiness._watcher is None
