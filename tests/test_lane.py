"""Lanes: gevent's queue, with putters that keep their turn."""

import contextlib

import gevent
import pytest
from gevent.queue import Empty, Full, Queue
from gevent.threadpool import ThreadPool

from gzmqsource import SourceClosed
from gzmqsource._source.lane import Lane
from gzmqsource._source.outbox import Outbox
from gzmqsource._source.putter import Putter
from gzmqsource.testing import all_blocked


def full_lane(*messages):
    lane = Lane(len(messages))
    for message in messages:
        lane.put_nowait(message)
    return lane


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


def overtaken(queue):
    """What is in a full queue of one after a get and a put, while a putter waits."""
    queue.put_nowait(b"first")
    putting = gevent.spawn(queue.put, b"waited")
    all_blocked()
    assert queue.get_nowait() == b"first"
    with contextlib.suppress(Full):
        queue.put_nowait(b"newcomer")
    inside = list(queue.queue)
    putting.kill()
    return inside


def test_no_newcomer_overtakes_a_putter():
    assert overtaken(Lane(1)) == [b"waited"]


def test_gevents_own_queue_lets_one_overtake():
    # The reason for putters of our own. If this fails, they may not be needed any more.
    assert overtaken(Queue(1)) == [b"newcomer"]


def test_putters_follow_in_the_order_they_came():
    lane = full_lane(b"0")
    putting = [gevent.spawn(lane.put, b"%d" % number) for number in range(1, 6)]
    all_blocked()
    assert [lane.get_nowait() for _ in range(6)] == [b"%d" % number for number in range(6)]
    gevent.joinall(putting, timeout=5, raise_error=True)
    assert not lane.waiting


def test_a_putter_may_be_a_native_thread():
    lane = full_lane(b"first")
    pool = ThreadPool(1)
    putter = Putter(b"second", awaited=True)
    waiting = pool.spawn(putter.wait, 5)
    lane.admit(putter)
    assert lane.waiting == [putter]
    assert lane.get_nowait() == b"first"
    assert list(lane.queue) == [b"second"]
    waiting.get(timeout=5)
    pool.kill()


@pytest.mark.parametrize("end", ["kill", "timeout"])
def test_a_putter_that_gives_up_leaves_its_place_to_the_next(end):
    lane = full_lane(b"first")
    timeout = None if end == "kill" else 0.001
    leaving = gevent.spawn(lane.put, b"second", timeout=timeout)
    all_blocked()
    staying = gevent.spawn(lane.put, b"third")
    if end == "kill":
        leaving.kill()
    else:
        with pytest.raises(Full):
            leaving.get(timeout=5)
    all_blocked()
    assert len(lane.waiting) == 1
    assert lane.get_nowait() == b"first"
    staying.get(timeout=5)
    assert list(lane.queue) == [b"third"]


def test_the_age_is_that_of_the_oldest_message(monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lane = Lane(10)
    assert lane.age() == 0.0
    for message in (b"1", b"2", b"3"):
        lane.put_nowait(message)
        now += 1.0
    assert lane.age() == 3.0
    lane.get_nowait()
    assert lane.age() == 2.0
    assert [lane.get_nowait() for _ in range(2)] == [b"2", b"3"]
    assert lane.age() == 0.0


def test_closing_an_outbox_refuses_the_putters_of_each_lane():
    outbox = Outbox(1, "block", per_peer=True)
    for peer in (b"a", b"b"):
        outbox.put([peer, b"first"], True, None)
    putting = [gevent.spawn(outbox.put, [peer, b"second"], True, None) for peer in (b"a", b"b")]
    all_blocked()
    assert outbox.close() == [[b"a", b"first"], [b"b", b"first"]]
    for each in putting:
        with pytest.raises(SourceClosed):
            each.get(timeout=5)
