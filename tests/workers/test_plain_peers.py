"""Peers that do not speak the protocol, of any kind and through proxies, notice nothing of it."""

import contextlib
import os

import pytest
import zmq
from asking import Asker, Flag, Header, Kind, key_of, responder_of
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.proxy import Proxy
from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder
from gzmqsource.workers._envelope import ERROR


@contextlib.contextmanager
def responder_behind(context, handler, proxies, **options):
    """Run a responder behind so many of libzmq's proxies; yield it and where to connect."""
    with contextlib.ExitStack() as stack:
        if not proxies:
            responder = stack.enter_context(responder_of(context, handler, **options))
            yield responder, endpoint_of(responder.source)
            return
        endpoint = None
        for _ in range(proxies):
            front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
            front.bind("tcp://127.0.0.1:*")
            if endpoint is None:
                back.bind("tcp://127.0.0.1:*")
                options["connect"] = endpoint_of(back)
            else:
                back.connect(endpoint)
            endpoint = endpoint_of(front)
            proxy = Proxy(front, back)
            proxy.start()
            stack.callback(proxy.stop, drain=False)
        yield stack.enter_context(responder_of(context, handler, **options)), endpoint


def answer(payload):
    if bytes(payload[0]) == b"raise":
        raise ValueError("no")
    return [bytes(frame).upper() for frame in payload]


def asked(socket, frames):
    socket.send_multipart(frames)
    wait_until(lambda: socket.poll(0))
    return socket.recv_multipart()


PROXIES = pytest.mark.parametrize("proxies", [0, 1, 2])


@PROXIES
@pytest.mark.parametrize("correlates", [False, True])
def test_a_req_asks(context, proxies, correlates):
    with responder_behind(context, answer, proxies) as (responder, endpoint):
        req = context.socket(zmq.REQ)
        if correlates:
            req.setsockopt(zmq.REQ_CORRELATE, 1)
            req.setsockopt(zmq.REQ_RELAXED, 1)
        req.connect(endpoint)
        for _ in range(3):
            assert asked(req, [b"a", b"", b"b"]) == [b"A", b"", b"B"]
            assert asked(req, [b"raise"]) == [ERROR, b"ValueError", b"no"]
        req.close(0)
        assert responder.stats().askers == 0
        assert responder.stats().replies == 3


@PROXIES
@pytest.mark.parametrize(
    "envelope",
    [
        [],
        [os.urandom(16)],
        [b"\xa7gq\x02" + bytes(28)],  # a header of another version
        [b"\xa7gq\x01" + bytes(27)],
        [b"a", b"b", b"c"],
    ],
    ids=["empty", "key", "version", "short", "frames"],
)
def test_a_dealer_asks_with_whatever_it_correlates_its_replies_by(context, proxies, envelope):
    with responder_behind(context, answer, proxies) as (responder, endpoint):
        dealer = context.socket(zmq.DEALER)
        dealer.connect(endpoint)
        for _ in range(3):
            assert asked(dealer, [*envelope, b"", b"x"]) == [*envelope, b"", b"X"]
            reply = asked(dealer, [*envelope, b"", b"raise"])
            assert reply == [*envelope, b"", ERROR, b"ValueError", b"no"]
        dealer.close(0)
        assert responder.stats().askers == 0


@PROXIES
def test_an_asker_asks(context, proxies):
    with (
        responder_behind(context, answer, proxies, tracebacks=True) as (responder, endpoint),
        Asker(context, endpoint) as asker,
    ):
        key = asker.ask(attempt=7)
        assert asker.wait_for(key) == [b"X"]
        (header, _), *_ = asker.of(key)
        assert (header.flags, header.attempt) == (Flag.ROUTED if proxies else 0, 7)
        name, text, trace = asker.wait_for(asker.ask(b"raise"), Kind.ERROR)
        assert (name, text) == (b"ValueError", b"no")
        assert b'raise ValueError("no")' in trace
        assert responder.stats().askers == 1


