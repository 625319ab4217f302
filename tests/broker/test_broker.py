"""A broker: requests go to who is free, and wait in it otherwise."""

import contextlib
import functools
from typing import Any

import gevent
import pytest
import zmq
from asking import Asker, key_of
from brokering import ScriptedWorker, Sleeper, asking, broker_of, worker_of
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.broker import Broker
from gzmqsource.testing import wait_until
from gzmqsource.workers import (
    RemoteError,
    RequestCancelled,
    RequestTimeout,
    current_request,
    shield,
)
from gzmqsource.workers._header import Detail, Header, Kind


def echo(payload):
    return payload


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://*"])
def test_requests_are_answered_by_workers(context, endpoint):
    with (
        broker_of(context, endpoint) as broker,
        worker_of(broker, lambda payload: [b"one", *payload]),
        asking(broker) as requester,
    ):
        assert requester.request([b"a", b"b"], timeout=10) == [b"one", b"a", b"b"]
        stats = broker.stats()
        assert (stats.requests, stats.replies, stats.workers, stats.slots) == (1, 1, 1, 1)


def test_a_plain_peer_is_answered_and_told_of_errors(context):
    def fail_or_not(payload):
        if payload == [b"bad"]:
            raise KeyError("text")
        return payload

    with broker_of(context) as broker, worker_of(broker, fail_or_not):
        with Source.open(zmq.REQ, connect=endpoint_of(broker.front), context=context) as plain:
            plain.send(b"good")
            assert plain.recv(timeout=10) == [b"good"]
            plain.send(b"bad")
            assert plain.recv(timeout=10)[1:3] == [b"KeyError", b"'text'"]
        assert broker.stats().errors == 1


def test_an_error_of_a_handler_is_that_of_the_request(context):
    def fail(payload):
        raise ValueError("for a reason")

    with (
        broker_of(context) as broker,
        worker_of(broker, fail, tracebacks=True),
        asking(broker) as requester,
        pytest.raises(RemoteError, match="ValueError: for a reason") as raised,
    ):
        requester.request(b"x", timeout=10)
    assert "in fail" in str(raised.value.traceback)


def test_a_worker_is_given_no_more_than_it_takes(context):
    sleeper = Sleeper()
    with (
        broker_of(context) as broker,
        worker_of(broker, sleeper, 3),
        asking(broker) as requester,
    ):
        asked = [requester.submit(b"x", timeout=10) for _ in range(10)]
        wait_until(lambda: len(sleeper.begun) == 3)
        wait_until(lambda: (broker.stats().running, broker.stats().waiting) == (3, 7))
        assert not any(each.ready() for each in asked)
        assert [each.outstanding for each in broker.workers()] == [3]
        sleeper.go_on.set()
        assert [each.get(timeout=10) for each in asked] == [[b"x"]] * 10


def test_a_worker_that_takes_all_there_is_has_so_many_and_no_more(context):
    with broker_of(context) as broker, asking(broker) as requester:
        broker._back.max_credit = 2
        with ScriptedWorker(broker, 0xFFFF_FFFF):
            for _ in range(3):
                requester.submit(b"x")
            wait_until(lambda: broker.stats().running == 2 and broker.stats().waiting == 1)
            assert broker.stats().slots == 2


def test_idle_workers_come_first(context):
    sleepers = [Sleeper() for _ in range(3)]
    with (
        broker_of(context) as broker,
        worker_of(broker, sleepers[0], 10),
        worker_of(broker, sleepers[1], 10),
        worker_of(broker, sleepers[2], 10),
        asking(broker) as requester,
    ):
        wait_until(lambda: broker.stats().slots == 30)

        def has_begun(count):
            return sum(len(each.begun) for each in sleepers) == count

        for number in range(1, 7):
            requester.submit(b"x")
            wait_until(functools.partial(has_begun, number))
        assert [len(each.begun) for each in sleepers] == [2, 2, 2]
        sleepers[1].go_on.set()
        wait_until(lambda: broker.stats().replies == 2)
        sleepers[1].go_on.clear()
        for number in range(7, 9):
            requester.submit(b"x")
            wait_until(functools.partial(has_begun, number))
        assert len(sleepers[1].begun) > 2


def test_a_worker_that_joins_again_keeps_its_turn(context):
    with (
        broker_of(context, dead_after=5) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker, 3) as one,
        ScriptedWorker(broker, 3) as two,
    ):
        for worker in one, two, one, two:
            one.join(3)
            one.until_heard(Kind.PING, 1 + sum(h.kind == Kind.PING for h, _ in one.heard))
            count = len(worker.asked())
            requester.submit(b"x")
            worker.next_request(count + 1)


