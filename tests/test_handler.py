"""Where a handler runs, what it gets, and that nothing is read while it is busy."""

import contextlib
import functools

import gevent
import gevent.socket
import pytest
import zmq
from gevent.event import Event
from gevent.pool import Group, Pool
from helpers import closing, endpoint_of, line_of, pair_of, python_process

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until

NUMBERS = [b"%d" % number for number in range(300)]

SPAWNS = {
    "None": lambda: None,
    "int": lambda: 4,
    "Pool": lambda: Pool(4),
    "Group": Group,
    "gevent.spawn": lambda: gevent.spawn,
    "gevent.spawn_raw": lambda: gevent.spawn_raw,
}

every_spawn = pytest.mark.parametrize("spawn", SPAWNS.values(), ids=list(SPAWNS))


@contextlib.contextmanager
def fed(context, handle, endpoint="tcp://127.0.0.1:*", kind=zmq.PULL, peer=zmq.PUSH, **options):
    """A started source with a handler, and a source that sends to it."""
    source = Source.open(kind, handle, bind=endpoint, context=context, linger=0, **options)
    sender = Source.open(peer, connect=endpoint_of(source), context=context, linger=0)
    with closing(source, sender):
        source.start()
        yield source, sender


class Gate:
    """A handler that waits until it is opened, and counts who is in it."""

    def __init__(self):
        self.opened = Event()
        self.begun = []
        self.done = []
        self.running = self.most = 0

    def __call__(self, message):
        self.begun.append(message)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self.opened.wait()
        finally:
            self.running -= 1
        self.done.append(message)


@every_spawn
def test_every_message_is_handled_once(context, endpoint, spawn):
    got = []
    with fed(context, got.append, endpoint, spawn=spawn()) as (_, sender):
        for number in NUMBERS:
            sender.send(number)
        wait_until(lambda: len(got) >= len(NUMBERS))
        all_blocked()
    assert sorted(got) == sorted([number] for number in NUMBERS)


def test_without_spawn_messages_are_handled_in_order_one_at_a_time(context, endpoint):
    got, inside = [], []

    def handle(message):
        assert not inside
        inside.append(message)
        gevent.sleep(0)
        got.append(inside.pop())

    with fed(context, handle, endpoint) as (source, sender):
        for number in NUMBERS:
            sender.send(number)
        wait_until(lambda: len(got) + source.stats().errors >= len(NUMBERS))
    assert got == [[number] for number in NUMBERS]


@pytest.mark.parametrize(
    ("spawn", "most"),
    [(None, 1), (3, 3), (Pool(5), 5), (gevent.spawn, 40), (gevent.spawn_raw, 40), (Group(), 40)],
    ids=["None", "int", "Pool", "gevent.spawn", "gevent.spawn_raw", "Group"],
)
def test_spawn_bounds_how_many_handlers_run(context, spawn, most):
    gate = Gate()
    with fed(context, gate, spawn=spawn) as (_, sender):
        for number in NUMBERS[:40]:
            sender.send(number)
        wait_until(lambda: gate.running == most)
        all_blocked()
        assert gate.most == most
        gate.opened.set()
        wait_until(lambda: len(gate.done) == 40)
        assert gate.most == most


def test_a_pool_can_be_shared_with_others(context):
    gate, pool, others = Gate(), Pool(3), Event()
    for _ in range(2):
        pool.spawn(others.wait)
    with fed(context, gate, spawn=pool) as (_, sender):
        for number in NUMBERS[:10]:
            sender.send(number)
        wait_until(lambda: gate.running)
        all_blocked()
        assert gate.running == 1
        others.set()
        wait_until(lambda: gate.running == 3)
        gate.opened.set()
        wait_until(lambda: len(gate.done) == 10)


def test_a_subclass_may_define_the_handler(context, endpoint):
    class Server(Source):
        got = None

        def handle(self, message):
            self.got = message

    server = Server.open(zmq.PULL, bind=endpoint, context=context)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, sender):
        assert not server.started
        server.start()
        sender.send([b"one", b"two"])
        assert wait_until(lambda: server.got) == [b"one", b"two"]


