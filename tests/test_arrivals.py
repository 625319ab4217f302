"""What other threads leave for a lane: its bound, its order, and the turns in which it comes in."""

import os
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.queue import Full
from helpers import _sleep, _start_thread, closing

from gzmqsource import Source
from gzmqsource._socket import budget
from gzmqsource._source.outbox import Outbox
from gzmqsource.testing import all_blocked, wait_until


def no_look():
    """There is no libzmq that could make room."""


def send_while_the_hub_is_busy(sender, messages):
    """Send in a native thread, without a turn of this hub."""
    done = []

    def send():
        for message in messages:
            sender.send(message)
        done.append(True)

    _start_thread(send, ())
    while not done:
        _sleep(0.001)


def post(outbox, peer, *numbers, block=False):
    for number in numbers:
        outbox.post([peer, b"%d" % number], block, None, no_look)


def put(outbox, peer, number, block=True, timeout=None):
    outbox.put([peer, b"%d" % number], block, timeout, lambda: no_look, no_look)


def accept(outbox):
    while outbox.accept_arrivals():
        pass


def queued(outbox, peer):
    lane = outbox.lanes.get(peer)
    return [int(message[1]) for message in lane.messages()] if lane is not None else []


@pytest.mark.parametrize("overflow", ["block", "raise", "drop_newest", "drop_oldest"])
def test_what_arrives_for_one_peer_takes_no_room_of_another(overflow):
    outbox = Outbox(3, overflow, per_peer=True)
    post(outbox, b"b", 0)
    post(outbox, b"a", 1, 2, 3)
    post(outbox, b"b", 4, 5)
    accept(outbox)
    assert (queued(outbox, b"a"), queued(outbox, b"b")) == ([1, 2, 3], [0, 4, 5])
    assert not outbox.dropped


@pytest.mark.parametrize("overflow", ["block", "raise"])
@pytest.mark.parametrize("in_lane", [0, 2, 3])
def test_a_lane_and_its_arrivals_have_one_bound(overflow, in_lane):
    outbox = Outbox(3, overflow, per_peer=True)
    for number in range(in_lane):
        put(outbox, b"a", number)
    post(outbox, b"a", *range(in_lane, 3))
    for late in (post, put):
        with pytest.raises(Full):
            late(outbox, b"a", 3, block=False)
    accept(outbox)
    assert queued(outbox, b"a") == [0, 1, 2]


@pytest.mark.parametrize("in_lane", [0, 1, 2, 3])
def test_drop_oldest_drops_the_oldest_of_that_lane_and_is_never_full(in_lane):
    outbox = Outbox(3, "drop_oldest", per_peer=True)
    post(outbox, b"b", 0)
    for number in range(in_lane):
        put(outbox, b"a", number)
    post(outbox, b"a", *range(in_lane, 10))
    assert sum(map(len, outbox._arrived.values())) <= 4
    accept(outbox)
    assert (queued(outbox, b"a"), queued(outbox, b"b")) == ([7, 8, 9], [0])
    assert outbox.dropped == {"oldest": 7}


def test_drop_newest_drops_what_has_no_place():
    outbox = Outbox(3, "drop_newest", per_peer=True)
    put(outbox, b"a", 0)
    post(outbox, b"a", 1, 2, 3, 4)
    put(outbox, b"a", 5)
    accept(outbox)
    assert queued(outbox, b"a") == [0, 1, 2]
    assert outbox.dropped == {"newest": 3}


def test_a_greenlet_does_not_pass_what_has_arrived():
    outbox = Outbox(1000, "block", per_peer=True)
    post(outbox, b"a", *range(100))
    put(outbox, b"a", 100)
    assert outbox.arrivals  # not all were taken over for it
    post(outbox, b"a", 101)
    accept(outbox)
    assert queued(outbox, b"a") == list(range(102))


def test_a_greenlet_waits_behind_what_has_arrived_and_nobody_passes_it():
    outbox = Outbox(100, "block", per_peer=True)
    post(outbox, b"a", *range(100))
    waiting = gevent.spawn(put, outbox, b"a", 100)
    all_blocked()
    assert outbox.arrivals
    for late in (post, put):
        with pytest.raises(Full):
            late(outbox, b"a", 200, block=False)
    accept(outbox)
    outbox.withdraw([b"a", b"50"])
    waiting.get(timeout=5)
    assert queued(outbox, b"a") == [*range(50), *range(51, 101)]


def test_a_greenlet_that_is_killed_behind_arrivals_has_sent_nothing():
    outbox = Outbox(100, "block", per_peer=True)
    post(outbox, b"a", *range(100))
    killed = gevent.spawn(put, outbox, b"a", 100)
    all_blocked()
    assert outbox.arrivals
    killed.kill()
    accept(outbox)
    assert not outbox.lanes[b"a"].waiting
    outbox.withdraw([b"a", b"0"])
    assert queued(outbox, b"a") == list(range(1, 100))


def test_arrivals_of_all_peers_have_their_turn(monkeypatch):
    monkeypatch.setattr(Outbox, "max_seconds", 0)
    outbox = Outbox(1000, "block", per_peer=True)
    for peer in (b"a", b"b"):
        post(outbox, peer, *range(100))
    for _ in range(2):
        assert outbox.accept_arrivals()
    assert [len(queued(outbox, peer)) for peer in (b"a", b"b")] == [Outbox.stride] * 2
    accept(outbox)
    assert queued(outbox, b"a") == queued(outbox, b"b") == list(range(100))


