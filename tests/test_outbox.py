"""The outbox: its policies, its bound, its order, and what a kill at any moment leaves of them."""

import contextlib
import functools
import time

import gevent
import pytest
import zmq
from gevent.queue import Empty, Full
from outboxes import blocked_pair, number_of, numbered, pull, pull_all

from gzmqsource import Source, SourceClosed
from gzmqsource.testing import all_blocked, wait_until


def test_block_waits_for_room_and_drops_nothing(context, endpoint):
    with blocked_pair(context, endpoint, outbox=3) as (source, receiver, release):
        sending = gevent.spawn(lambda: [source.send(numbered(n)) for n in range(20)])
        all_blocked()
        assert not sending.dead
        assert source.stats().outbox_depth == 3
        release()
        assert pull(receiver, 20) == list(range(20))
        assert source.stats().dropped == {}


def test_raise_is_full_at_once_even_if_told_to_block(context, endpoint):
    with blocked_pair(context, endpoint, outbox=3, overflow="raise") as (source, receiver, release):
        for number in range(3):
            source.send(numbered(number))
        for options in {}, {"timeout": 5}, {"block": True}:
            with pytest.raises(Full):
                source.send(numbered(3), **options)
        release()
        assert pull_all(receiver, source) == [0, 1, 2]
        assert source.stats().dropped == {}


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_newest", [0, 1, 2]), ("drop_oldest", [7, 8, 9])]
)
def test_dropping_is_counted_and_keeps_the_right_ones(context, endpoint, overflow, kept):
    with blocked_pair(context, endpoint, outbox=3, overflow=overflow) as (
        source,
        receiver,
        release,
    ):
        for number in range(10):
            source.send(numbered(number))
            assert source.stats().outbox_depth <= 3
        assert source.stats().dropped == {overflow.removeprefix("drop_"): 7}
        assert source.stats().outbox_depth == source.stats().outbox_peak == 3
        release()
        assert pull_all(receiver, source) == kept
        stats = source.stats()
        assert (stats.sent, stats.outbox_depth, stats.outbox_peak) == (3, 0, 3)


