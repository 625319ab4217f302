"""No call on a source or its socket robs a waiting greenlet of its edge.

Each test puts something into the socket's mailbox without running the hub, then makes a call that
reads the mailbox. No edge comes afterwards, so only a look after that call wakes who waits.
"""

import contextlib
import itertools
import time
import uuid

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from gevent.queue import Empty
from helpers import is_readable

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until

_select = get_original("select", "select")

PROMPT = 10


def has_edge(raw, timeout=0):
    """Whether the mailbox holds commands; waits for them without the hub."""
    return bool(_select([raw.fileno()], [], [], timeout)[0])


def address_of(raw):
    return raw.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()


@contextlib.contextmanager
def link(context, endpoint, kind=zmq.DEALER, peer_kind=zmq.DEALER, handle=None, **options):
    """A bound source, its raw socket, and a plain peer whose first message has arrived."""
    raw = context.socket(kind)
    peer = context.socket(peer_kind)
    for name, value in options.items():
        setattr(raw, name, value)
        setattr(peer, name, value)
    raw.linger = peer.linger = 0
    raw.bind(endpoint)
    peer.connect(address_of(raw))
    source = Source(raw, handle)
    try:
        yield source, raw, peer
    finally:
        source.close()
        peer.close()


def receive(peer):
    """Receive from a plain socket while the hub runs."""
    wait_until(lambda: peer.poll(0))
    return peer.recv()


def arrive(raw, peer, *messages):
    """Bring messages into the mailbox while the hub stands still."""
    assert not has_edge(raw)
    for message in messages:
        peer.send(message)
    assert has_edge(raw, 5)


def eat_with_send(send, raw):
    """Send until the edge is gone: a send reads the mailbox only once in a while."""
    deadline = time.monotonic() + 5
    while has_edge(raw):
        send(b"eats the edge")
        assert time.monotonic() < deadline


def _enter_and_leave_bind(source, raw):
    with source.socket.bind(f"inproc://{uuid.uuid4()}"):
        pass


EXTRA = "tcp://127.0.0.1:9"

#: Calls that leave the message where it is.
LOOKING = {
    "source.send": lambda source, raw: eat_with_send(source.send, raw),
    "source.send_nowait": lambda source, raw: eat_with_send(source.send_nowait, raw),
    "sender.send": lambda source, raw: eat_with_send(source.sender().send, raw),
    "send": lambda source, raw: eat_with_send(source.socket.send, raw),
    "send_multipart": lambda source, raw: eat_with_send(
        lambda frame: source.socket.send_multipart([frame]), raw
    ),
    "get(EVENTS)": lambda source, raw: source.socket.get(zmq.EVENTS),
    "getsockopt(EVENTS)": lambda source, raw: source.socket.getsockopt(zmq.EVENTS),
    ".EVENTS": lambda source, raw: source.socket.EVENTS,
    ".events": lambda source, raw: source.socket.events,
    "poll(0)": lambda source, raw: source.socket.poll(0),
    "zmq_poll": lambda source, raw: zmq.zmq_poll([(source.socket, zmq.POLLIN)], 0),
    "zmq.select": lambda source, raw: zmq.select([source.socket], [], [], 0),
    "bind": lambda source, raw: source.socket.bind(f"inproc://{uuid.uuid4()}"),
    "bind_to_random_port": lambda source, raw: source.socket.bind_to_random_port("tcp://127.0.0.1"),
    "with bind": _enter_and_leave_bind,
    "connect": lambda source, raw: source.socket.connect("tcp://127.0.0.1:10"),
    "unbind": lambda source, raw: source.socket.unbind(source.extra),
    "disconnect": lambda source, raw: source.socket.disconnect(EXTRA),
    "failing unbind": lambda source, raw: pytest.raises(
        zmq.ZMQError, source.socket.unbind, "inproc://nowhere"
    ),
}

#: Calls that take a message.
TAKING = {
    "source.recv": lambda source, raw: source.recv(block=False),
    "source.recv_many": lambda source, raw: source.recv_many(1, block=False),
    "recv": lambda source, raw: source.socket.recv(zmq.NOBLOCK),
    "recv_multipart": lambda source, raw: source.socket.recv_multipart(zmq.NOBLOCK),
}
if hasattr(zmq.Socket, "recv_into"):  # pyzmq 26.4
    TAKING["recv_into"] = lambda source, raw: source.socket.recv_into(
        bytearray(9), flags=zmq.NOBLOCK
    )

