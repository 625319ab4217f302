"""Workers that are lost, silent or leaving, and what becomes of their requests."""

import functools
import time
from typing import Any

import gevent
import pytest
from asking import Asker
from brokering import SOON, ScriptedWorker, asking, broker_of, having_given, worker_of
from gevent.event import Event
from helpers import endpoint_of

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost
from gzmqsource.workers._header import Kind

#: Long enough that only the end of a connection shows that a worker is gone.
LONG = 30.0


def echo(payload):
    return payload


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://*"])
def test_what_a_worker_had_that_is_gone_is_lost_at_once(context, endpoint):
    with broker_of(context, endpoint, dead_after=LONG) as broker, asking(broker) as requester:
        with ScriptedWorker(broker, 2) as gone:
            lost = [requester.submit(b"lost") for _ in range(2)]
            gone.next_request(2)
            waiting = requester.submit(b"waiting")
            wait_until(lambda: broker.stats().waiting == 1)
        for each in lost:
            with pytest.raises(PeerLost):
                each.get(timeout=10)
        assert broker.stats().lost == 2
        assert not broker.workers()
        with worker_of(broker, echo):
            assert waiting.get(timeout=10) == [b"waiting"]


def test_what_a_worker_had_that_is_silent_is_lost_in_time(context):
    with (
        broker_of(context) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker) as silent,
    ):
        began = time.monotonic()
        with pytest.raises(PeerLost):
            requester.request(b"x", timeout=10)
        assert time.monotonic() - began > SOON
        silent.until_heard(Kind.CANCEL, 2)  # of all at its JOIN, then of this one
        assert [each.state for each in broker.workers()] == ["silent"]
        assert broker.stats().slots == 0


def test_one_that_leaves_is_given_nothing_when_it_has_less(context):
    with (
        broker_of(context, dead_after=LONG) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker, 5) as leaving,
    ):
        asked = [requester.submit(b"x") for _ in range(4)]
        leaving.next_request(4)
        leaving.say(Kind.LEAVING, session=9)
        leaving.until_heard(Kind.NOMORE)
        assert leaving.heard[-1][0].session == 9
        for header, payload in leaving.asked():
            leaving.say(Kind.REPLY, header.key, payload)
        assert [each.get(timeout=10) for each in asked] == [[b"x"]] * 4
        requester.submit(b"y")
        wait_until(lambda: broker.stats().waiting == 1)
        assert len(leaving.asked()) == 4


def test_one_that_is_silent_is_given_nothing_until_it_is_heard_again(context):
    with (
        broker_of(context) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker) as silent,
    ):
        wait_until(lambda: [each.state for each in broker.workers()] == ["silent"])
        asked = requester.submit(b"x")
        wait_until(lambda: broker.stats().waiting == 1)
        silent.say(Kind.PONG)
        silent.join(1)
        key, payload = silent.next_request()
        silent.say(Kind.REPLY, key, payload)
        assert asked.get(timeout=10) == [b"x"]


def test_a_lost_request_is_given_to_another_worker_if_told_so(context):
    with (
        broker_of(context, dead_after=LONG, redeliver=True) as broker,
        asking(broker) as requester,
    ):
        with ScriptedWorker(broker) as gone:
            asked = requester.submit(b"x")
            gone.next_request()
            behind = requester.submit(b"behind")
            wait_until(lambda: broker.stats().waiting == 1)
        wait_until(lambda: broker.stats().redelivered == 1)
        with ScriptedWorker(broker) as other:
            key, payload = other.next_request()
            assert payload == [b"x"]  # before what has waited
            other.say(Kind.REPLY, key, payload)
            assert asked.get(timeout=10) == [b"x"]
            key, payload = other.next_request(2)
            other.say(Kind.REPLY, key, payload)
            assert behind.get(timeout=10) == [b"behind"]
        stats = broker.stats()
        assert (stats.redelivered, stats.lost, stats.replies) == (1, 0, 2)


def test_what_a_worker_has_lost_itself_is_given_to_another_if_told_so(context):
    with (
        broker_of(context, dead_after=LONG, redeliver=True) as broker,
        asking(broker) as requester,
        ScriptedWorker(broker) as losing,
    ):
        asked = requester.submit(b"x")
        key, _ = losing.next_request()
        with worker_of(broker, echo):
            losing.say(Kind.LOST, key)
            assert asked.get(timeout=10) == [b"x"]


def test_what_workers_die_of_is_given_to_four_of_them(context):
    with (
        broker_of(context, dead_after=LONG, redeliver=True) as broker,
        asking(broker) as requester,
    ):
        asked = requester.submit(b"deadly")
        for _ in range(4):
            with ScriptedWorker(broker) as worker:
                worker.next_request()
        with pytest.raises(PeerLost):
            asked.get(timeout=10)
        assert (broker.stats().redelivered, broker.stats().lost) == (3, 1)


def test_a_reply_that_comes_after_all_counts_and_goes_nowhere(context):
    with having_given(context, redeliver=True) as (broker, asker, late, key):
        late.until_heard(Kind.CANCEL, 2)  # of all at its JOIN, then of this one
        with worker_of(broker, lambda _: b"other"):
            assert asker.wait_for(key) == [b"other"]
        late.say(Kind.REPLY, key, [b"late"])
        wait_until(lambda: broker.stats().late == 1)
        assert len(asker.of(key)) == 1


