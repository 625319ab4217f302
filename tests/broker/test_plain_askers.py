"""Peers that ask a broker and do not speak the protocol: their requests are accounted for, too."""

import contextlib
from typing import Any

import gevent
import pytest
import zmq
from brokering import ScriptedWorker, Sleeper, broker_of, worker_of
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.broker import Broker
from gzmqsource.errors import SendError
from gzmqsource.testing import wait_until
from gzmqsource.workers._header import Kind

#: Long enough that the ticks, which begin with the first request, run during a whole test.
LONG = 30.0


def echo(payload):
    return payload


@contextlib.contextmanager
def plain_of(broker, **options):
    """Make a peer of a broker's front."""
    context = broker.front.socket.context
    endpoint = endpoint_of(broker.front)
    with Source.open(zmq.DEALER, connect=endpoint, context=context, linger=0, **options) as plain:
        yield plain


def is_gone(broker, name):
    """Return whether the front of a broker knows that a peer is gone."""
    try:
        broker.front.send([name, b"", b"a message to nobody"], block=False)
    except SendError:
        return True
    return False


@contextlib.contextmanager
def watching(context, **options):
    """Run a broker that has had a request: only further ones are usual."""
    with broker_of(context, dead_after=LONG, **options) as broker:
        with worker_of(broker, echo), plain_of(broker) as plain:
            plain.send([b"", b"first"])
            assert plain.recv(timeout=10) == [b"", b"first"]
        wait_until(lambda: not broker.workers())
        yield broker


@pytest.mark.parametrize(
    "payload", [[b"x"], [b"x", b"", b"y"], [b""], [b"x" * 100_000], [b"x"] * 20], ids=len
)
@pytest.mark.parametrize("route", [[], [b"id"], [b"id", b"x" * 32]], ids=len)
def test_plain_peers_are_answered_over_any_route(context, route, payload):
    with watching(context) as broker, worker_of(broker, echo), plain_of(broker) as plain:
        for _ in range(2):
            plain.send([*route, b"", *payload])
            assert plain.recv(timeout=10) == [*route, b"", *payload]
        stats = broker.stats()
        assert (stats.requests, stats.replies, stats.running, stats.waiting) == (3, 3, 0, 0)


def test_a_plain_request_that_a_worker_has_lost_goes_to_another(context):
    with watching(context, redeliver=True) as broker, plain_of(broker) as plain:
        with ScriptedWorker(broker) as gone:
            plain.send([b"", b"x"])
            gone.next_request()
        with worker_of(broker, echo):
            assert plain.recv(timeout=10) == [b"", b"x"]
        stats = broker.stats()
        assert (stats.redelivered, stats.lost, stats.running, stats.waiting) == (1, 0, 0, 0)


def test_plain_requests_have_keys_of_their_own_at_a_worker(context):
    with (
        watching(context) as broker,
        plain_of(broker) as plain,
        ScriptedWorker(broker, 3) as worker,
    ):
        for number in range(3):
            plain.send([b"", b"%d" % number])
        worker.next_request(3)
        asked = worker.asked()
        for header, payload in reversed(asked):
            worker.say(Kind.REPLY, header.key, payload)
        assert [plain.recv(timeout=10)[1] for _ in range(3)] == [b"2", b"1", b"0"]
        assert all(any(header.key) for header, _ in asked)
        assert [each.outstanding for each in broker.workers()] == [0]


def test_plain_requests_for_which_a_worker_has_no_room_wait(context):
    options: dict[str, Any] = {"bind": "tcp://127.0.0.1:*", "context": context, "linger": 0}
    few: dict[str, Any] = {"sndhwm": 1, "sndbuf": 4096, "outbox": 1, "router_mandatory": 1}
    front, back = Source.open(zmq.ROUTER, **options), Source.open(zmq.ROUTER, **few, **options)
    with contextlib.closing(Broker(front, back, dead_after=LONG)) as broker:
        broker.start()
        with (
            ScriptedWorker(broker, 1000, rcvhwm=1, rcvbuf=4096) as worker,
            plain_of(broker) as plain,
        ):
            worker.source.pause()
            for number in range(100):
                plain.send([b"", b"%d" % number, bytes(50_000)])
            wait_until(lambda: broker.stats().requests == 100)
            assert broker.stats().waiting > 50
            worker.source.resume()
            for number in range(100):
                key, payload = worker.next_request(number + 1)
                worker.say(Kind.REPLY, key, payload[:1])
            assert {plain.recv(timeout=10)[1] for _ in range(100)} == {
                b"%d" % number for number in range(100)
            }
            stats = broker.stats()
            assert (stats.running, stats.waiting, stats.replies) == (0, 0, 100)


def test_a_reply_to_a_plain_peer_that_is_gone_gives_the_place_back(context):
    sleeper = Sleeper()
    with watching(context) as broker, worker_of(broker, sleeper):
        with plain_of(broker, routing_id=b"gone") as gone:
            gone.send([b"", b"x"])
            wait_until(lambda: sleeper.begun == [b"x"])
        wait_until(lambda: is_gone(broker, b"gone"))
        with plain_of(broker) as plain:
            plain.send([b"", b"y"])
            wait_until(lambda: broker.stats().waiting == 1)
            sleeper.go_on.set()
            assert plain.recv(timeout=10) == [b"", b"y"]
        stats = broker.stats()
        assert (stats.undelivered, stats.replies, stats.running) == (1, 2, 0)


def test_a_stop_waits_for_plain_requests(context):
    sleeper = Sleeper()
    with (
        watching(context) as broker,
        worker_of(broker, sleeper, 2),
        plain_of(broker) as plain,
    ):
        plain.send([b"", b"before"])
        wait_until(lambda: sleeper.begun == [b"before"])
        stopping = gevent.spawn(broker.stop, 10)
        wait_until(lambda: broker._reception.is_leaving)
        plain.send([b"", b"after"])
        wait_until(lambda: sleeper.begun == [b"before", b"after"])
        sleeper.go_on.set()
        assert {plain.recv(timeout=10)[1] for _ in range(2)} == {b"before", b"after"}
        assert stopping.get(timeout=10) == 0