looking = pytest.mark.parametrize("call", LOOKING.values(), ids=list(LOOKING))
taking = pytest.mark.parametrize("call", TAKING.values(), ids=list(TAKING))


def with_extras(source):
    """Give the source an endpoint to unbind, and one to disconnect."""
    source.extra = f"inproc://{uuid.uuid4()}"
    source.socket.bind(source.extra)
    source.socket.connect(EXTRA)


@looking
def test_no_call_robs_a_greenlet_in_recv(context, endpoint, call):
    with link(context, endpoint) as (source, raw, peer):
        with_extras(source)
        peer.send(b"first")
        assert source.recv(timeout=5) == [b"first"]
        waiting = gevent.spawn(source.recv)
        all_blocked()
        arrive(raw, peer, b"second")
        call(source, raw)
        assert waiting.get(timeout=PROMPT) == [b"second"]


@taking
def test_no_receive_robs_a_greenlet_in_recv_of_the_next_message(context, endpoint, call):
    with link(context, endpoint) as (source, raw, peer):
        peer.send(b"first")
        assert source.recv(timeout=5) == [b"first"]
        waiting = gevent.spawn(source.recv)
        all_blocked()
        arrive(raw, peer, b"second", b"third")
        call(source, raw)
        assert waiting.get(timeout=PROMPT) == [b"third"]


@looking
def test_no_call_robs_a_handler(context, endpoint, call):
    handled: list[list[bytes]] = []
    with link(context, endpoint, handle=handled.append) as (source, raw, peer):
        with_extras(source)
        source.start()
        peer.send(b"first")
        wait_until(lambda: handled)
        all_blocked()
        arrive(raw, peer, b"second")
        call(source, raw)
        wait_until(lambda: handled == [[b"first"], [b"second"]], PROMPT)


@pytest.mark.parametrize("call", list(TAKING.values())[2:], ids=list(TAKING)[2:])
def test_no_receive_on_the_socket_robs_a_handler_of_the_next_message(context, endpoint, call):
    handled: list[list[bytes]] = []
    with link(context, endpoint, handle=handled.append) as (source, raw, peer):
        source.start()
        peer.send(b"first")
        wait_until(lambda: handled)
        all_blocked()
        arrive(raw, peer, b"second", b"third")
        call(source, raw)
        wait_until(lambda: handled == [[b"first"], [b"third"]], PROMPT)


def test_a_failing_send_robs_no_greenlet_in_recv(context, endpoint):
    raw = context.socket(zmq.ROUTER)
    raw.router_mandatory = True
    raw.linger = 0
    raw.bind(endpoint)
    peer = context.socket(zmq.DEALER)
    peer.linger = 0
    peer.connect(address_of(raw))
    source = Source(raw)

    def fail(_):
        with pytest.raises(zmq.ZMQError, match="unreachable"):
            source.send([b"nobody", b"message"])

    try:
        peer.send(b"first")
        source.recv(timeout=5)
        waiting = gevent.spawn(source.recv)
        all_blocked()
        arrive(raw, peer, b"second")
        eat_with_send(fail, raw)
        assert waiting.get(timeout=PROMPT)[1:] == [b"second"]
    finally:
        source.close()
        peer.close()


KEPT = {
    "send": lambda socket, raw: eat_with_send(socket.send, raw),
    "send_string": lambda socket, raw: eat_with_send(lambda _: socket.send_string("."), raw),
    "get": lambda socket, raw: socket.get(zmq.EVENTS),
    "getsockopt": lambda socket, raw: socket.getsockopt(zmq.EVENTS),
    ".EVENTS": lambda socket, raw: socket.EVENTS,
    "poll": lambda socket, raw: socket.poll(0),
    "bind": lambda socket, raw: socket.bind(f"inproc://{uuid.uuid4()}"),
    "connect": lambda socket, raw: socket.connect("tcp://127.0.0.1:10"),
    "disconnect": lambda socket, raw: socket.disconnect(EXTRA),
}