def test_one_that_another_worker_has_by_now_is_answered_by_that_one(context):
    with having_given(context, redeliver=True) as (broker, asker, late, key):
        late.until_heard(Kind.CANCEL, 2)  # of all at its JOIN, then of this one
        with ScriptedWorker(broker, 0) as other:
            other.join(1, left=60_000)
            given, _ = other.next_request()
            late.say(Kind.REPLY, key, [b"late"])
            wait_until(lambda: broker.stats().late == 1)
            assert not asker.of(key)
            assert broker.stats().running == 1
            other.say(Kind.REPLY, given, [b"other"])
            assert asker.wait_for(key) == [b"other"]


def test_what_was_given_up_has_its_place_until_the_worker_says_how_it_ended(context):
    with having_given(context) as (broker, asker, late, key):
        late.until_heard(Kind.CANCEL, 2)  # of all at its JOIN, then of this one
        late.join(1, left=60_000)
        asker.ask(b"y")
        wait_until(lambda: broker.stats().waiting == 1)
        assert len(late.asked()) == 1
        late.say(Kind.LOST, key)
        assert late.next_request(2)[1] == [b"y"]


def test_one_that_is_asked_again_has_a_place_of_its_own_at_the_same_worker(context):
    with (
        broker_of(context) as broker,
        Asker(context, endpoint_of(broker.front)) as asker,
        ScriptedWorker(broker) as late,
    ):
        key = asker.ask(b"x")
        first, _ = late.next_request()
        assert asker.wait_for(key, Kind.LOST)
        asker.ask(b"x", key=key, attempt=1)
        late.join(2, left=60_000)
        second, _ = late.next_request(2)
        assert [each.outstanding for each in broker.workers()] == [2]
        late.say(Kind.LOST, first)
        wait_until(lambda: [each.outstanding for each in broker.workers()] == [1])
        late.say(Kind.REPLY, second, [b"reply"])
        wait_until(lambda: len(asker.of(key)) == 2)
        assert asker.of(key)[1][1] == [b"reply"]


def test_a_late_hub_of_the_broker_accuses_nobody(context):
    with (
        broker_of(context) as broker,
        worker_of(broker, echo) as worker,
        asking(broker) as requester,
    ):
        assert requester.request(b"x", timeout=10) == [b"x"]
        time.sleep(2 * SOON)
        assert requester.request(b"x", timeout=10) == [b"x"]
        assert [each.state for each in broker.workers()] == ["ready"]
        assert not worker.closed
        assert broker.stats().lost == 0


def test_a_worker_that_leaves_finishes_what_it_has_and_nothing_is_lost(context):
    go_on, begun = Event(), []

    def wait(payload):
        begun.append(payload)
        go_on.wait()
        return payload

    with broker_of(context) as broker, asking(broker) as requester:
        with worker_of(broker, wait, 2) as worker:
            asked = [requester.submit(b"x") for _ in range(4)]
            wait_until(lambda: len(begun) == 2)
            leaving = gevent.spawn(worker.leave, 10)
            wait_until(lambda: [each.state for each in broker.workers()] == ["leaving"])
            go_on.set()
            assert leaving.get(timeout=10) == 0
        assert [each.get(timeout=10) for each in asked[:2]] == [[b"x"]] * 2
        wait_until(lambda: not broker.workers())
        with worker_of(broker, echo):
            assert [each.get(timeout=10) for each in asked[2:]] == [[b"x"]] * 2
        assert broker.stats().lost == 0


@pytest.mark.limit(60)
def test_workers_come_and_go_under_load_and_nothing_is_lost_or_done_twice(context):
    done = []

    def note(payload):
        gevent.sleep(0.001)
        done.append(bytes(payload[0]))
        return payload

    with broker_of(context) as broker, asking(broker) as requester:
        is_over = False

        def ask(name):
            count = 0
            while not is_over:
                message = b"%d %d" % (name, count)
                assert requester.request(message, timeout=20) == [message]
                count += 1
            return count

        def has_done(count):
            return len(done) >= count

        askers: list[Any] = [gevent.spawn(ask, name) for name in range(20)]
        for _ in range(10):
            with worker_of(broker, note, 4) as worker:
                wait_until(functools.partial(has_done, len(done) + 50))
                assert worker.leave(10) == 0
        with worker_of(broker, note, 4):
            is_over = True
            gevent.joinall(askers, timeout=20, raise_error=True)
        assert len(done) == len(set(done)) == sum(each.value for each in askers)


def test_a_worker_leaves_in_time_when_its_broker_is_gone(context):
    with broker_of(context) as broker, worker_of(broker, echo) as worker:
        broker.close()
        began = time.monotonic()
        assert worker.leave(20) == 0
        assert time.monotonic() - began < 10
        assert not worker.source.stats().dropped


def test_a_worker_that_is_forgotten_takes_no_memory(context):
    with broker_of(context) as broker:
        broker._watch.forget = 1
        with ScriptedWorker(broker):
            wait_until(lambda: [each.state for each in broker.workers()] == ["silent"])
            wait_until(lambda: not broker.workers())


def test_there_are_so_many_workers_and_no_more(context):
    with broker_of(context) as broker, asking(broker) as requester:
        broker._back.max_workers = 1
        with worker_of(broker, echo), ScriptedWorker(broker, 0) as more:
            more.say(Kind.JOIN)
            wait_until(lambda: broker._back.malformed.count == 1)
            assert len(broker.workers()) == 1
            assert requester.request(b"x", timeout=10) == [b"x"]
