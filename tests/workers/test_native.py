"""The steps in C do what those in Python do, message by message."""

import contextlib
import errno
import functools
from typing import Any

import gevent
import hypothesis
import pytest
import zmq
from gevent.event import AsyncResult
from helpers import endpoint_of
from hypothesis import strategies
from requesting import in_python

from gzmqsource import Source, transfer
from gzmqsource.broker import Broker
from gzmqsource.errors import SendError
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Requester, Responder
from gzmqsource.workers._clock import Clock
from gzmqsource.workers._envelope import ERROR
from gzmqsource.workers._header import KEY, KEY_SIZE, MAGIC, SIZE, Flag, Kind, pack

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(transfer.backend != "native", reason="all steps are in Python"),
]

KEYS = [bytes([number]) * KEY_SIZE for number in range(4)]

HEADERS = strategies.builds(
    pack,
    strategies.sampled_from([MAGIC] * 4 + [b"\xa7gq\x02"]),
    strategies.sampled_from([Kind.ASK] * 6 + [Kind.CANCEL, Kind.PING, Kind.REPLY, 0, 255]),
    strategies.sampled_from([0, 0, 2, 255]),
    strategies.sampled_from([0, 0, 1, 255]),
    strategies.sampled_from([0, 0, 7, 255]),
    strategies.sampled_from(KEYS),
    strategies.sampled_from([bytes(8), b"\x00\x00\xff\xff\x00\x00\x00\x01", b"\xff" * 8]),
)

FRAMES = strategies.one_of(HEADERS, strategies.sampled_from([b"", b"x", b"y" * 100, b"z" * SIZE]))

PAYLOADS = strategies.lists(FRAMES, max_size=3)

REQUESTS = strategies.builds(lambda header, payload: [header, b"", *payload], HEADERS, PAYLOADS)

PLAIN = PAYLOADS.map(lambda payload: [b"", *payload])

#: The first one makes the asker known, or nothing is usual.
MESSAGES = strategies.lists(
    REQUESTS | REQUESTS | REQUESTS | PLAIN | strategies.lists(FRAMES, min_size=1, max_size=5),
    max_size=30,
).map(lambda messages: [ask(KEYS[0]), *messages])


def answer(payload):
    if payload[0] == b"x":
        raise ValueError("x")
    return payload


def a_responder(context):
    return Responder.open(answer, spawn=4, bind="inproc://server", context=context, dead_after=60)


def a_responder_at_a_dealer(context):
    source = Source.open(zmq.DEALER, bind="inproc://server", context=context)
    return Responder(source, answer, spawn=4, dead_after=60)


def outcome(make):
    """Return the replies of a server to one peer, without its session, and what it has counted."""

    def run(messages):
        with zmq.Context() as context, make(context) as server:
            server._source.on_error = lambda *_: None
            server.start()
            peer = context.socket(zmq.DEALER)
            peer.linger = 0
            peer.connect("inproc://server")
            for message in messages:
                peer.send_multipart(message)
            wait_until(lambda: server._source.stats().received == len(messages))
            all_blocked()
            replies = []
            while peer.poll(0):
                replies.append(
                    [
                        frame[:-4] if frame.startswith(MAGIC) else frame
                        for frame in peer.recv_multipart()
                    ]
                )
            counts = server.stats()
            server.close()
            peer.close()
        return replies, counts

    return run


def connection_of(requester):
    (connection,) = requester._dispatcher.connections
    return connection


def is_in_python(context):
    with Requester.open("inproc://server", context=context) as requester:
        connection, dispatcher = connection_of(requester), requester._dispatcher
        reads = connection.read == connection.received
        assert (dispatcher.begin == dispatcher.send_first) == reads
        return reads


def ask(key, flags=0):
    return [pack(MAGIC, Kind.ASK, flags, 0, 0, key, bytes(8)), b"", b"y"]


@pytest.mark.parametrize("make", [a_responder, a_responder_at_a_dealer])
@hypothesis.given(MESSAGES)
@hypothesis.example([ask(KEYS[0]), *[ask(KEYS[1], Flag.KEEP) for _ in range(3)]])
@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
def test_a_responder_replies_and_counts_as_in_python(make, messages):
    native = outcome(make)(messages)
    with in_python():
        assert outcome(make)(messages) == native


def test_the_steps_in_c_are_in_use(context):
    with a_responder(context) as server:
        assert server._desk is not None
        assert not is_in_python(context)
    with in_python(), a_responder(context) as server:
        assert server._desk is None
        assert is_in_python(context)


#: Which of the four calls a message is about, or another one, and the rest of its header.
HEADS = strategies.tuples(
    strategies.integers(0, 4),
    strategies.sampled_from([Kind.REPLY] * 4 + [Kind.ASK] * 3 + [Kind.ERROR, Kind.LOST, Kind.PONG]),
    strategies.sampled_from([0, 0, Flag.KEEP, Flag.ROUTED]),
    strategies.sampled_from([bytes(8), bytes(8), bytes(7) + b"\x01"]),
)