def test_a_routing_id_that_looks_like_a_header_is_none(context):
    looks_like = Header(Kind.ASK, key_of(77)).encode()
    with responder_of(context, answer) as responder:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.ROUTING_ID, looks_like)
        dealer.connect(endpoint_of(responder.source))
        assert asked(dealer, [b"", b"x"]) == [b"", b"X"]
        assert responder.stats().askers == 0
        dealer.close(0)


@pytest.mark.parametrize("copy", [True, False])
def test_garbage_with_a_header_is_counted_and_harms_nobody(context, copy):
    with responder_of(context, answer, copy=copy) as responder, Asker(context, responder) as asker:
        key = key_of(5)
        wrong = [
            [header.encode(), *payload]
            for header in (Header(kind, key) for kind in range(256))
            for payload in ([], [b"", b"x"])
            if header.kind not in ({1} if payload else {2, 3, 4})
        ]
        wrong.append([Header(Kind.ASK, key).encode(), b""])
        for message in wrong:
            asker.source.send(message)
        right = asker.ask(b"right")
        assert asker.wait_for(right) == [b"RIGHT"]
        assert not asker.of(key)
        stats = responder.stats()
        assert (stats.requests, stats.replies) == (1, 1)
        assert stats.malformed == len(wrong)
        asker.say(Kind.CANCEL, key_of(6))  # of no request
        asker.say(Kind.NOMORE)
        assert asker.wait_for(asker.ask()) == [b"X"]


def test_replies_of_frames_that_are_not_copied_go_to_whom_they_belong(context):
    with (
        responder_of(context, lambda payload: payload, copy=False) as responder,
        Asker(context, responder, routing_id=b"name") as asker,
    ):
        for number in range(20):
            key = asker.ask(b"%d" % number * 1000, flags=Flag.KEEP)
            assert asker.wait_for(key) == [b"%d" % number * 1000]
        assert responder.stats().askers == 1


def test_a_dealer_that_is_connected_to_an_asker_directly_is_not_routed(context):
    with (
        Source.open(zmq.DEALER, bind="inproc://asker", context=context) as asker,
        Responder.open(answer, connect="inproc://asker", context=context) as responder,
    ):
        responder.start()
        asker.send([Header(Kind.ASK, key_of(8)).encode(), b"", b"x"])
        kinds = [asker.recv(timeout=10)[0][4:6] for _ in range(2)]
        assert kinds == [bytes([Kind.PONG, 0]), bytes([Kind.REPLY, 0])]
        asker.send([Header(Kind.NOMORE, bytes(16)).encode()])


@pytest.mark.parametrize("route", [[b"r"] * 16, [b"r" * 256], [b"r" * (1 << 20), b"r"]])
def test_what_has_no_route_of_routers_is_plain_and_not_remembered(context, route):
    with (
        responder_of(context, answer) as responder,
        Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        ) as dealer,
    ):
        header = Header(Kind.ASK, key_of()).encode()
        dealer.send([*route, header, b"", b"x"])
        assert dealer.recv(timeout=10) == [*route, header, b"", b"X"]
        dealer.send([*route, Header(Kind.PING, bytes(16), left=1000).encode()])
        wait_until(lambda: responder.stats().malformed)
        assert responder.stats().askers == 0


def test_a_route_may_be_as_long_as_routers_make_it(context):
    route = [b"r" * 255] * 15
    with (
        responder_of(context, answer) as responder,
        Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        ) as dealer,
    ):
        dealer.send([*route, Header(Kind.ASK, key_of()).encode(), b"", b"x"])
        replies = [dealer.recv(timeout=10) for _ in range(2)]
        assert [reply[:15] for reply in replies] == [route] * 2
        assert [reply[15][4] for reply in replies] == [Kind.PONG, Kind.REPLY]
        assert responder.stats().askers == 1
