"""`Responder` asked by plain ZeroMQ and by `Requester`."""

import contextlib
import functools
import logging
import os
import time

import gevent
import pytest
import zmq
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from helpers import endpoint_of

from gzmqsource import Source, SourceClosed
from gzmqsource._base.reports import Reports
from gzmqsource.monitor import Monitor
from gzmqsource.testing import _DESCRIPTORS, all_blocked, wait_until
from gzmqsource.workers import PeerLost, RemoteError, Requester, Responder


@contextlib.contextmanager
def responder_of(context, handler, endpoint="tcp://127.0.0.1:*", **options):
    responder = Responder.open(handler, bind=endpoint, context=context, **options)
    responder.start()
    try:
        yield responder
    finally:
        responder.close()


@contextlib.contextmanager
def requester_of(responder, context, **options):
    requester = Requester.open(endpoint_of(responder.source), context=context, linger=0, **options)
    try:
        yield requester
    finally:
        requester.close()


def ignore(error, message):
    pass


def upper(payload):
    return [frame.upper() for frame in payload]


def test_a_req_of_any_kind_may_ask(context, endpoint):
    with responder_of(context, upper, endpoint) as responder:
        req = context.socket(zmq.REQ)
        req.connect(endpoint_of(responder.source))
        for _ in range(10):
            req.send_multipart([b"a", b"", b"b"])
            wait_until(lambda: req.poll(0))
            assert req.recv_multipart() == [b"A", b"", b"B"]
        req.close()


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (lambda payload: b"one", [b"one"]),
        (lambda payload: [b"a", bytearray(b"b")], [b"a", b"b"]),
        (lambda payload: (frame for frame in [b"x", *payload]), [b"x", b"ask"]),
        (lambda payload: zmq.Frame(b"frame"), [b"frame"]),
        (lambda payload: b"", [b""]),
    ],
)
def test_a_handler_returns_or_yields_the_reply(context, answer, reply):
    with (
        responder_of(context, answer) as responder,
        requester_of(responder, context) as requester,
    ):
        assert requester.request(b"ask", timeout=10) == reply


def test_a_raising_handler_answers_with_an_error(context):
    errors = []

    def fail(payload):
        raise KeyError(payload[0].decode())

    def note(error, message):
        errors.append(error)

    with responder_of(context, fail, on_error=note) as responder:
        with requester_of(responder, context) as requester:
            for number in range(20):
                with pytest.raises(RemoteError, match=f"KeyError: '{number}'") as caught:
                    requester.request(b"%d" % number, timeout=10)
                assert caught.value.traceback is None
        assert [str(error) for error in errors] == [f"'{number}'" for number in range(20)]
        assert responder.stats().errors == 20


def test_a_handler_that_takes_too_long_answers_with_its_timeout(context):
    def slow(payload):
        with gevent.Timeout(0.01):
            gevent.sleep(60)

    with (
        responder_of(context, slow, "inproc://slow", on_error=ignore) as responder,
        requester_of(responder, context) as requester,
        pytest.raises(RemoteError, match=r"Timeout: 0\.01 second"),
    ):
        requester.request(b"x", timeout=10)


class Odd(BaseException):
    pass


@pytest.mark.parametrize("kind", [Odd, GeneratorExit])
def test_an_exception_of_any_class_is_answered_and_reported(context, kind):
    errors = []

    def fail(payload):
        raise kind("odd")

    with (
        responder_of(
            context, fail, "inproc://odd", on_error=lambda error, _: errors.append(type(error))
        ) as responder,
        requester_of(responder, context) as requester,
    ):
        with pytest.raises(RemoteError, match=f"{kind.__name__}: odd"):
            requester.request(b"x", timeout=10)
        assert (responder.stats().errors, responder.stats().lost) == (1, 0)
    assert errors == [kind]


def test_a_traceback_goes_over_the_wire_only_if_asked_for(context):
    def fail(payload):
        raise ValueError("here")

    with (
        responder_of(
            context, fail, "inproc://errors", on_error=ignore, tracebacks=True
        ) as responder,
        requester_of(responder, context) as requester,
        pytest.raises(RemoteError) as caught,
    ):
        requester.request(b"x", timeout=10)
    assert caught.value.traceback is not None
    assert 'raise ValueError("here")' in caught.value.traceback


@pytest.mark.parametrize("wrong", [None, "text", 5, [], [b"x", None]])
def test_what_is_no_reply_is_an_error(context, wrong):
    with (
        responder_of(context, lambda _: wrong, "inproc://wrong", on_error=ignore) as responder,
        requester_of(responder, context) as requester,
        pytest.raises(RemoteError, match=r"(Type|Value)Error"),
    ):
        requester.request(b"x", timeout=10)


