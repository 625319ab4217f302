"""The connections between workers and brokers: each is another one, also under the same name."""

import contextlib
import time

import pytest
import zmq
from asking import key_of
from brokering import (
    ScriptedBroker,
    ScriptedWorker,
    Sleeper,
    asking,
    broker_of,
    having_given,
    worker_of,
)
from helpers import endpoint_of, unique_inproc, until_reaped

from gzmqsource import Source
from gzmqsource.broker import Broker
from gzmqsource.broker._watch import Watch
from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, RequestCancelled, Responder
from gzmqsource.workers._askers import TICKS
from gzmqsource.workers._header import Kind

#: Long enough that no silence shows that a worker is gone.
LONG = 30.0


def echo(payload):
    return payload


def test_a_worker_of_the_same_name_takes_its_place_and_what_it_had_is_lost_at_once(context):
    with (
        broker_of(context, dead_after=LONG) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker, routing_id=b"one") as one,
    ):
        asked = requester.submit(b"x")
        one.next_request()
        with ScriptedWorker(broker, routing_id=b"one") as other:
            with pytest.raises(PeerLost):
                asked.get(timeout=10)
            assert [(each.slots, each.outstanding) for each in broker.workers()] == [(1, 0)]
            asked = requester.submit(b"y")
            key, payload = other.next_request()
            other.say(Kind.REPLY, key, payload)
            assert asked.get(timeout=10) == [b"y"]


def test_a_worker_is_given_nothing_until_it_has_shown_over_which_connection_it_speaks(context):
    with (
        broker_of(context, dead_after=LONG) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker, 0) as worker,
    ):
        worker.say(Kind.JOIN, key_of(), session=1)  # waited for the connection
        worker.until_heard(Kind.PING)
        requester.submit(b"x")
        wait_until(lambda: broker.stats().waiting == 1)
        worker.say(Kind.JOIN, key_of(), session=1)
        worker.until_heard(Kind.PING, 2)
        assert broker.stats().slots == len(worker.asked()) == 0
        worker.join(1)
        worker.next_request()


def test_a_worker_with_a_new_connection_is_told_to_give_up_what_it_had(context):
    with having_given(context, dead_after=LONG) as (broker, asker, worker, key):
        worker.say(Kind.JOIN)
        assert asker.wait_for(key, Kind.LOST)
        worker.until_heard(Kind.CANCEL, 2)  # at its first JOIN, too
        assert [each.outstanding for each in broker.workers()] == [0]


def test_what_a_worker_has_of_a_broker_that_is_gone_is_cancelled_by_the_next_one(context):
    sleeper = Sleeper()
    with (
        broker_of(context, dead_after=LONG) as broker,
        worker_of(broker, sleeper, dead_after=LONG),
        asking(broker) as requester,
    ):
        requester.submit(b"x")
        wait_until(lambda: sleeper.begun)
        back = endpoint_of(broker.back)
        broker.close()
        until_reaped(context)
        anew = Broker.open(unique_inproc(), back, context=context, dead_after=LONG, linger=0)
        with contextlib.closing(anew):
            anew.start()
            wait_until(lambda: sleeper.ended == [RequestCancelled])


def test_the_end_of_what_a_worker_had_over_an_old_connection_ends_no_later_attempt(context):
    with having_given(context, dead_after=LONG) as (_, asker, worker, key):
        session = worker.session
        worker.say(Kind.JOIN, left=60_000)
        assert asker.wait_for(key, Kind.LOST)
        wait_until(lambda: worker.session != session)
        worker.join(1, left=60_000)
        asker.ask(b"x", key=key, attempt=1)
        worker.next_request(2)
        worker.say(Kind.LOST, key)
        worker.say(Kind.REPLY, key, [b"reply"])
        wait_until(lambda: len(asker.of(key)) == 2)
        assert asker.of(key)[1][1] == [b"reply"]


def test_a_worker_says_that_its_connection_is_a_new_one_and_repeats_what_it_is_called(context):
    with ScriptedBroker(context) as broker:
        endpoint = endpoint_of(broker.source)
        worker = Responder.join(endpoint, echo, 3, context=context, dead_after=LONG, linger=0)
        worker.start()
        wait_until(broker.joins)
        assert broker.joins() == [(bytes(16), 3)]
        broker.say(Kind.PING, key_of(1))
        wait_until(lambda: broker.joins()[1:] == [(key_of(1), 3)])
        broker.source.close()
        with ScriptedBroker(context, endpoint) as anew:
            wait_until(lambda: (bytes(16), 3) in anew.joins())
            worker.close()


def test_brokers_are_not_offered_more_than_a_worker_takes_when_it_starts(context):
    with ScriptedBroker(context) as one, ScriptedBroker(context) as two:
        brokers = [endpoint_of(one.source), endpoint_of(two.source)]
        worker = Responder.join(brokers, echo, 5, context=context, dead_after=LONG, linger=0)
        worker.start()
        wait_until(lambda: one.joins() and two.joins())
        assert one.joins()[0][1] + two.joins()[0][1] == 5
        worker.close()


def test_many_connections_that_end_at_once_are_one_reason_to_look_at_the_workers(context):
    with broker_of(context, dead_after=LONG) as broker, ScriptedWorker(broker) as worker:
        before = len(worker.heard)
        others = [ScriptedWorker(broker, 0) for _ in range(100)]
        for each in others:
            each.say(Kind.PONG)  # it is there
        wait_until(lambda: broker.stats().late == 100)
        began = time.monotonic()
        for each in others:
            each.source.close()
        with ScriptedWorker(broker) as gone:
            wait_until(lambda: len(broker.workers()) == 2)
        assert gone.source.closed
        wait_until(lambda: len(broker.workers()) == 1)
        wait_until(lambda: not broker._watch._monitor._report.queue)
        took = time.monotonic() - began
        assert 0 < len(worker.heard) - before < 10 + took / Watch.rest


@pytest.mark.parametrize(
    ("options", "milliseconds"),
    [
        ({}, 5000),
        ({"dead_after": 0.02}, 1000),
        ({"dead_after": 2e6}, 2_000_000_000),
        ({"heartbeat_ivl": 700}, 700),
        ({"HEARTBEAT_IVL": 0}, 0),
    ],
)
def test_libzmq_looks_for_a_path_to_a_broker_that_has_died(context, options, milliseconds):
    worker = Responder.join(unique_inproc(), echo, context=context, linger=0, **options)
    with contextlib.closing(worker):
        assert worker.source.socket.heartbeat_ivl == milliseconds


def test_a_worker_learns_of_each_connection_first_of_all(context):
    with (
        broker_of(context) as broker,
        Source.open(zmq.DEALER, connect=endpoint_of(broker.back), context=context) as worker,
    ):
        assert worker.recv(timeout=10) == [b""]


def test_a_worker_is_as_patient_as_its_own_reports_allow_with_a_broker_that_is_quicker(context):
    with ScriptedBroker(context) as broker:
        endpoint = endpoint_of(broker.source)
        worker = Responder.join(endpoint, echo, context=context, dead_after=LONG, linger=0)
        with contextlib.closing(worker):
            worker.start()
            wait_until(broker.joins)
            broker.say(Kind.PING, key_of(1), left=20)
            wait_until(lambda: (key_of(1), 100) in broker.joins())
            (asker,) = worker._parts.askers.all()
            asker.silence = TICKS
            assert not worker._pulse.is_silent(asker)