REPLIES = strategies.lists(
    strategies.tuples(
        HEADS,
        strategies.sampled_from([[b""]] * 4 + [[b"x"], []]),
        strategies.lists(strategies.sampled_from([b"x", b"", ERROR]), max_size=4),
    ),
    max_size=10,
)


class Interrupted(Exception):
    """A signal handler has raised this, before libzmq has taken anything."""


def result_of(requester, timeout):
    """Make a request in a greenlet, and return its result."""

    def make():
        try:
            result.set(requester.request(b"y", timeout))
        except Exception as error:
            result.set_exception(error)

    result: AsyncResult[Any] = AsyncResult()
    gevent.spawn(make)
    return result


def outcome_of_replies(replies, copy):
    """Return how four calls of a requester have ended with these messages, and what is counted."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as server:
        server.linger = 0
        server.bind("inproc://server")
        requester = Requester.open("inproc://server", context=context, dead_after=60, copy=copy)
        calls = [result_of(requester, timeout) for timeout in (None, 60, 60)]
        all_blocked()
        calls.append(requester.submit(b"y", 1))
        keys = [server.recv_multipart()[0][KEY] for _ in calls] + [KEYS[0]]
        for (which, kind, flags, end), delimiter, payload in replies:
            head = pack(MAGIC, kind, flags, 0, 0, keys[which], end)
            server.send_multipart([head, *delimiter, *payload])
        connection = connection_of(requester)
        source = connection.link.source
        wait_until(lambda: source.stats().received == len(replies))
        all_blocked()
        ended = [
            call.ready() and (type(call.exception), call.value and list(map(bytes, call.value)))
            for call in calls
        ]
        counted = connection.heard, requester.endpoints(), counts_of(requester)
        requester.close()
    return ended, counted


def counts_of(requester):
    """Return what a requester has counted, and how many deadlines it has."""
    dispatcher = requester._dispatcher
    deadlines = sum(map(len, dispatcher.clock.calls.values()))
    return dispatcher.admitted, dispatcher.bytes, deadlines, requester.stats()


def outcome_of_requests(requests):
    """Return what a server gets of these requests, what becomes of them, and what is counted."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as server:
        server.linger = 0
        server.bind("inproc://server")
        requester = Requester.open(
            "inproc://server",
            context=context,
            dead_after=60,
            max_outstanding=4,
            max_outstanding_bytes=100,
        )

        def make(payload, timeout, retries):
            try:
                ended.append(requester.request(payload, timeout, retries))
            except Exception as error:
                ended.append(type(error))

        ended: list[Any] = []
        got, counted = [], []
        greenlets = [gevent.spawn(make, *request) for request in requests]
        all_blocked()
        counted.append(counts_of(requester))
        while server.poll(0):
            head, *rest = server.recv_multipart()
            left = int.from_bytes(head[KEY.stop :][:4], "big")  # less if it has waited for room
            got.append((head[: KEY.start], round(left, -4), head[KEY.stop + 4 :], rest))
            server.send_multipart([head, *rest])
            all_blocked()
        counted.append(counts_of(requester))
        requester.close()
        gevent.joinall(greenlets)
    return ended, got, counted


@hypothesis.given(
    strategies.lists(
        strategies.tuples(
            strategies.sampled_from([b"", b"x", b"y" * 60, [b"x", b"y"], (b"z",), zmq.Frame(b"x")]),
            strategies.sampled_from([None, None, 60, 60.0, 1e7, 1e30, -1, "x"]),
            strategies.sampled_from([0, 0, 0, 1, -1]),
        ),
        max_size=8,
    )
)
@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
def test_a_requester_sends_its_requests_and_counts_as_in_python(requests):
    native = outcome_of_requests(requests)
    with in_python():
        assert outcome_of_requests(requests) == native


@pytest.mark.parametrize("steps", [contextlib.nullcontext, in_python])
def test_a_request_that_libzmq_refuses_leaves_nothing_behind(context, steps):
    def refuse(message, _):
        raise SendError(zmq.ZMQError(errno.EHOSTUNREACH), message)

    with steps(), Requester.open("inproc://server", context=context) as requester:
        connection = connection_of(requester)
        source = connection.link.source
        wait_until(lambda: requester._dispatcher.express is connection)
        source._shortcut_send_now, source.send = lambda _: False, refuse
        with pytest.raises(SendError):
            requester.request(b"x", timeout=60)
        assert not connection.outstanding
        assert counts_of(requester)[:3] == (0, 0, 0)
        assert requester.stats().failed == 1


@pytest.mark.parametrize("steps", [contextlib.nullcontext, in_python])
def test_a_request_that_is_interrupted_when_it_was_sent_counts_once(context, steps):
    def strike(_):
        raise Interrupted

    with steps(), Requester.open("inproc://server", context=context) as requester:
        connection = connection_of(requester)
        wait_until(lambda: requester._dispatcher.express is connection)
        connection._may_queue, connection._look_after_send = True, strike
        with pytest.raises(Interrupted):
            requester.request(b"x", timeout=60)
        assert not connection.outstanding
        assert counts_of(requester)[:3] == (0, 0, 0)
        assert (requester.stats().failed, requester.stats().cancelled) == (0, 1)