@pytest.mark.parametrize("kind", [list, iter])
def test_a_reply_that_its_asker_would_discard_is_an_error(context, kind, monkeypatch):
    monkeypatch.setattr(Source, "max_frames", 100)
    errors: list[str] = []
    with (
        responder_of(
            context,
            lambda payload: kind([b"x"] * int(payload[0])),
            on_error=lambda error, message: errors.append(str(error)),
        ) as responder,
        requester_of(responder, context) as requester,
    ):
        with pytest.raises(RemoteError, match=r"ValueError: the handler .* at most 82 frames"):
            requester.request(b"83", timeout=10)
        assert requester.request(b"82", timeout=10) == [b"x"] * 82
        assert len(errors) == responder.stats().errors == 1


@pytest.mark.parametrize("spawn", [3, Pool(3)], ids=["int", "pool"])
def test_what_waits_of_plain_peers_is_bounded_and_then_nothing_is_read(context, spawn):
    go_on = Event()

    def wait(payload):
        go_on.wait()
        return payload

    replies: list[list[bytes]] = []
    with responder_of(context, wait, spawn=spawn, max_waiting=4) as responder:
        plain = Source.open(
            zmq.DEALER, replies.append, connect=endpoint_of(responder.source), context=context
        )
        plain.start()
        for number in range(300):
            plain.send([b"%d" % number, b"", b"x"])
        wait_until(lambda: responder.source.stats().received >= 3 + 4)
        all_blocked()
        # The rest of a batch of 128, at most, was read when one of them took the last place.
        assert 3 + 4 <= responder.source.stats().received < 3 + 4 + 128
        go_on.set()
        wait_until(lambda: len(replies) == 300)
        assert {int(reply[0]) for reply in replies} == set(range(300))
        plain.close()


@pytest.mark.parametrize("most", ["requests", "bytes"])
def test_without_batches_no_more_of_plain_peers_waits_than_may(context, most):
    go_on = Event()

    def wait(_payload):
        go_on.wait()
        return b""

    many = 4 if most == "requests" else 1000
    with responder_of(context, wait, spawn=1, max_waiting=many) as responder:
        responder.source.max_batch = 1
        responder.max_waiting_bytes = 1 << 24 if most == "requests" else 3001
        plain = Source.open(zmq.DEALER, connect=endpoint_of(responder.source), context=context)
        for _ in range(20):
            plain.send([b"", bytes(1000)])
        wait_until(lambda: responder.stats().waiting >= (4 if most == "requests" else 3))
        all_blocked()
        assert responder.stats().waiting == (4 if most == "requests" else 3)
        go_on.set()
        plain.close()


def test_stop_finishes_what_runs_and_tells_what_it_did_not(context):
    stuck, go_on = Event(), Event()

    def handler(payload):
        (stuck if payload == [b"stuck"] else go_on).wait()
        return payload

    with responder_of(context, handler) as responder, requester_of(responder, context) as requester:
        good = requester.submit(b"good")
        bad = requester.submit(b"stuck")
        wait_until(lambda: responder.stats().running == 2)
        stopping = gevent.spawn(responder.stop, timeout=1)
        all_blocked()
        go_on.set()
        assert good.get(timeout=10) == [b"good"]
        assert stopping.get(timeout=10) == 1
        with pytest.raises(PeerLost):
            bad.get(timeout=10)
        assert responder.closed


def test_it_answers_behind_a_proxy(context):
    front = context.socket(zmq.ROUTER)
    back = context.socket(zmq.DEALER)
    front.bind("tcp://127.0.0.1:*")
    back.bind("tcp://127.0.0.1:*")

    def answer(payload):
        gevent.sleep(0.001)
        return upper(payload)

    def move(source, target):
        for message in source:
            target.send(message)

    connected = zmq.EVENT_HANDSHAKE_SUCCEEDED
    with Source(front) as frontend, Source(back) as backend, Monitor(back, connected) as joined:
        moving = [
            gevent.spawn(move, frontend, backend),
            gevent.spawn(move, backend, frontend),
        ]
        responders = [
            Responder.open(answer, connect=endpoint_of(backend), context=context) for _ in range(3)
        ]
        for responder in responders:
            responder.start()
            joined.recv(timeout=20)
        with Requester.open(endpoint_of(frontend), context=context) as requester:
            results = [requester.submit(b"x%d" % number, timeout=10) for number in range(300)]
            gevent.wait(results)
            assert [result.get() for result in results] == [[b"X%d" % n] for n in range(300)]
        assert all(responder.stats().replies > 50 for responder in responders)
        for responder in responders:
            assert responder.stop() == 0
    gevent.joinall(moving)


