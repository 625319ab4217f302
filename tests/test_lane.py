"""Lanes: gevent's queue, with putters that keep their turn."""

import contextlib
import itertools
from types import SimpleNamespace

import gevent
import pytest
from gevent.queue import Empty, Full, Queue
from gevent.threadpool import ThreadPool

from gzmqsource import SourceClosed
from gzmqsource._base.waiters import Waiters
from gzmqsource._source.bounds import Bounds
from gzmqsource._source.lane import Lane
from gzmqsource._source.outbox import Outbox
from gzmqsource._source.putter import Putter
from gzmqsource.testing import all_blocked
from gzmqsource.transfer.message import UNLIMITED


def full_lane(*messages):
    lane = Lane(Bounds(len(messages), 1 << 20, UNLIMITED))
    for message in messages:
        lane.put_nowait(message)
    return lane


def no_look():
    """There is no libzmq that could make room."""


def put(outbox, message, block=True, timeout=None):
    outbox.put(message, block, timeout, lambda: no_look, no_look)


def full_outbox(*messages, per_peer=False):
    outbox = Outbox(1 if per_peer else len(messages), "block", per_peer)
    for message in messages:
        put(outbox, message)
    return outbox


def queued(outbox):
    return [message for lane in outbox.lanes.values() for message in lane.queue]


def waiting(outbox):
    return sum(len(lane.waiting) for lane in outbox.lanes.values())


def test_a_putter_whose_send_has_raised_has_no_turn():
    lane = full_lane(b"1")
    gone, after = (Putter(gevent.get_hub(), 1, Waiters()) for _ in range(2))
    lane.waiting.update({gone: None, after: None})
    gone.withdrawn = True
    lane.get_nowait()
    assert lane.admit() is after
    assert list(lane.waiting) == [after]


def test_a_putter_that_gives_up_lets_one_follow_whose_message_is_smaller():
    outbox = Outbox(5, "block", False, lane_bytes=300)
    put(outbox, bytes(100))
    large = gevent.spawn(put, outbox, bytes(200))
    all_blocked(1)
    small = gevent.spawn(put, outbox, b"small")
    all_blocked(1)
    large.kill()
    all_blocked(1)
    assert small.dead
    assert queued(outbox) == [bytes(100), b"small"]


def test_a_lane_is_a_gevent_queue():
    lane = full_lane(b"1", b"2")
    assert isinstance(lane, Queue)
    assert (list(lane.queue), lane.maxsize, lane.qsize(), len(lane)) == ([b"1", b"2"], 2, 2, 2)
    assert lane.full()
    assert not lane.empty()
    with pytest.raises(Full):
        lane.put_nowait(b"3")
    assert [lane.get_nowait(), lane.get()] == [b"1", b"2"]
    with pytest.raises(Empty):
        lane.get_nowait()


def test_no_newcomer_overtakes_a_putter():
    outbox = full_outbox(b"first")
    putting = gevent.spawn(put, outbox, b"waited")
    all_blocked()
    assert outbox.withdraw(b"first")
    with pytest.raises(Full):
        put(outbox, b"newcomer", block=False)
    late = gevent.spawn(put, outbox, b"late")
    putting.get(timeout=5)
    assert queued(outbox) == [b"waited"]
    late.kill()


def test_gevents_own_queue_lets_one_overtake():
    # The reason for putters of our own. If this fails, they may not be needed any more.
    queue: Queue[bytes] = Queue(1)
    queue.put_nowait(b"first")
    putting = gevent.spawn(queue.put, b"waited")
    all_blocked()
    assert queue.get_nowait() == b"first"
    queue.put_nowait(b"newcomer")
    assert list(queue.queue) == [b"newcomer"]
    putting.kill()


def test_putters_follow_in_the_order_they_came():
    outbox = full_outbox(b"0")
    order = []

    def work(number):
        for turn in range(3):
            put(outbox, b"%d" % (10 * turn + number))

    putting = [gevent.spawn(work, number) for number in range(1, 6)]
    while any(not each.dead for each in putting):
        all_blocked()
        for message in queued(outbox):
            order.append(int(message))
            outbox.withdraw(message)
    gevent.joinall(putting, timeout=5, raise_error=True)
    order += map(int, queued(outbox))
    assert order == [0, *range(1, 6), *range(11, 16), *range(21, 26)]
    assert not waiting(outbox)