def test_a_handler_that_is_given_goes_before_the_method(context):
    class Server(Source):
        def handle(self, message):
            raise AssertionError("not this one")

    got = []
    server = Server.open(zmq.PULL, got.append, bind="inproc://given", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://given", context=context)
    with closing(server, sender):
        server.start()
        sender.send(b"one")
        assert wait_until(lambda: got) == [[b"one"]]
        assert server.stats().errors == 0


def test_nothing_is_read_before_the_start_and_what_is_there_comes_first(context, endpoint):
    got = []
    source = Source.open(zmq.PULL, got.append, bind=endpoint, context=context)
    sender = Source.open(zmq.PUSH, connect=endpoint_of(source), context=context)
    with closing(source, sender):
        sender.send(b"one")
        wait_until(lambda: source.socket.get(zmq.EVENTS) & zmq.POLLIN)  # and the edge is spent
        all_blocked()
        assert (got, source.started, source.stats().received) == ([], False, 0)
        source.start()
        sender.send(b"two")
        wait_until(lambda: len(got) == 2)
        assert got == [[b"one"], [b"two"]]


def test_starting_twice_is_starting_once(context):
    gate = Gate()
    with fed(context, gate) as (source, sender):
        source.start()
        sender.send(b"one")
        sender.send(b"two")
        wait_until(lambda: gate.begun)
        all_blocked()
        assert gate.begun == [[b"one"]]
        gate.opened.set()
        wait_until(lambda: len(gate.done) == 2)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("frames", [[b""], [b"one"], [b"a", b"", b"x" * 100_000, b""]])
def test_a_message_comes_whole_as_bytes_or_as_frames(context, endpoint, copy, frames):
    got = []
    with fed(context, got.append, endpoint, copy=copy) as (_, sender):
        sender.send(frames)
        (message,) = wait_until(lambda: got)
    assert type(message) is list
    assert {type(frame) for frame in message} == {bytes if copy else zmq.Frame}
    assert [bytes(frame) for frame in message] == frames


@pytest.mark.parametrize(
    ("spawn", "error"),
    [
        *[(0, ValueError), (-1, ValueError), (True, TypeError), (False, TypeError)],
        *[("4", TypeError), (1.5, TypeError), (object(), TypeError)],
    ],
    ids=repr,
)
def test_what_cannot_spawn_is_an_error_and_leaves_the_socket_to_its_owner(context, spawn, error):
    with context.socket(zmq.PULL) as socket:
        with pytest.raises(error, match="spawn="):
            Source(socket, print, spawn=spawn)
        Source(socket, print).close()


@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.PUB])
def test_a_handler_on_a_socket_that_receives_nothing_is_a_value_error(context, kind):
    with context.socket(kind) as socket, pytest.raises(ValueError, match="receives nothing"):
        Source(socket, print)


# The socket types, end to end


@every_spawn
def test_a_rep_handler_answers_each_request(context, endpoint, spawn):
    def answer(message):
        gevent.sleep(0)
        server.send([b"re", *message])

    server = Source.open(zmq.REP, answer, bind=endpoint, context=context, spawn=spawn())
    clients = [
        Source.open(zmq.REQ, connect=endpoint_of(server), context=context, linger=0)
        for _ in range(3)
    ]

    def ask(number):
        client = clients[number]
        for turn in range(20):
            request = [b"%d" % number, b"%d" % turn]
            client.send(request)
            assert client.recv(timeout=5) == [b"re", *request]

    with closing(server, *clients):
        server.start()
        gevent.joinall([gevent.spawn(ask, number) for number in range(3)], raise_error=True)
        assert server.stats().errors == 0
        assert server.stats().received == server.stats().sent == 60