def test_malformed_requests_are_counted_and_logged_at_a_bounded_rate(context, caplog):
    wrong = [[b"no delimiter"], [b""], [b"x", b""], [b"f"] * 10_000, [b"\xff\xfe", b"x"]]
    began = time.monotonic()
    with (
        responder_of(context, upper) as responder,
        caplog.at_level(logging.WARNING),
        Source.open(zmq.DEALER, connect=endpoint_of(responder.source), context=context) as dealer,
    ):
        for message in wrong * 20:
            dealer.send(message)
        dealer.send([b"", b"right"])
        assert dealer.recv(timeout=10) == [b"", b"RIGHT"]
        stats = responder.stats()
        assert (stats.malformed, stats.requests) == (100, 1)
        lines = len([each for each in caplog.records if "malformed" in each.message])
        assert 1 <= lines <= 1 + (time.monotonic() - began) / Reports.interval


def test_a_peer_may_have_any_bytes_as_its_routing_id(context):
    with responder_of(context, upper) as responder:
        for identity in (b"\xff\xfe", bytes(range(1, 256)), b"\0\x80"[::-1]):
            dealer = Source.open(zmq.DEALER, context=context, routing_id=identity)
            dealer.socket.connect(endpoint_of(responder.source))
            dealer.send([b"", b"x"])
            assert dealer.recv(timeout=10) == [b"", b"X"]
            dealer.close()
        assert responder.stats().malformed == 0


def test_bytes_that_are_no_zeromq_harm_nobody(context):
    with responder_of(context, upper) as responder, requester_of(responder, context) as requester:
        assert requester.request(b"x", timeout=10) == [b"X"]
        host, port = endpoint_of(responder.source).removeprefix("tcp://").split(":")
        before = len(os.listdir(_DESCRIPTORS))
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, os.urandom(10_000), b""):
            for _ in range(20):
                with socket.create_connection((host, int(port))) as peer:
                    peer.sendall(garbage)
        # libzmq may take some of it for messages of ZMTP 1.0, which has no greeting. It would abort
        # if it took some of it for a name during the close.
        wait_until(lambda: len(os.listdir(_DESCRIPTORS)) <= before)
        assert requester.request(b"y", timeout=10) == [b"Y"]
        assert responder.stats().errors == 0


def test_a_reply_to_a_peer_that_is_gone_is_counted(context):
    go_on = Event()

    def wait(payload):
        go_on.wait()
        return payload

    def is_gone(identity):
        try:
            responder.source.socket.send_multipart([identity, b"is anybody there?"], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            return error.errno == zmq.EHOSTUNREACH
        return False

    with responder_of(context, wait) as responder:
        # A plain one: what speaks the protocol says that it leaves.
        with Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, routing_id=b"first"
        ) as plain:
            plain.send([b"id", b"", b"x"])
            wait_until(lambda: responder.stats().running == 1)
        wait_until(lambda: is_gone(b"first"))
        with requester_of(responder, context) as requester:
            result = requester.submit(b"y")
            wait_until(lambda: responder.stats().running == 2)
            go_on.set()
            assert result.get(timeout=10) == [b"y"]
            wait_until(lambda: responder.stats().undelivered == 1)


def test_bad_arguments_are_refused(context):
    with pytest.raises(ValueError, match="needs an endpoint"):
        Responder.open(upper, context=context)
    source = Source.open(zmq.PULL, bind="inproc://pull", context=context)
    with pytest.raises(ValueError, match="answers through a ROUTER or a DEALER"):
        Responder(source, upper)
    source.close()
    with pytest.raises(TypeError, match="the handler None cannot be called"):
        Responder.open(None, bind="tcp://127.0.0.1:*", context=context)  # type: ignore[call-overload]
    with pytest.raises(SourceClosed):
        Responder(source, upper)


class Called:
    async def __call__(self, payload):
        return payload

    async def method(self, payload):
        return payload

    async def generator(self, payload):
        yield payload


@pytest.mark.parametrize(
    "handler",
    [
        Called(),
        Called().method,
        Called().generator,
        functools.partial(functools.partial(Called.method), Called()),
    ],
    ids=["object", "method", "generator", "partial"],
)
def test_a_coroutine_function_is_refused(context, handler):
    with pytest.raises(
        TypeError, match=r"is an? (async\w+ generator|coroutine) function, which does"
    ):
        Responder.open(handler, bind="inproc://never", context=context)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_waiting": -1},
        {"max_waiting": 1.5},
        {"dead_after": 0},
        {"dead_after": float("nan")},
        {"dedup": -1},
        {"spawn": 0},
    ],
)
def test_numbers_out_of_range_are_refused(context, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Responder.open(upper, bind="inproc://never", context=context, **wrong)
