"""Handlers: where they run, what they hold up, and what becomes of their errors."""

import itertools
import time

import gevent
import pytest
import zmq
from gevent.event import Event
from gevent.pool import Pool
from helpers import all_blocked, closing, endpoint_of, python_process, wait_until

from gzmqsource import SendError, Source

SPAWNS = {
    "None": lambda: None,
    "int": lambda: 4,
    "Pool": lambda: Pool(4),
    "gevent.spawn": lambda: gevent.spawn,
    "gevent.spawn_raw": lambda: gevent.spawn_raw,
}
spawns = pytest.mark.parametrize("make_spawn", SPAWNS.values(), ids=list(SPAWNS))


@spawns
def test_every_message_reaches_the_handler_once(context, endpoint, make_spawn):
    handled = []
    server = Source.open(
        zmq.PULL, handled.append, bind=endpoint, context=context, spawn=make_spawn()
    )
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        for number in range(500):
            client.send([b"%d" % number, b"second frame"])
        wait_until(lambda: len(handled) == 500)
    assert sorted(handled, key=lambda message: int(message[0])) == [
        [b"%d" % number, b"second frame"] for number in range(500)
    ]


def test_without_spawn_messages_are_handled_one_after_another_in_order(context, endpoint):
    handled, running = [], []

    def handle(message):
        assert not running
        running.append(message)
        gevent.sleep(0)
        handled.append(int(message[0]))
        running.clear()

    server = Source.open(zmq.PULL, handle, bind=endpoint, context=context)
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        for number in range(300):
            client.send(b"%d" % number)
        wait_until(lambda: len(handled) == 300)
    assert handled == list(range(300))


def test_a_subclass_may_define_the_handler(context, endpoint):
    class Server(Source):
        def handle(self, message):
            self.send([message[0], message[1].upper()])

    server = Server.open(zmq.ROUTER, bind=endpoint, context=context)
    client = Source.open(zmq.DEALER, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        client.send(b"hello")
        assert client.recv(timeout=5) == [b"HELLO"]


def test_without_copy_a_handler_gets_frames(context, endpoint):
    handled = []
    server = Source.open(zmq.PULL, handled.append, bind=endpoint, context=context, copy=False)
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        client.send([b"one", b"two"])
        wait_until(lambda: handled)
        assert [type(frame) for frame in handled[0]] == [zmq.Frame, zmq.Frame]
        assert [frame.bytes for frame in handled[0]] == [b"one", b"two"]


@pytest.mark.parametrize("spawn", [0, -1, "pool", True])
def test_a_wrong_spawn_is_turned_away_and_named(context, spawn):
    socket = context.socket(zmq.PULL)
    with pytest.raises((TypeError, ValueError), match="spawn="):
        Source(socket, print, spawn=spawn)
    socket.close()


@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.PUB])
def test_a_handler_on_a_socket_that_receives_nothing_is_an_error(context, kind):
    with (
        context.socket(kind) as socket,
        pytest.raises(ValueError, match="receives nothing"),
    ):
        Source(socket, print)


PAIRS = {
    "REP": (zmq.REP, zmq.REQ, lambda message: message),
    "ROUTER": (zmq.ROUTER, zmq.DEALER, lambda message: message),
    "ROUTER to REQ": (zmq.ROUTER, zmq.REQ, lambda message: message),
    "DEALER": (zmq.DEALER, zmq.DEALER, lambda message: message),
    "DEALER to REP": (zmq.REP, zmq.REQ, lambda message: message),
    "PAIR": (zmq.PAIR, zmq.PAIR, lambda message: message),
}