def test_what_waits_is_given_out_in_order_and_what_is_urgent_first(context):
    order = []
    sleeper = Sleeper()

    def note(payload):
        order.append(payload[0])
        return sleeper(payload)

    with (
        broker_of(context) as broker,
        worker_of(broker, note),
        asking(broker) as requester,
    ):
        asked = [requester.submit(b"first")]
        wait_until(lambda: order)
        for number, priority in enumerate([0, 0, 5, 255, 5, 0]):
            asked.append(requester.submit(b"%d" % number, priority=priority))
        wait_until(lambda: broker.stats().waiting == 6)
        sleeper.go_on.set()
        gevent.joinall(asked, timeout=10)
        assert order == [b"first", b"3", b"2", b"4", b"0", b"1", b"5"]


@pytest.mark.parametrize("priority", [-1, 256, "high", 1.0])
def test_a_priority_is_a_byte(context, priority):
    with broker_of(context) as broker, asking(broker) as requester:
        with pytest.raises(ValueError, match="from 0 to 255"):
            requester.request(b"x", priority=priority)
        with pytest.raises(ValueError, match="from 0 to 255"):
            requester.submit(b"x", priority=priority)


def test_requests_that_are_too_many_are_refused_and_asked_again(context):
    sleeper = Sleeper()
    with (
        broker_of(context, max_waiting=2) as broker,
        worker_of(broker, sleeper),
        asking(broker) as requester,
    ):
        asked = [requester.submit(b"x") for _ in range(5)]
        wait_until(lambda: broker.stats().full >= 2)
        wait_until(lambda: (broker.stats().running, broker.stats().waiting) == (1, 2))
        sleeper.go_on.set()
        assert [each.get(timeout=10) for each in asked] == [[b"x"]] * 5


def test_a_request_whose_time_is_over_is_given_to_nobody(context):
    sleeper = Sleeper()
    with (
        broker_of(context) as broker,
        worker_of(broker, sleeper),
        asking(broker) as requester,
    ):
        first = requester.submit(b"first")
        wait_until(lambda: sleeper.begun)
        with pytest.raises(RequestTimeout):
            requester.request(b"late", timeout=0.05)
        wait_until(lambda: broker.stats().cancelled == 1)
        sleeper.go_on.set()
        assert first.get(timeout=10) == [b"first"]
        assert requester.request(b"next", timeout=10) == [b"next"]
        assert sleeper.begun == [b"first", b"next"]


def test_one_that_expires_while_it_waits_is_refused(context):
    with (
        broker_of(context, dead_after=5) as broker,
        Asker(context, endpoint_of(broker.front)) as asker,
        ScriptedWorker(broker) as worker,
    ):
        asker.ask(b"first")
        key, _ = worker.next_request()
        expires = asker.ask(b"late", left=1)
        wait_until(lambda: broker.stats().waiting == 1)
        (late,) = broker._line.jobs
        wait_until(lambda: late.left == 0)
        worker.say(Kind.REPLY, key, [b"reply"])
        assert asker.wait_for(expires, Kind.REFUSED) == Detail.EXPIRED
        assert (broker.stats().expired, len(worker.asked())) == (1, 1)


def test_what_is_left_of_the_time_goes_on_to_the_worker(context):
    with (
        broker_of(context) as broker,
        worker_of(broker, lambda _: str(getattr(current_request(), "left", None)).encode()),
        asking(broker) as requester,
    ):
        assert 4 < float(requester.request(b"x", timeout=5)[0]) <= 5


def test_a_cancellation_goes_on_to_the_worker(context):
    sleeper = Sleeper()
    with (
        broker_of(context) as broker,
        worker_of(broker, sleeper),
        asking(broker) as requester,
    ):
        asking_it = gevent.spawn(requester.request, b"x")
        wait_until(lambda: sleeper.begun)
        asking_it.kill()
        wait_until(lambda: sleeper.ended == [RequestCancelled])
        wait_until(lambda: broker.stats().cancelled == 1)
        sleeper.go_on.set()
        assert requester.request(b"y", timeout=10) == [b"y"]


def test_an_asker_that_does_not_read_holds_up_nobody(context):
    options: dict[str, Any] = {"bind": "tcp://127.0.0.1:*", "context": context, "linger": 0}
    few: dict[str, Any] = {"sndhwm": 1, "sndbuf": 4096, "outbox": 1, "router_mandatory": 1}
    front = Source.open(zmq.ROUTER, **few, **options)
    with contextlib.closing(Broker(front, Source.open(zmq.ROUTER, **options))) as broker:
        broker.start()
        with (
            worker_of(broker, lambda _: bytes(100_000)),
            asking(broker, dead_after=10) as requester,
            Source.open(
                zmq.DEALER, connect=endpoint_of(front), context=context, rcvhwm=1, linger=0
            ) as odd,
        ):
            for _ in range(200):
                odd.send([Header(Kind.ASK, key_of()).encode(), b"", b"x"])
            assert requester.request(b"x", timeout=10)
            wait_until(lambda: broker.stats().requests == 201)
            wait_until(lambda: broker.stats().running == broker.stats().waiting == 0)
            assert broker.stats().undelivered > 0


