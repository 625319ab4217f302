"""Many greenlets that poll one socket: an event costs what it does with two of them."""

import contextlib
from functools import partial

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from helpers import in_thread, unique_inproc

from gzmqsource import green
from gzmqsource.green._poll_set import PollSet
from gzmqsource.testing import all_blocked, wait_until

MANY = 40


@pytest.fixture
def pair():
    context = green.Context()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    address = unique_inproc()
    pull.bind(address)
    push.connect(address)
    yield pull, push
    for socket in (pull, push):
        socket.close(0)
    if not context.closed:
        context.term()


def poll_by_socket(pull):
    return pull.poll


def poll_by_function(pull):
    return lambda: green.zmq_poll([(pull, zmq.POLLIN)])


def poll_by_one_poller(pull):
    poller = green.Poller()
    poller.register(pull, zmq.POLLIN)
    return poller.poll


ways = pytest.mark.parametrize("way", [poll_by_socket, poll_by_function, poll_by_one_poller])


@pytest.fixture
def looks(monkeypatch):
    """A list that grows with each look of a poll set."""
    seen = []
    look = PollSet.look

    def counted(self):
        seen.append(self)
        return look(self)

    monkeypatch.setattr(PollSet, "look", counted)
    return seen


@ways
def test_a_message_that_one_greenlet_takes_wakes_few(pair, looks, way):
    pull, push = pair
    poll, taken = way(pull), list[bytes]()

    def all_taken(count):
        return len(taken) == count

    def take():
        while True:
            poll()
            with contextlib.suppress(zmq.Again):
                taken.append(pull.recv(zmq.NOBLOCK))

    greenlets = [gevent.spawn(take) for _ in range(MANY)]
    all_blocked()
    looks.clear()
    for number in range(10):
        push.send(b"%d" % number)
        wait_until(partial(all_taken, number + 1))
    all_blocked()
    assert len(looks) <= 60  # 4 for each message, and not one for each greenlet
    gevent.killall(greenlets)


@ways
def test_a_message_that_none_takes_wakes_all(pair, way):
    pull, push = pair
    greenlets = [gevent.spawn(way(pull)) for _ in range(MANY)]
    all_blocked()
    push.send(b"x")
    assert len(gevent.joinall(greenlets, timeout=5)) == MANY


@ways
@pytest.mark.parametrize("turns", range(4))
def test_a_poll_that_is_killed_as_it_is_woken_leaves_the_event_to_the_next(pair, way, turns):
    pull, push = pair
    poll = way(pull)
    greenlets = [gevent.spawn(poll) for _ in range(3)]
    all_blocked()
    push.send(b"x")
    pull._shared.readiness.recheck()
    hub = get_hub()

    def kill_after(more):
        if more:
            hub.loop.run_callback(kill_after, more - 1)
        else:
            greenlets[0].kill(block=False)

    kill_after(turns)
    assert len(gevent.joinall(greenlets, timeout=5)) == 3


@pytest.fixture
def full():
    """A socket that has no room, and its peer."""
    address = unique_inproc()
    context = green.Context()
    one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    one.sndhwm = other.rcvhwm = 1
    one.bind(address)
    other.connect(address)
    while one.poll(0, zmq.POLLOUT):
        one.send(b"x")
    yield one, other
    for socket in (one, other):
        socket.close(0)
    context.term()


def test_those_who_poll_for_something_else_do_not_stand_in_the_way(full):
    one, other = full
    for_room = [gevent.spawn(one.poll, None, zmq.POLLOUT) for _ in range(3)]
    all_blocked()
    for_message = gevent.spawn(one.poll, None, zmq.POLLIN)
    all_blocked()
    other.send(b"y")
    assert for_message.get(timeout=5) == zmq.POLLIN
    assert not any(each.dead for each in for_room)
    gevent.killall(for_room)


def test_a_poller_that_is_changed_does_not_stand_in_the_way(full):
    one, other = full
    poller = green.Poller()
    poller.register(one, zmq.POLLOUT)
    changed = gevent.spawn(poller.poll)
    all_blocked()
    poller.modify(one, zmq.POLLIN)
    for_room = gevent.spawn(one.poll, None, zmq.POLLOUT)
    all_blocked()
    while other.poll(0):
        other.recv()
    assert for_room.get(timeout=5) == zmq.POLLOUT
    assert not changed.dead
    changed.kill()


def test_a_poller_follows_a_socket_that_was_used_in_another_hub(pair):
    pull, push = pair
    poller = green.Poller()
    poller.register(pull, zmq.POLLIN)
    assert poller.poll(0) == []
    in_thread(lambda: pull.poll(0))
    polling = gevent.spawn(poller.poll)
    all_blocked()
    push.send(b"x")
    pull.get(zmq.EVENTS)  # which eats the edge
    assert polling.get(timeout=5) == [(pull, zmq.POLLIN)]


@ways
def test_a_socket_that_closes_is_an_error_for_all_who_poll(pair, way):
    pull, _ = pair
    greenlets = [gevent.spawn(way(pull)) for _ in range(MANY)]
    all_blocked()
    pull.close()
    gevent.joinall(greenlets, timeout=5)
    assert [getattr(each.exception, "errno", None) for each in greenlets] == [zmq.ENOTSOCK] * MANY


@ways
def test_a_context_that_ends_is_an_error_for_all_who_poll(pair, way):
    pull, push = pair
    greenlets = [gevent.spawn(way(pull)) for _ in range(MANY)]
    all_blocked()
    ending = gevent.spawn(pull.context.term)
    gevent.joinall(greenlets, timeout=5)
    assert {getattr(each.exception, "errno", None) for each in greenlets} == {zmq.ETERM}
    for socket in (pull, push):
        socket.close(0)
    ending.get(timeout=5)


def test_polls_of_one_socket_share_one_watcher(pair):
    pull, _ = pair
    polling = [gevent.spawn(pull.poll) for _ in range(MANY)]
    all_blocked()
    watchers = get_hub().loop.activecnt
    more = [gevent.spawn(pull.poll) for _ in range(MANY)]
    all_blocked()
    assert get_hub().loop.activecnt == watchers
    gevent.killall(polling + more)