@pytest.mark.parametrize("copy", [True, False])
@hypothesis.given(REPLIES)
@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
def test_a_requester_ends_its_requests_and_counts_as_in_python(copy, replies):
    native = outcome_of_replies(replies, copy)
    with in_python():
        assert outcome_of_replies(replies, copy) == native


def interrupt_once(source, last):
    """Have the next sending of a message with this last frame raise; give what was interrupted."""
    send = source._shortcut_send_now

    def interrupted(message):
        if message[-1] == last and not raised:
            raised.append(message)
            raise Interrupted
        return send(message)

    raised: list[list[bytes]] = []
    source._shortcut_send = source._shortcut_send_now = interrupted
    return raised


def end_of_broker(context):
    return Source.open(
        zmq.ROUTER,
        bind="tcp://127.0.0.1:*",
        context=context,
        overflow="raise",
        router_mandatory=1,
        on_error=lambda *_: None,
    )


@pytest.mark.skipif(transfer.backend != "native", reason="all steps are in Python")
def test_a_broker_sends_in_c_also_when_the_slice_of_its_hub_is_over(context):
    def slow(source, message, block=True):
        payloads.append(message[-1])
        Source.send(source, message, block)

    payloads: list[bytes] = []
    front, back = sources = end_of_broker(context), end_of_broker(context)
    for each in sources:
        each._shortcut_send = lambda message: False
        each.send = functools.partial(slow, each)  # which controls take, too
    with (
        Broker(front, back) as broker,
        Responder.join(endpoint_of(back), list, context=context) as worker,
        Requester.open(endpoint_of(front), context=context) as requester,
    ):
        broker.start()
        worker.start()
        wait_until(lambda: worker.is_member)
        # From the second one on, the asker is known, and its requests are usual.
        for payload in b"x", b"y", b"z":
            assert requester.request(payload, timeout=10) == [payload]
        assert {b"y", b"z"}.isdisjoint(payloads)


@contextlib.contextmanager
def struck(context, where, end):
    """Run a broker one of whose ends is interrupted when it sends `y`, and a worker of it."""
    sources = [end_of_broker(context) for _ in range(2)]
    raised = interrupt_once(sources[end == "back"], last=b"y")
    with in_python() if where == "steps in Python" else contextlib.nullcontext():
        broker = Broker(*sources)
    with broker, Responder.join(endpoint_of(broker.back), list, context=context) as worker:
        broker.start()
        worker.start()
        wait_until(lambda: worker.is_member)
        yield broker, raised
        stats = broker.stats()
        assert (stats.running, stats.waiting) == (0, 0)
        assert [each.outstanding for each in broker.workers()] == [0]


WHERE = pytest.mark.parametrize("where", ["steps in C", "steps in Python"])
END = pytest.mark.parametrize("end", ["front", "back"])


@WHERE
@END
def test_a_request_of_a_broker_ends_although_a_signal_handler_raises(context, where, end):
    with (
        struck(context, where, end) as (broker, raised),
        Requester.open(endpoint_of(broker.front), context=context) as requester,
    ):
        # From the second one on, the asker is known, and its requests are usual.
        assert requester.request(b"x", timeout=10) == [b"x"]
        asked = requester.submit(b"y", timeout=10)
        gevent.wait([asked], timeout=10)
        assert raised
        if where == "steps in C" or end == "back":
            assert asked.get_nowait() == [b"y"]
        else:
            with pytest.raises(Exception, match="was ended or lost"):
                asked.get_nowait()


@WHERE
@END
def test_a_plain_request_ends_although_a_signal_handler_raises(context, where, end):
    with (
        struck(context, where, end) as (broker, raised),
        Source.open(zmq.DEALER, connect=endpoint_of(broker.front), context=context) as plain,
    ):
        for payload in b"x", b"y", b"z":
            plain.send([b"", payload])
        # A plain peer cannot be notified that its reply is lost.
        is_lost = where == "steps in Python" and end == "front"
        expected = {b"x", b"z"} if is_lost else {b"x", b"y", b"z"}
        assert {plain.recv(timeout=10)[1] for _ in expected} == expected
        assert raised
        assert broker.stats().undelivered == is_lost


@WHERE
def test_a_reply_ends_its_request_although_a_signal_handler_raises(monkeypatch, context, where):
    def interrupted(clock, call):
        stop(clock, call)
        if call.frames[-1] == b"y":
            raise Interrupted

    stop = Clock.stop
    monkeypatch.setattr(Clock, "stop", interrupted)
    with (
        Responder.open(list, bind="tcp://127.0.0.1:*", context=context) as server,
        in_python() if where == "steps in Python" else contextlib.nullcontext(),
        Requester.open(endpoint_of(server.source), context=context) as requester,
    ):
        server.start()
        # From the second one on, the responder is known to speak the protocol.
        for payload in b"x", b"y", b"z":
            assert requester.request(payload, timeout=10) == [payload]
        all_blocked()
        assert (requester._dispatcher.admitted, requester._dispatcher.bytes) == (0, 0)
        assert requester.stats().replies == 3