def test_a_router_handler_answers_each_dealer(context, endpoint):
    server = Source.open(
        zmq.ROUTER, lambda message: server.send(message), bind=endpoint, context=context, linger=0
    )
    dealers = [
        Source.open(zmq.DEALER, connect=endpoint_of(server), context=context, linger=0)
        for _ in range(3)
    ]
    with closing(server, *dealers):
        server.start()
        for number in NUMBERS:
            for dealer in dealers:
                dealer.send([b"", number])
        for dealer in dealers:
            assert [dealer.recv(timeout=5) for _ in NUMBERS] == [[b"", n] for n in NUMBERS]


def test_an_xpub_handler_gets_subscriptions_and_sub_what_it_asked_for(context, endpoint):
    subscriptions, news = [], []
    publisher = Source.open(zmq.XPUB, subscriptions.append, bind=endpoint, context=context)
    where = endpoint_of(publisher)
    reader = Source.open(
        zmq.SUB, news.append, connect=where, subscribe=["a", b"b"], context=context
    )
    with closing(publisher, reader):
        publisher.start()
        reader.start()
        wait_until(lambda: len(subscriptions) == 2)
        for topic in (b"a", b"c", b"b"):
            publisher.send([topic, b"text"])
        wait_until(lambda: len(news) == 2)
        reader.socket.unsubscribe("a")
        wait_until(lambda: len(subscriptions) == 3)
    assert subscriptions == [[b"\x01a"], [b"\x01b"], [b"\x00a"]]
    assert news == [[b"a", b"text"], [b"b", b"text"]]


def test_pub_to_sub(context, endpoint):
    publisher = Source.open(zmq.PUB, bind=endpoint, context=context)
    reader = Source.open(zmq.SUB, connect=endpoint_of(publisher), subscribe="", context=context)

    def publish():
        while True:
            publisher.send([b"topic", b"news"])
            gevent.sleep(0.01)

    with closing(publisher, reader):
        publishing = gevent.spawn(publish)
        try:
            assert reader.recv(timeout=5) == [b"topic", b"news"]
        finally:
            publishing.kill()


@pytest.mark.parametrize(
    ("kind", "peer"), [(zmq.PAIR, zmq.PAIR), (zmq.DEALER, zmq.DEALER)], ids=["PAIR", "DEALER"]
)
def test_both_ends_can_have_a_handler(context, endpoint, kind, peer):
    got = []
    one = Source.open(
        kind, lambda message: one.send([*message, b"1"]), bind=endpoint, context=context, linger=0
    )
    two = Source.open(peer, got.append, connect=endpoint_of(one), context=context, linger=0)
    with closing(one, two):
        one.start()
        two.start()
        for number in NUMBERS:
            two.send(number)
        wait_until(lambda: len(got) == len(NUMBERS))
    assert got == [[number, b"1"] for number in NUMBERS]


def test_a_stream_handler_talks_to_a_plain_tcp_client(context):
    def handle(message):
        identity, data = message
        if data:
            server.send([identity, data.upper()])

    server = Source.open(zmq.STREAM, handle, bind="tcp://127.0.0.1:*", context=context, linger=0)
    with closing(server):
        server.start()
        port = int(endpoint_of(server).rpartition(":")[2])
        with contextlib.closing(gevent.socket.create_connection(("127.0.0.1", port))) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"
        wait_until(lambda: server.stats().received >= 3)  # connected, hello, disconnected


# Back pressure

FILL = """
import sys, time, zmq
address, total = sys.argv[1], int(sys.argv[2])
context = zmq.Context()
push = context.socket(zmq.PUSH)
push.sndhwm, push.sndbuf = 10, 4096
push.connect(address)
push.poll(10000, zmq.POLLOUT)
sent, last, filler = 0, time.monotonic(), b"x" * 1000
# Full is: Again for a quarter of a second on end.
while time.monotonic() < last + 0.25:
    try:
        push.send_multipart([b"%d" % sent, filler], zmq.NOBLOCK)
    except zmq.Again:
        time.sleep(0.001)
    else:
        sent, last = sent + 1, time.monotonic()
        if sent == total:
            break
print(sent, flush=True)
for number in range(sent, total):
    push.send_multipart([b"%d" % number, filler])
sys.stdin.read()  # libzmq may lose what a closed peer has sent to a full receiver
"""