def test_other_io_has_its_turn_while_many_arrivals_are_taken_over(context, monkeypatch):
    monkeypatch.setattr(Outbox, "max_seconds", 0)
    source = Source.open(zmq.PUSH, context=context, outbox=2000, linger=0)
    reading, writing = os.pipe()
    depths = []
    watcher: Any = get_hub().loop.io(reading, 1)

    def note():
        depths.append(source.stats().outbox_depth)
        watcher.stop()

    with closing(source):
        sender = source.sender()
        send_while_the_hub_is_busy(sender, [b"%d" % number for number in range(2000)])
        watcher.start(note)
        os.write(writing, b"x")
        wait_until(lambda: source.stats().outbox_depth == 2000)
        watcher.close()
        assert depths[0] < 1000
        assert source.stop(0) == [[b"%d" % number] for number in range(2000)]
    os.close(reading)
    os.close(writing)


def test_many_putters_are_woken_in_turns_and_in_order(monkeypatch):
    monkeypatch.setattr(Outbox, "max_seconds", 0)
    outbox = Outbox(100, "block", per_peer=True)
    for number in range(100):
        put(outbox, b"a", number)
    waiting = [gevent.spawn(put, outbox, b"a", number) for number in range(100, 150)]
    all_blocked()
    lane = outbox.lanes[b"a"]
    for _ in range(60):
        lane.queue.popleft()
    outbox.settle({b"a": 60})
    get_hub().loop.run_callback(lambda: after_one_turn.append(lane.depth))
    after_one_turn: list[int] = []
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert after_one_turn == [41]
    assert queued(outbox, b"a") == list(range(60, 150))


@pytest.fixture
def killed(monkeypatch):
    """Each greenlet that waits for a turn of other I/O is killed, as by a program that ends all."""

    def die(hub):
        raise gevent.GreenletExit

    monkeypatch.setattr(Outbox, "max_seconds", 0)
    monkeypatch.setattr(budget, "yield_to_io", die)


@pytest.mark.usefixtures("killed")
def test_a_kill_between_two_turns_leaves_no_arrivals_behind(context):
    source = Source.open(zmq.PUSH, context=context, outbox=2000, linger=0)
    with closing(source):
        sender = source.sender()
        send_while_the_hub_is_busy(sender, [b"x"] * 2000)
        wait_until(lambda: source.stats().outbox_depth == 2000)


@pytest.mark.usefixtures("killed")
def test_a_kill_between_two_turns_leaves_no_putter_behind():
    outbox = Outbox(100, "block", per_peer=True)
    for number in range(100):
        put(outbox, b"a", number)
    waiting = [gevent.spawn(put, outbox, b"a", number) for number in range(100, 150)]
    all_blocked()
    outbox.lanes[b"a"].queue.clear()
    outbox.settle({b"a": 100})
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert queued(outbox, b"a") == list(range(100, 150))


def test_a_flush_waits_for_what_has_arrived(context):
    source = Source.open(zmq.PUSH, context=context, linger=0)
    with closing(source):
        sender = source.sender()
        send_while_the_hub_is_busy(sender, [b"x"])
        assert not source.flush(0)
        assert source.stop(0) == [[b"x"]]


def test_what_has_arrived_for_a_peer_is_counted_when_the_source_closes(context):
    source = Source.open(zmq.ROUTER, bind="inproc://a", context=context)
    sender = source.sender()
    send_while_the_hub_is_busy(sender, [[b"peer", b"x"]] * 3)
    source.close()
    assert source.stats().dropped == {"unsent": 3}


def test_what_a_signal_raises_in_a_notification_costs_no_later_one():
    """Nothing else wakes the hub for messages of a lane that has arrivals already."""
    outbox = Outbox(3, "block", per_peer=True)
    notified = []

    def raise_first():
        notified.append(True)
        if len(notified) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.post([b"a", b"1"], False, None, raise_first)
    outbox.post([b"a", b"2"], False, None, raise_first)
    assert len(notified) == 2
    accept(outbox)
    assert queued(outbox, b"a") == [2]


def test_a_hub_that_is_notified_waits_for_what_is_about_to_be_left():
    outbox = Outbox(3, "block", per_peer=True)
    accepting = []

    def look():
        accepting.append(True)
        accept(outbox)
        accepting.append(True)

    def notify():
        # Another thread looks as soon as it is notified, and finds the message.
        _start_thread(look, ())
        while not accepting:
            _sleep(0.001)

    outbox.post([b"a", b"1"], False, None, notify)
    while len(accepting) < 2:
        _sleep(0.001)
    assert queued(outbox, b"a") == [1]


def test_what_a_signal_posts_in_a_notification_is_kept():
    outbox = Outbox(3, "block", per_peer=True)

    def notify():
        outbox.post([b"a", b"1"], False, None, no_look)

    outbox.post([b"a", b"2"], False, None, notify)
    accept(outbox)
    assert queued(outbox, b"a") == [1, 2]
    assert not outbox.arrivals