@pytest.mark.parametrize("call", KEPT.values(), ids=list(KEPT))
def test_no_call_on_a_socket_taken_earlier_robs_a_greenlet_in_recv(context, endpoint, call):
    with link(context, endpoint) as (source, raw, peer):
        with_extras(source)
        kept = source.socket
        peer.send(b"first")
        assert source.recv(timeout=5) == [b"first"]
        waiting = gevent.spawn(source.recv)
        all_blocked()
        arrive(raw, peer, b"second")
        call(kept, raw)
        assert waiting.get(timeout=PROMPT) == [b"second"]


def test_no_failing_call_robs_a_greenlet_in_recv(context, endpoint):
    """What failed has read the mailbox all the same."""
    with link(context, endpoint) as (source, raw, peer):
        kept = source.socket
        peer.send(b"first")
        assert source.recv(timeout=5) == [b"first"]
        waiting = gevent.spawn(source.recv)
        all_blocked()
        arrive(raw, peer, b"second")
        with pytest.raises(zmq.ZMQError):
            kept.unbind("inproc://nowhere")
        assert not has_edge(raw)
        assert waiting.get(timeout=PROMPT) == [b"second"]


SUBSCRIBING = {
    "subscribe": lambda source: source.socket.subscribe(b"b"),
    "unsubscribe": lambda source: source.socket.unsubscribe(b"b"),
    "setsockopt": lambda source: source.socket.setsockopt(zmq.SUBSCRIBE, b"b"),
    "set": lambda source: source.socket.set(zmq.SUBSCRIBE, b"b"),
    "setsockopt_string": lambda source: source.socket.setsockopt_string(zmq.SUBSCRIBE, "b"),
    "attribute": lambda source: setattr(source.socket, "subscribe", b"b"),
    "linger": lambda source: setattr(source.socket, "linger", 0),
}


@pytest.mark.parametrize("call", SUBSCRIBING.values(), ids=list(SUBSCRIBING))
def test_no_option_robs_a_subscriber(context, endpoint, call):
    with link(context, endpoint, zmq.SUB, zmq.XPUB) as (source, raw, peer):
        source.socket.subscribe(b"a")
        source.socket.subscribe(b"b")
        waiting = gevent.spawn(source.recv)
        assert sorted(receive(peer) for _ in range(2)) == [b"\x01a", b"\x01b"]
        all_blocked()
        arrive(raw, peer, b"a")
        call(source)
        assert waiting.get(timeout=PROMPT) == [b"a"]


WRITER_CALLS = {
    "recv": lambda source, raw: pytest.raises(Empty, source.recv, block=False),
    "recv with timeout": lambda source, raw: pytest.raises(Empty, source.recv, timeout=0),
    "socket.recv": lambda source, raw: pytest.raises(zmq.Again, source.socket.recv, zmq.NOBLOCK),
    "get(EVENTS)": lambda source, raw: source.socket.get(zmq.EVENTS),
    "getsockopt(EVENTS)": lambda source, raw: source.socket.getsockopt(zmq.EVENTS),
    "poll(0)": lambda source, raw: source.socket.poll(0),
    "zmq_poll": lambda source, raw: zmq.zmq_poll([(source.socket, zmq.POLLIN)], 0),
    "bind": lambda source, raw: source.socket.bind(f"inproc://{uuid.uuid4()}"),
    "unbind": lambda source, raw: pytest.raises(
        zmq.ZMQError, source.socket.unbind, "inproc://nowhere"
    ),
}


def fill(source, message, queued=3):
    """Send until some messages wait in the outbox; the hub stands still from that look on.

    libzmq's threads may be late and still make room. If the hub ran once more, the outbox could
    be empty again.
    """

    def full():
        for _ in range(queued):
            source.send(message)
        all_blocked()
        return source.stats().outbox_depth >= queued

    wait_until(full)


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.ROUTER, zmq.PAIR], ids=lambda kind: kind.name)
@pytest.mark.parametrize("call", WRITER_CALLS.values(), ids=list(WRITER_CALLS))
def test_no_call_robs_a_sender(context, transport, endpoint, kind, call):
    peer_kind = zmq.PAIR if kind is zmq.PAIR else zmq.DEALER
    options = {"sndhwm": 2, "rcvhwm": 2}
    if transport != "inproc":
        options |= {"sndbuf": 4096, "rcvbuf": 4096}
    with link(context, endpoint, kind, peer_kind, **options) as (source, raw, peer):
        peer.send(b"first")
        message = [*source.recv(timeout=5)[:-1], bytes(20_000)]
        if kind is zmq.ROUTER:
            # With mandatory routing a full peer is an EAGAIN, without it the message is dropped.
            source.socket.set(zmq.ROUTER_MANDATORY, 1)
        fill(source, message)
        sent = source.stats().sent
        deadline = time.monotonic() + 5
        while not has_edge(raw, 0.01):
            with contextlib.suppress(zmq.Again):
                peer.recv(zmq.NOBLOCK)
            assert time.monotonic() < deadline
        call(source, raw)
        wait_until(lambda: source.stats().sent > sent, PROMPT)