def test_a_putter_may_be_a_native_thread():
    outbox = full_outbox(b"first")
    pool = ThreadPool(1)
    posting = pool.spawn(outbox.post, b"second", True, 5, no_look)
    while not outbox.arrivals:
        all_blocked()
    outbox.accept_arrivals()
    assert (queued(outbox), waiting(outbox)) == ([b"first"], 1)
    assert outbox.withdraw(b"first")
    assert queued(outbox) == [b"second"]
    posting.get(timeout=5)
    pool.kill()


@pytest.mark.parametrize("end", ["kill", "timeout"])
def test_a_putter_that_gives_up_leaves_its_place_to_the_next(end):
    outbox = full_outbox(b"first")
    leaving = gevent.spawn(put, outbox, b"second", timeout=None if end == "kill" else 0.001)
    all_blocked(1)
    staying = gevent.spawn(put, outbox, b"third")
    if end == "kill":
        leaving.kill()
    else:
        with pytest.raises(Full):
            leaving.get(timeout=5)
    all_blocked()
    assert waiting(outbox) == 1
    assert outbox.withdraw(b"first")
    staying.get(timeout=5)
    assert queued(outbox) == [b"third"]


@pytest.mark.parametrize("per_peer", [False, True])
def test_a_putter_that_is_killed_in_the_step_that_makes_room_passes_it_on(per_peer):
    messages = [[b"peer", b"%d" % number] for number in range(3)]
    outbox = full_outbox(messages[0], per_peer=per_peer)
    killed, next_one = (gevent.spawn(put, outbox, message) for message in messages[1:])
    all_blocked()
    killed.kill(block=False)
    assert outbox.withdraw(messages[0])
    next_one.get(timeout=5)
    assert queued(outbox) == [messages[2]]


@pytest.mark.parametrize("per_peer", [False, True])
def test_a_lane_lives_as_long_as_its_putters(per_peer):
    first, second = [b"peer", b"first"], [b"peer", b"second"]
    outbox = full_outbox(first, per_peer=per_peer)
    putting = gevent.spawn(put, outbox, second)
    all_blocked()
    flushing = gevent.spawn(outbox.wait_until_empty, None, no_look)
    outbox.withdraw(first)
    assert outbox.lanes
    all_blocked()
    assert not flushing.dead
    outbox.withdraw(second)
    assert flushing.get(timeout=5)
    assert not outbox.lanes
    putting.get(timeout=5)


@pytest.mark.parametrize("per_peer", [False, True])
def test_the_last_putter_of_an_empty_lane_ends_it(per_peer):
    first, second = [b"peer", b"first"], [b"peer", b"second"]
    outbox = full_outbox(first, per_peer=per_peer)
    putting = gevent.spawn(put, outbox, second)
    flushing = gevent.spawn(outbox.wait_until_empty, None, no_look)
    all_blocked()
    putting.kill(block=False)
    outbox.withdraw(first)
    assert flushing.get(timeout=5)
    assert not outbox.lanes
    with contextlib.suppress(gevent.GreenletExit):
        putting.get(timeout=5)


