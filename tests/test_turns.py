"""What is done for many greenlets at once is done in turns, and they leave without a search."""

from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import Waiter, get_hub
from gevent.queue import Empty
from helpers import _sleep, closing, unique_inproc

from gzmqsource import Source, SourceClosed
from gzmqsource._base import turns
from gzmqsource._base.turns import in_turns
from gzmqsource._base.waiters import Waiters
from gzmqsource.testing import all_blocked, wait_until

MANY = 50


@pytest.fixture
def short(monkeypatch):
    """Each turn is over after its first step."""
    monkeypatch.setattr(turns, "TURN", 0)
    monkeypatch.setattr("gzmqsource._base.waiters.TURN", 0)


@pytest.fixture
def polls():
    """A function that returns how often the hub has polled since its first call."""
    reader, writer = gevent.socket.socketpair()
    writer.send(b"x")
    seen: list[None] = []
    watcher: Any = get_hub().loop.io(reader.fileno(), 1)

    def count():
        if not watcher.active:
            watcher.start(seen.append, None)
        return len(seen)

    yield count
    watcher.stop()
    watcher.close()
    reader.close()
    writer.close()


def spawned_in(queue, count, note, **options):
    def wait(number):
        note.append((number, queue.wait(get_hub(), **{"timeout": None, **options})))

    return [gevent.spawn(wait, number) for number in range(count)]


def waiting_in(queue, count, note):
    greenlets = spawned_in(queue, count, note)
    all_blocked()
    return greenlets


def polls_at_the_ends(greenlets, polls):
    """Return a list of how often the hub has polled at the end of each greenlet."""
    polled = []
    polls()
    for greenlet in greenlets:
        greenlet.link(lambda _: polled.append(polls()))
    return polled


def test_the_hub_polls_between_two_turns(short, polls):
    noted = []

    def steps():
        for _ in range(MANY):
            noted.append(polls())
            yield

    in_turns(get_hub(), steps())
    wait_until(lambda: len(noted) == MANY)
    assert len(set(noted)) == MANY


def test_all_work_of_a_hub_shares_its_turns(short, polls):
    noted = []

    def steps(name):
        for _ in range(3):
            noted.append((name, polls()))
            yield

    for name in "ab":
        in_turns(get_hub(), steps(name))
    wait_until(lambda: len(noted) == 6)
    assert [name for name, _ in noted] == list("ababab")
    assert len({polled for _, polled in noted}) == 6


def test_work_that_comes_during_a_step_is_done():
    done = []

    def steps(depth):
        yield
        if depth:
            in_turns(get_hub(), steps(depth - 1))
        done.append(depth)

    in_turns(get_hub(), steps(3))
    wait_until(lambda: done == [3, 2, 1, 0])


def test_work_is_done_after_one_that_has_raised(monkeypatch):
    hub = get_hub()
    monkeypatch.setattr(hub, "handle_error", lambda *_: None)
    done = []

    def wrong():
        yield
        raise ZeroDivisionError

    def right():
        for number in range(3):
            done.append(number)
            yield

    in_turns(hub, wrong())
    in_turns(hub, right())
    wait_until(lambda: done == [0, 1, 2])


def test_all_are_woken_in_their_order_and_in_turns(short, polls):
    queue, noted = Waiters(), list[Any]()
    greenlets = waiting_in(queue, MANY, noted)
    polled = polls_at_the_ends(greenlets, polls)
    queue.wake_all()
    wait_until(lambda: len(polled) == MANY)
    assert noted == [(number, True) for number in range(MANY)]
    assert len(set(polled)) == MANY


def test_one_that_waits_again_is_not_woken_again(short):
    queue, woken = Waiters(), []

    def wait(number):
        while True:
            queue.wait(get_hub(), None, first=True)
            woken.append(number)

    greenlets = [gevent.spawn(wait, number) for number in range(5)]
    all_blocked()
    queue.wake_all()
    wait_until(lambda: len(woken) >= 5)
    all_blocked()
    assert sorted(woken) == list(range(5))
    gevent.killall(greenlets)


def test_one_that_was_killed_between_two_turns_is_not_woken(short):
    queue, noted = Waiters(), list[Any]()
    greenlets = waiting_in(queue, 5, noted)
    greenlets[0].link(lambda _: greenlets[-1].kill(block=False))
    queue.wake_all()
    gevent.joinall(greenlets)
    assert noted == [(number, True) for number in range(4)]


@pytest.mark.parametrize("look", [None, lambda: None], ids=["at once", "after a look"])
def test_many_time_out_in_turns(short, polls, look):
    queue, noted = Waiters(), list[Any]()
    greenlets = spawned_in(queue, MANY, noted, timeout=0.2, look=look)
    polled = polls_at_the_ends(greenlets, polls)
    gevent.sleep(0)  # they wait
    _sleep(0.3)  # all are late at once
    wait_until(lambda: len(polled) == MANY)
    assert sorted(noted) == [(number, False) for number in range(MANY)]
    assert len(set(polled)) == MANY


def test_one_that_is_woken_between_two_turns_of_timeouts_has_not_timed_out(short):
    queue, noted = Waiters(), list[Any]()

    def wait(number):
        noted.append((number, queue.wait(get_hub(), 0.01, look=lambda: None)))
        if len(noted) == 3:
            get_hub().loop.run_callback(queue.wake, 7)

    for number in range(10):
        gevent.spawn(wait, number)
    wait_until(lambda: len(noted) == 10)
    assert noted == [(number, number > 2) for number in range(10)]
    wait_until(lambda: queue._late is None)


class CountedWaiter(Waiter):
    """A waiter that counts how often one is compared with another."""

    compared = 0

    def __hash__(self):
        return id(self)

    def __eq__(self, other):
        CountedWaiter.compared += 1
        return self is other


def test_a_waiter_leaves_without_a_search(monkeypatch):
    monkeypatch.setattr("gzmqsource._base.waiters.Waiter", CountedWaiter)
    queue = Waiters()
    greenlets = waiting_in(queue, 1000, [])
    CountedWaiter.compared = 0
    gevent.killall(greenlets[::-1])
    assert not queue
    assert CountedWaiter.compared < 10_000  # a search would take half a million


def test_a_source_that_closes_wakes_all_that_wait_in_turns(short, polls, context):
    ended = []
    with closing(Source.open(zmq.PULL, bind=unique_inproc(), context=context)) as (source,):

        def receive(number):
            with pytest.raises(SourceClosed):
                source.recv()
            ended.append((number, polls()))

        greenlets = [gevent.spawn(receive, number) for number in range(MANY)]
        all_blocked()
        source.close()
        gevent.joinall(greenlets, timeout=10, raise_error=True)
    assert [number for number, _ in ended] == list(range(MANY))
    assert len({polled for _, polled in ended}) == MANY


def test_what_comes_while_many_give_up_is_received(short, context):
    address = unique_inproc()
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
        peer = context.socket(zmq.PUSH)
        peer.connect(address)
        outcomes = []

        def receive():
            try:
                outcomes.append(source.recv(timeout=0.01))
            except Empty:
                outcomes.append(None)
                if len(outcomes) == 1:
                    peer.send(b"late")

        greenlets = [gevent.spawn(receive) for _ in range(MANY)]
        gevent.joinall(greenlets, timeout=10, raise_error=True)
        assert outcomes.count([b"late"]) == 1
        peer.close(0)