@pytest.mark.parametrize("kind", [zmq.PULL, zmq.DEALER], ids=lambda kind: kind.name)
def test_bind_over_inproc_wakes_a_greenlet_in_recv_without_an_edge(context, kind):
    endpoint = f"inproc://{uuid.uuid4()}"
    with contextlib.closing(Source.open(kind, context=context)) as source:
        waiting = gevent.spawn(source.recv)
        all_blocked()
        with context.socket(zmq.PUSH if kind is zmq.PULL else zmq.DEALER) as peer:
            peer.connect(endpoint)
            peer.send(b"message")
            source.socket.bind(endpoint)
            assert waiting.get(timeout=PROMPT) == [b"message"]


@pytest.mark.parametrize("binds", [True, False], ids=["bind", "connect"])
@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.DEALER], ids=lambda kind: kind.name)
def test_bind_and_connect_over_inproc_wake_a_sender_without_an_edge(context, kind, binds):
    endpoint = f"inproc://{uuid.uuid4()}"
    with contextlib.closing(Source.open(kind, context=context)) as source:
        source.send(b"message")
        all_blocked()
        assert source.stats().outbox_depth == 1
        with context.socket(zmq.PULL if kind is zmq.PUSH else zmq.DEALER) as peer:
            if binds:
                peer.connect(endpoint)
                source.socket.bind(endpoint)
            else:
                peer.bind(endpoint)
                source.socket.connect(endpoint)
            assert source.flush(PROMPT)
            assert peer.recv() == b"message"


def test_many_calls_in_one_turn_of_the_hub_share_one_look(context, endpoint):
    with link(context, endpoint) as (source, _, peer):
        peer.send(b"first")
        source.recv(timeout=5)
        waiting = gevent.spawn(source.recv)
        all_blocked()
        looks = itertools.count()
        events = source._core.socket.readiness._events

        def counted():
            next(looks)
            return events()

        source._core.socket.readiness._events = counted
        for _ in range(100):
            source.socket.get(zmq.RCVHWM)
        all_blocked()
        assert next(looks) == 1
        waiting.kill()


def test_a_message_that_came_while_paused_is_found_on_resuming(context, endpoint):
    with link(context, endpoint) as (source, raw, peer):
        peer.send(b"first")
        source.recv(timeout=5)
        waiting = gevent.spawn(source.recv)
        all_blocked()
        source.pause()
        all_blocked()
        arrive(raw, peer, b"second")
        source.socket.get(zmq.EVENTS)
        all_blocked()
        assert not waiting.ready()
        source.resume()
        assert waiting.get(timeout=PROMPT) == [b"second"]


def test_a_message_that_came_before_the_start_reaches_the_handler(context, endpoint):
    handled: list[list[bytes]] = []
    with link(context, endpoint, handle=handled.append) as (source, _, peer):
        peer.send(b"message")
        wait_until(lambda: is_readable(source.socket))
        all_blocked()
        source.start()
        wait_until(lambda: handled == [[b"message"]], PROMPT)


def test_two_sources_of_one_greenlet_never_rob_each_other_while_talking(context, endpoint):
    """Both directions at once, with every kind of call in between."""
    count = 300
    with link(context, endpoint, sndhwm=5, rcvhwm=5) as (source, _, peer):
        other = Source(peer)

        def send(sending):
            for number in range(count):
                sending.send(b"%d" % number)
                sending.socket.get(zmq.EVENTS)

        def take(receiving):
            for number in range(count):
                assert receiving.recv(timeout=5) == [b"%d" % number]
                receiving.socket.poll(0)

        try:
            work = [gevent.spawn(send, one) for one in (source, other)]
            work += [gevent.spawn(take, one) for one in (source, other)]
            gevent.joinall(work, timeout=20, raise_error=True)
            assert all(greenlet.successful() for greenlet in work)
        finally:
            other.close()