@pytest.mark.parametrize("outbox", [1, 2, 7])
def test_the_bound_holds_at_every_moment(context, outbox):
    with blocked_pair(context, outbox=outbox) as (source, receiver, release):
        depths = set()

        def send(sender):
            for number in range(20):
                source.send([b"%d" % (sender * 100 + number), b"tail"])
                depths.add(source.stats().outbox_depth)

        senders = [gevent.spawn(send, number) for number in range(5)]
        all_blocked()
        release()
        got = []
        for _ in range(100):
            got += pull(receiver, 1)
            depths.add(source.stats().outbox_depth)
        gevent.joinall(senders, raise_error=True)
        assert max(depths) == outbox
        wait_until(lambda: source.flush(0))
        assert (source.stats().outbox_depth, source.stats().outbox_peak) == (0, outbox)
        for sender in range(5):
            mine = [number for number in got if number // 100 == sender]
            assert mine == list(range(sender * 100, sender * 100 + 20))


@pytest.mark.parametrize("value", [0, -1, 1.5, None, "10"])
def test_a_bound_is_a_positive_int(context, value):
    with pytest.raises(ValueError, match="outbox="):
        Source.open(zmq.PUSH, context=context, outbox=value)


def test_an_unknown_policy_is_refused_with_the_ones_there_are(context):
    with pytest.raises(ValueError, match="block, raise, drop_newest, drop_oldest"):
        Source.open(zmq.PUSH, context=context, overflow="wait")  # type: ignore[call-overload]


def are_waiting(lane, count):
    return len(lane.waiting) == count


def test_blocked_senders_are_served_in_the_order_they_came(context):
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        source.send(numbered(0))
        (lane,) = source._core.outbox.lanes.values()
        for number in range(1, 30):
            gevent.spawn(source.send, numbered(number))
            # Before that it may wait for its turn, and another one come first.
            wait_until(functools.partial(are_waiting, lane, number))
        release()
        assert pull(receiver, 30) == list(range(30))


def test_nobody_overtakes_a_blocked_sender(context):
    with blocked_pair(context, outbox=2) as (source, receiver, release):
        for number in range(2):
            source.send(numbered(number))
        sent = list(range(2))
        (lane,) = source._core.outbox.lanes.values()
        for number in range(2, 6):
            gevent.spawn(source.send, numbered(number))
            # Before that it may wait for its turn, and another one come first.
            wait_until(functools.partial(are_waiting, lane, number - 1))
            sent.append(number)
        release()
        number = 100
        got = []
        while number < 150:  # newcomers that try their luck at each moment
            with contextlib.suppress(Full):
                source.send_nowait(numbered(number))
                sent.append(number)
            number += 1
            with contextlib.suppress(Empty):
                got.append(number_of(receiver.recv(timeout=0.001)))
        got += pull_all(receiver, source)
        assert got == sent


def test_flush_is_true_when_libzmq_has_taken_everything(context, endpoint):
    with blocked_pair(context, endpoint) as (source, receiver, release):
        assert source.flush() is True
        for number in range(5):
            source.send(numbered(number))
        flushing = gevent.spawn(source.flush)
        all_blocked()
        assert not flushing.dead
        release()
        assert pull(receiver, 5) == list(range(5))
        assert flushing.get(timeout=5) is True
        assert source.stats().sent == 5


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_flush_is_false_when_its_time_is_over(context, timeout):
    with blocked_pair(context) as (source, _receiver, _release):
        source.send(numbered(0))
        assert source.flush(timeout) is False
        assert source.stats().outbox_depth == 1


def test_flush_waits_for_blocked_senders_too(context):
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        for number in range(4):
            gevent.spawn(source.send, numbered(number))
        all_blocked()
        flushing = gevent.spawn(source.flush)
        release()
        got = pull(receiver, 4)
        assert flushing.get(timeout=5) is True
        assert (got, source.stats().sent) == ([0, 1, 2, 3], 4)


def test_flush_tells_when_the_source_closes_over_it(context):
    with blocked_pair(context) as (source, _receiver, _release):
        source.send(numbered(0))
        flushing = gevent.spawn(source.flush)
        all_blocked()
        source.close()
        with pytest.raises(SourceClosed):
            flushing.get(timeout=10)


def test_closing_tells_every_blocked_sender_and_counts_what_was_queued(context):
    with blocked_pair(context, outbox=2) as (source, _receiver, _release):
        senders = [gevent.spawn(source.send, numbered(number)) for number in range(5)]
        all_blocked()
        source.close()
        gevent.joinall(senders, timeout=10)
        assert [type(sender.exception) for sender in senders] == [type(None)] * 2 + [
            SourceClosed
        ] * 3
        assert source.stats().dropped == {"unsent": 2}
        assert source.stats().outbox_depth == 0


def test_the_age_is_that_of_the_oldest_queued_message(context):
    with blocked_pair(context, outbox=2, overflow="drop_oldest") as (source, receiver, release):
        assert source.stats().oldest_queued_age == 0.0
        before = time.monotonic()
        source.send(numbered(0))
        after = time.monotonic()
        wait_until(lambda: source.stats().oldest_queued_age >= 0.02)
        between = time.monotonic()
        source.send(numbered(1))
        asked = time.monotonic()
        age = source.stats().oldest_queued_age
        assert asked - after <= age <= time.monotonic() - before
        source.send(numbered(2))  # drops the first
        age = source.stats().oldest_queued_age
        assert age <= time.monotonic() - between
        release()
        assert pull_all(receiver, source) == [1, 2]
        assert source.stats().oldest_queued_age == 0.0


def test_nothing_leaves_the_outbox_before_libzmq_has_taken_it(context):
    """What was put in is either queued or counted as sent, and what is sent has room in libzmq."""
    with blocked_pair(context, outbox=1000) as (source, receiver, release):
        for number in range(50):
            source.send(numbered(number))
        release()
        pulled = 0
        while pulled < 50:
            assert source.stats().sent + source.stats().outbox_depth == 50
            # one on its way in each pipe of inproc, whose high-water marks add up, and no more
            all_blocked(1)
            assert pulled <= source.stats().sent <= pulled + 3
            pull(receiver, 1)
            pulled += 1
        assert source.flush(5)


def test_what_was_not_taken_is_still_there_after_a_stop(context):
    with blocked_pair(context) as (source, _receiver, release):
        for number in range(50):
            source.send(numbered(number))
        release()
        all_blocked()
        taken = source.stats().sent
        unsent = source.stop(0.05)
        assert [number_of(message) for message in unsent] == list(range(taken, 50))