#: More than the buffers of both ends and of the kernel hold.
TOTAL = 20_000


@contextlib.contextmanager
def filled(context, handle=None, **options):
    """A source that is not read from, once the peer in another process has found it full."""
    source = Source.open(
        zmq.PULL,
        handle,
        bind="tcp://127.0.0.1:*",
        context=context,
        rcvhwm=10,
        rcvbuf=4096,
        **options,
    )
    with closing(source), python_process(FILL, endpoint_of(source), TOTAL) as peer:
        if handle is not None:
            source.start()
        yield source, functools.partial(line_of, peer)


@pytest.mark.parametrize(("spawn", "slots"), [(4, 4), (None, 1)], ids=["4", "None"])
def test_a_busy_handler_stops_the_peer_in_another_process(context, spawn, slots):
    gate = Gate()
    with filled(context, gate, spawn=spawn) as (source, line):
        sent = int(line())
        assert sent < TOTAL, "the peer's send never raised Again"
        wait_until(lambda: len(gate.begun) >= slots)
        held = source.stats()
        assert held.received == slots
        assert held.in_hand <= source.max_batch
        assert len(gate.begun) == slots
        all_blocked(20)
        assert source.stats().received == held.received
        gate.opened.set()
        wait_until(lambda: len(gate.done) >= TOTAL, 20)
        all_blocked()
        assert source.stats().dropped == {}
    numbers = [int(number) for number, _ in gate.done]
    assert sorted(numbers) == list(range(TOTAL))
    if spawn is None:
        assert numbers == list(range(TOTAL))


def test_a_handler_that_becomes_slow_stops_the_peer_with_one_batch_in_hand(context):
    """The batch has grown while the handler kept up: this is the most that is ever in hand."""
    gate = Gate()

    def handle(message):
        if int(message[0]) >= 5000:
            gate(message)
        else:
            gate.done.append(message)

    with filled(context, handle) as (source, line):
        assert int(line()) < TOTAL
        wait_until(lambda: gate.begun)
        held = source.stats()
        assert held.received == 5001 + held.in_hand
        assert held.in_hand < source.max_batch
        all_blocked(20)
        assert source.stats().received == held.received
        gate.opened.set()
        wait_until(lambda: len(gate.done) >= TOTAL, 20)
    assert [int(number) for number, _ in gate.done] == list(range(TOTAL))


def test_a_source_that_nobody_pulls_stops_the_peer_in_another_process(context):
    with filled(context) as (source, line):
        sent = int(line())
        assert sent < TOTAL, "the peer's send never raised Again"
        assert source.stats().received == 0
        assert [int(source.recv(timeout=5)[0]) for _ in range(TOTAL)] == list(range(TOTAL))


def test_a_paused_source_stops_the_peer_in_another_process(context):
    got = []
    source = Source.open(
        zmq.PULL, got.append, bind="tcp://127.0.0.1:*", context=context, rcvhwm=10, rcvbuf=4096
    )
    with closing(source):
        source.start()
        source.pause()
        with python_process(FILL, endpoint_of(source), TOTAL) as peer:
            assert int(line_of(peer)) < TOTAL
            assert source.stats().received == 0
            source.resume()
            wait_until(lambda: len(got) >= TOTAL, 20)
    assert [int(number) for number, _ in got] == list(range(TOTAL))


# Pause and resume


def wait_for_message(source):
    """Wait until a message is there, with the edge spent."""
    wait_until(lambda: source.socket.get(zmq.EVENTS) & zmq.POLLIN)
    all_blocked()


@every_spawn
def test_nothing_is_read_while_paused_and_resuming_looks_first(context, endpoint, spawn):
    got = []
    with fed(context, got.append, endpoint, spawn=spawn()) as (source, sender):
        sender.send(b"before")
        wait_until(lambda: got)
        source.pause()
        sender.send(b"meanwhile")
        wait_for_message(source)
        assert (got, source.stats().received) == ([[b"before"]], 1)
        source.resume()
        wait_until(lambda: len(got) == 2)
        assert got[1] == [b"meanwhile"]