@pytest.mark.parametrize(("kind", "asking", "answer"), PAIRS.values(), ids=list(PAIRS))
def test_every_answering_type_serves(context, endpoint, kind, asking, answer):
    server = Source.open(
        kind, lambda message: server.send(answer(message)), bind=endpoint, context=context
    )
    client = Source.open(asking, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        for number in range(100):
            client.send(b"%d" % number)
            assert client.recv(timeout=5) == [b"%d" % number]


def test_publisher_and_subscriber_are_sources(context, endpoint):
    publisher = Source.open(zmq.XPUB, bind=endpoint, context=context)
    subscriber = Source.open(
        zmq.SUB, connect=endpoint_of(publisher), context=context, subscribe=["a", b"b"]
    )
    with closing(publisher, subscriber):
        assert sorted(publisher.recv(timeout=5)[0] for _ in range(2)) == [b"\x01a", b"\x01b"]
        publisher.send([b"a", b"1"])
        publisher.send([b"c", b"2"])
        publisher.send([b"b", b"3"])
        assert [subscriber.recv(timeout=5) for _ in range(2)] == [[b"a", b"1"], [b"b", b"3"]]


PUSH_UNTIL_FULL = """
import sys, time, zmq
context = zmq.Context()
push = context.socket(zmq.PUSH)
push.sndhwm = 10
push.sndbuf = 4096
push.connect(sys.argv[1])
sent, refused_since = 0, None
while refused_since is None or time.monotonic() - refused_since < 0.5:
    try:
        push.send(b"%d" % sent + b" " * 1000, zmq.NOBLOCK)
        sent, refused_since = sent + 1, None
    except zmq.Again:
        refused_since = refused_since or time.monotonic()
        time.sleep(0.001)
print(sent, flush=True)
sys.stdin.readline()
for _ in range(100):
    push.send(b"%d" % sent + b" " * 1000)
    sent += 1
print(sent, flush=True)
sys.stdin.readline()  # libzmq may lose what a closed peer sent to a full receiver
context.destroy(0)
"""


@pytest.mark.parametrize("spawn", [None, 4])
def test_a_slow_handler_stops_the_sender_and_loses_nothing(context, spawn):
    handled = []
    go_on = Event()

    def handle(message):
        go_on.wait()
        handled.append(int(message[0]))

    server = Source.open(
        zmq.PULL,
        handle,
        bind="tcp://127.0.0.1:*",
        context=context,
        spawn=spawn,
        rcvhwm=10,
        rcvbuf=4096,
    )
    with closing(server), python_process(PUSH_UNTIL_FULL, endpoint_of(server)) as peer:
        server.start()
        reader = gevent.get_hub().threadpool.spawn(peer.stdout.readline)
        sent = int(reader.get(timeout=20))
        stats = server.stats()
        assert stats.received <= (spawn or 1)
        assert stats.in_hand == 0
        assert sent < 2000
        go_on.set()
        peer.stdin.write("\n")
        peer.stdin.flush()
        sent = int(gevent.get_hub().threadpool.spawn(peer.stdout.readline).get(timeout=20))
        wait_until(lambda: len(handled) == sent)
    assert sorted(handled) == list(range(sent))


def test_a_paused_source_reads_nothing_and_resuming_looks_at_the_socket(context, endpoint):
    handled = []
    server = Source.open(zmq.PULL, handled.append, bind=endpoint, context=context)
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        client.send(b"before")
        wait_until(lambda: handled)
        server.pause()
        client.send(b"meanwhile")
        wait_until(lambda: server.socket.get(zmq.EVENTS) & zmq.POLLIN)
        all_blocked()
        assert handled == [[b"before"]]
        assert server.stats().received == 1
        server.resume()
        wait_until(lambda: handled == [[b"before"], [b"meanwhile"]])


def test_a_raising_handler_is_reported_and_the_next_message_goes_on(context, endpoint):
    errors, handled = [], []

    def handle(message):
        if message == [b"bad"]:
            raise ValueError("bad message")
        handled.append(message)

    server = Source.open(
        zmq.PULL,
        handle,
        bind=endpoint,
        context=context,
        on_error=lambda error, message: errors.append((str(error), message)),
    )
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        for text in (b"1", b"bad", b"2"):
            client.send(text)
        wait_until(lambda: handled == [[b"1"], [b"2"]])
    assert errors == [("bad message", [b"bad"])]


@spawns
def test_without_on_error_the_hub_handles_it(context, endpoint, make_spawn, monkeypatch):
    told = []
    monkeypatch.setattr(
        gevent.get_hub(), "handle_error", lambda context, kind, value, tb: told.append(kind)
    )
    handled = []

    def handle(message):
        handled.append(message)
        raise KeyError(message[0])

    server = Source.open(zmq.PULL, handle, bind=endpoint, context=context, spawn=make_spawn())
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        client.send(b"1")
        wait_until(lambda: told == [KeyError])
        assert server.started


def test_an_error_in_on_error_goes_to_the_hub(context, monkeypatch):
    told = []
    monkeypatch.setattr(
        gevent.get_hub(), "handle_error", lambda context, kind, value, tb: told.append(kind)
    )

    def fail(*_):
        raise LookupError("in on_error")

    server = Source.open(
        zmq.PULL, lambda _: 1 / 0, bind="inproc://a", context=context, on_error=fail
    )
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        server.start()
        client.send(b"1")
        wait_until(lambda: told == [LookupError])


def test_errors_in_a_row_back_off_and_a_success_ends_that(context):
    times = []

    class Server(Source):
        min_delay, max_delay = 0.02, 0.08

        def handle(self, message):
            times.append(time.monotonic())
            if message == [b"bad"]:
                raise ValueError

    server = Server.open(
        zmq.PULL, bind="inproc://a", context=context, on_error=lambda error, message: None
    )
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        for text in [b"bad"] * 6 + [b"good", b"bad", b"good"]:
            client.send(text)
        server.start()
        wait_until(lambda: len(times) == 9)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    # libuv counts in milliseconds, from the beginning of its loop's turn.
    least = [0, 0.018, 0.038, 0.078, 0.078, 0.078, 0, 0]
    most = [0.018, 1, 1, 1, 1, 1, 0.018, 0.018]
    for low, pause, high in zip(least, pauses, most, strict=True):
        assert low <= pause < high


def test_a_handler_that_exits_is_silent_and_the_source_goes_on(context, monkeypatch):
    told = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *what: told.append(what))
    handled = []

    def handle(message):
        handled.append(message)
        raise gevent.GreenletExit

    server = Source.open(zmq.PULL, handle, bind="inproc://a", context=context, spawn=2)
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        server.start()
        for _ in range(5):
            client.send(b"1")
        wait_until(lambda: len(handled) == 5)
        all_blocked()
    assert told == []


def test_a_message_that_libzmq_refuses_is_raised_at_the_call(context):
    router = Source.open(zmq.ROUTER, bind="inproc://a", context=context, router_mandatory=1)
    pull = Source.open(zmq.PULL, bind="inproc://b", context=context)
    request = Source.open(zmq.REQ, connect="inproc://c", context=context)
    with closing(router, pull, request):
        with pytest.raises(SendError) as raised:
            router.send([b"nobody", b"message"])
        assert raised.value.errno == zmq.EHOSTUNREACH
        assert raised.value.message == [b"nobody", b"message"]
        with pytest.raises(SendError) as raised:
            pull.send(b"message")
        assert raised.value.errno == zmq.ENOTSUP


def test_a_second_request_before_the_reply_is_refused(context):
    server = Source.open(zmq.REP, bind="inproc://a", context=context)
    client = Source.open(zmq.REQ, connect="inproc://a", context=context)
    with closing(server, client):
        client.send(b"first")
        with pytest.raises(SendError) as raised:
            client.send(b"second")
        assert raised.value.errno == zmq.EFSM
        assert server.recv(timeout=5) == [b"first"]
        server.send(b"reply")
        assert client.recv(timeout=5) == [b"reply"]