def test_an_asker_whose_key_is_0_cancels_no_requests_of_others(context):
    sleeper = Sleeper()
    with (
        broker_of(context) as broker,
        worker_of(broker, sleeper, 2),
        asking(broker) as requester,
        Asker(context, endpoint_of(broker.front)) as odd,
    ):
        asked = requester.submit(b"x")
        wait_until(lambda: sleeper.begun == [b"x"])
        odd.ask(b"odd", key=bytes(16))
        wait_until(lambda: sleeper.begun == [b"x", b"odd"])
        odd.say(Kind.CANCEL)
        wait_until(lambda: broker.stats().cancelled == 1)
        assert sleeper.ended == [RequestCancelled]
        sleeper.go_on.set()
        assert asked.get(timeout=10) == [b"x"]


def test_one_that_is_shielded_keeps_its_place_at_the_worker(context):
    sleeper = Sleeper()

    def shielded(payload):
        with shield():
            return sleeper(payload)

    with (
        broker_of(context) as broker,
        worker_of(broker, shielded),
        asking(broker) as requester,
    ):
        asking_it = gevent.spawn(requester.request, b"x")
        wait_until(lambda: sleeper.begun)
        asking_it.kill()
        second = requester.submit(b"y")
        wait_until(lambda: broker.stats().waiting == 1)
        assert not second.ready()
        assert [each.outstanding for each in broker.workers()] == [1]
        sleeper.go_on.set()
        assert second.get(timeout=10) == [b"y"]


def test_requests_wait_for_the_first_worker(context):
    with broker_of(context) as broker, asking(broker) as requester:
        asked = requester.submit(b"x")
        wait_until(lambda: broker.stats().waiting == 1)
        with worker_of(broker, echo):
            assert asked.get(timeout=10) == [b"x"]


def test_one_that_a_worker_refuses_goes_to_another(context):
    with (
        broker_of(context, dead_after=5) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker) as refusing,
    ):
        asked = requester.submit(b"x")
        key, _ = refusing.next_request()
        with worker_of(broker, echo):
            refusing.say(Kind.REFUSED, key, detail=Detail.FULL)
            assert asked.get(timeout=10) == [b"x"]
        assert broker.stats().lost == broker.stats().redelivered == 0


@pytest.mark.parametrize("detail", [0, Detail.LEAVING, Detail.FULL, Detail.KILLED, 200])
def test_a_worker_that_refuses_is_given_nothing_up_to_its_next_word(context, detail):
    with (
        broker_of(context, dead_after=5) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker, 0) as refusing,
    ):
        refusing.join(2, left=5000)
        refusing.until_heard(Kind.PING)
        requester.submit(b"x")
        key, _ = refusing.next_request()
        refusing.say(Kind.REFUSED, key, detail=detail)
        wait_until(lambda: broker.stats().waiting == 1)
        assert len(refusing.asked()) == 1
        refusing.join(2, left=5000)
        refusing.next_request(2)


@pytest.mark.parametrize("message", [[b"x"], [b"x" * 32], [b"", b"x"], [b"x", b"", b"y"]])
def test_what_is_none_of_a_workers_is_dropped_and_counts(context, message):
    with (
        broker_of(context) as broker,
        worker_of(broker, echo),
        asking(broker) as requester,
        Source.open(zmq.DEALER, connect=endpoint_of(broker.back), context=context) as odd,
    ):
        odd.send(message)
        wait_until(lambda: broker._back.malformed.count == 1)
        assert requester.request(b"x", timeout=10) == [b"x"]


def test_what_a_stranger_says_about_a_request_ends_nothing(context):
    sleeper = Sleeper()
    with (
        broker_of(context) as broker,
        worker_of(broker, sleeper),
        asking(broker) as requester,
        ScriptedWorker(broker, 0) as stranger,
    ):
        asked = requester.submit(b"x")
        wait_until(lambda: sleeper.begun)
        (key,) = broker._handling.jobs
        stranger.say(Kind.REPLY, key, [b"forged"])
        stranger.join(0)
        stranger.say(Kind.REPLY, key, [b"forged"])
        stranger.say(Kind.LOST, key)
        wait_until(lambda: broker.stats().late >= 2)
        assert not asked.ready()
        sleeper.go_on.set()
        assert asked.get(timeout=10) == [b"x"]


def test_a_worker_knows_at_once_that_it_has_joined(context):
    with broker_of(context, dead_after=60) as broker, worker_of(broker, echo, dead_after=60):
        pass