@pytest.mark.parametrize("spawn", [None, 1], ids=["None", "1"])
def test_pausing_while_a_handler_runs_stops_what_comes_after_it(context, endpoint, spawn):
    gate = Gate()
    with fed(context, gate, endpoint, spawn=spawn) as (source, sender):
        sender.send(b"one")
        wait_until(lambda: gate.begun)
        sender.send(b"two")
        wait_for_message(source)
        source.pause()
        gate.opened.set()
        wait_until(lambda: gate.done)
        all_blocked()
        assert (gate.begun, source.stats().received) == ([[b"one"]], 1)
        source.resume()
        wait_until(lambda: len(gate.done) == 2)


def test_what_was_read_ahead_is_handed_out_while_paused(context):
    got = []

    def handle(message):
        if message == [b"150"]:
            source.pause()
        got.append(message)

    with fed(context, handle) as (source, sender):
        source.pause()
        for number in NUMBERS:
            sender.send(number)
        wait_for_message(source)
        source.resume()
        wait_until(lambda: [b"150"] in got)
        all_blocked()
        seen = len(got)
        assert (seen, source.stats().in_hand) == (source.stats().received, 0)
        assert 151 <= seen < 151 + source.max_batch
        source.resume()
        wait_until(lambda: len(got) == len(NUMBERS))
    assert got == [[number] for number in NUMBERS]


def test_pausing_twice_is_pausing_once(context):
    got = []
    with fed(context, got.append) as (source, sender):
        for _ in range(2):
            source.pause()
        sender.send(b"one")
        wait_for_message(source)
        assert got == []
        for _ in range(2):
            source.resume()
        wait_until(lambda: got)


def test_a_paused_source_sends(context, endpoint):
    with fed(context, print, endpoint, zmq.DEALER, zmq.DEALER) as (source, peer):
        source.pause()
        source.send(b"one")
        assert peer.recv(timeout=5) == [b"one"]


def test_starting_while_paused_reads_nothing(context):
    got = []
    source = Source.open(zmq.PULL, got.append, bind="inproc://paused", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://paused", context=context)
    with closing(source, sender):
        source.pause()
        source.start()
        sender.send(b"one")
        wait_for_message(source)
        assert got == []
        source.resume()
        wait_until(lambda: got)


def test_a_source_may_get_its_handler_later(context, endpoint):
    got = []
    receiver, sender = pair_of(context, endpoint)
    with receiver, sender:
        sender.send(b"pulled")
        assert receiver.recv(timeout=10) == [b"pulled"]
        receiver.set_handle(got.append, spawn=2)
        assert not receiver.started
        sender.send(b"handled")
        all_blocked()
        assert got == []
        receiver.start()
        wait_until(lambda: got == [[b"handled"]])
        with pytest.raises(TypeError, match="has a handler"):
            receiver.recv()
        with pytest.raises(ValueError, match="has a handler already"):
            receiver.set_handle(got.append)


def test_no_handler_for_who_is_waited_for_or_receives_nothing(context):
    receiver, sender = pair_of(context, "inproc://x")
    with receiver, sender:
        waiting = gevent.spawn(receiver.recv)
        all_blocked()
        with pytest.raises(ValueError, match="while a greenlet waits in recv"):
            receiver.set_handle(print)
        with pytest.raises(ValueError, match="a PUSH socket receives nothing"):
            sender.set_handle(print)
        sender.send(b"x")
        assert waiting.get(timeout=10) == [b"x"]
        with pytest.raises(TypeError, match="spawn"):
            receiver.set_handle(print, spawn="pool")
        assert receiver.handle is None


def test_a_reported_error_goes_where_those_of_a_handler_go(context):
    errors = []
    source = Source.open(
        zmq.PULL,
        bind="inproc://x",
        context=context,
        on_error=lambda error, message: errors.append((error, message)),
    )
    with source:
        error = KeyError("x")
        source.report(error, [b"message"])
        source.report(error)
        assert errors == [(error, [b"message"]), (error, None)]
        assert source.stats().errors == 2