def test_the_age_is_that_of_the_oldest_message(monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lane = Lane(Bounds(10, 1 << 20, UNLIMITED))
    assert lane.age() == 0.0
    for message in (b"1", b"2", b"3"):
        lane.put_nowait(message)
        now += 1.0
    assert lane.age() == 3.0
    lane.get_nowait()
    assert lane.age() == 2.0
    assert [lane.get_nowait() for _ in range(2)] == [b"2", b"3"]
    assert lane.age() == 0.0


@pytest.fixture
def clock(monkeypatch):
    """A second passes between any two looks of a lane at the clock, at which others look, too."""
    ticks = itertools.count(100.0)
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr("gzmqsource._source.lane.time", clock)


@pytest.mark.usefixtures("clock")
def test_withdrawn_messages_do_not_add_to_the_age_of_later_ones():
    lane = full_lane(*[b"%d" % number for number in range(10)])
    for number in range(1, 10):
        assert lane.withdraw(b"%d" % number)
    assert lane.get_nowait() == b"0"
    lane.put_nowait(b"later")
    assert lane.age() == 1.0


@pytest.mark.usefixtures("clock")
def test_there_are_no_more_notes_of_the_time_than_messages_although_many_are_withdrawn():
    lane = full_lane(b"stays", b"there is room")
    for _ in range(100):
        assert lane.withdraw(b"there is room")
        lane.put_nowait(b"there is room")
    assert len(lane._marks) == 2
    assert lane.get_nowait() == b"stays"
    assert lane.age() == 1.0


def test_many_messages_of_one_moment_take_one_note_of_the_time(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    lane = full_lane(*[b"x"] * 1000)
    assert len(lane._marks) == 1


def test_closing_an_outbox_refuses_the_putters_of_each_lane():
    outbox = full_outbox([b"a", b"first"], [b"b", b"first"], per_peer=True)
    putting = [gevent.spawn(put, outbox, [peer, b"second"]) for peer in (b"a", b"b")]
    all_blocked()
    assert outbox.close() == [[b"a", b"first"], [b"b", b"first"]]
    for each in putting:
        with pytest.raises(SourceClosed):
            each.get(timeout=5)


def test_a_message_that_had_room_when_it_was_posted_is_returned_if_the_outbox_closes():
    outbox = Outbox(3, "block", False)
    put(outbox, b"first")
    outbox.post(b"second", True, None, no_look)
    outbox.post(b"third", True, None, no_look)
    assert outbox.close() == [[b"first"], [b"second"], [b"third"]]


def test_each_of_many_messages_can_be_withdrawn_and_the_order_is_kept():
    messages = [[b"%d" % (number % 900), b""] for number in range(1000)]
    outbox = full_outbox(*messages)
    for number in range(999, 200, -3):
        assert outbox.withdraw([b"%d" % (number % 900), b""])
        assert len(outbox.lanes[None].queue) >= Lane.near
    left = list(messages)
    for number in range(999, 200, -3):
        left.remove([b"%d" % (number % 900), b""])
    assert outbox.lanes[None].messages() == left
    put(outbox, [b"last", b""])
    taken = []
    while outbox.lanes:
        taken.append(outbox.lanes[None].queue.popleft())
        outbox.settle({None: 1})
    assert taken == [*left, [b"last", b""]]


def test_a_search_for_a_message_is_not_repeated_for_each(monkeypatch):
    """Else 40,000 greenlets that are killed hold up the hub for 25 s."""

    class Counted(bytes):
        compared = 0

        def __eq__(self, other):
            Counted.compared += 1
            return super().__eq__(other)

        __hash__ = bytes.__hash__

    messages = [[Counted(b"%d" % number), b""] for number in range(2000)]
    outbox = full_outbox(*messages)
    for message in reversed(messages):
        assert outbox.withdraw(list(message))
    assert Counted.compared < (Lane.searches + 2) * 2000 + 2000 * Lane.near
    assert not outbox.lanes


def test_emptying_a_lane_lets_its_putters_follow():
    outbox = full_outbox([b"peer", b"first"], per_peer=True)
    putting = gevent.spawn(put, outbox, [b"peer", b"second"])
    all_blocked()
    assert outbox.empty(b"peer") == [[b"peer", b"first"]]
    putting.get(timeout=5)
    assert queued(outbox) == [[b"peer", b"second"]]
    assert outbox.dropped == {"refused": 1}


def test_lanes_that_were_empty_are_told_apart():
    outbox = full_outbox([b"a", b"first"], [b"b", b"first"], per_peer=True)
    assert list(outbox.filled) == [b"a", b"b"]
    assert outbox.filled[b"a"] is outbox.lanes[b"a"]
    outbox.filled.clear()
    putting = gevent.spawn(put, outbox, [b"a", b"second"])
    all_blocked()
    assert (outbox.filled, outbox.has_queued) == ({}, True)
    outbox.lanes[b"a"].queue.popleft()
    outbox.settle({b"a": 1})
    putting.get(timeout=5)
    assert list(outbox.filled) == [b"a"]
    outbox.empty(b"a")
    outbox.empty(b"b")
    assert (outbox.filled, outbox.has_queued, outbox.lanes) == ({}, False, {})
