"""Greenlets of other hubs, which accept a place in the outbox before their message is in it."""

import contextlib
import functools
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.monkey import get_original
from gevent.queue import Full
from helpers import _sleep, closing, until_nothing_moves
from outboxes import blocked_pair, number_of, numbered, pull, pull_all

from gzmqsource import Source, SourceClosed
from gzmqsource._socket.writers import ManyWriters
from gzmqsource._source.outbox import Outbox
from gzmqsource.testing import all_blocked, fill, wait_until

_start_thread = get_original("_thread", "start_new_thread")
_allocate_lock = get_original("_thread", "allocate_lock")


class OtherHub:
    """A native thread with a hub, whose greenlets send, and which can be held up."""

    def __init__(self):
        self.outcomes = []
        self._over = self._destroys = False
        self._greenlets = []
        #: Whether the greenlets are killed in the hub's next step.
        self.kills = False
        self._work = []
        self._gate = _allocate_lock()
        self._is_at_gate = False
        self._ended = _allocate_lock()
        self._ended.acquire()
        _start_thread(self._run, ())

    def _run(self):
        while not self._over:
            for function in self._work[:]:
                self._work.remove(function)
                self._greenlets.append(gevent.spawn(function))
            gevent.sleep(0.001)
            self._is_at_gate = True
            with self._gate:
                self._is_at_gate = False
            if self.kills:
                gevent.killall(self._greenlets, block=False)
        try:
            if self._destroys:
                get_hub().destroy(destroy_loop=True)
        finally:
            self._ended.release()

    def _call(self, function):
        try:
            self.outcomes.append(function())
        except BaseException as error:
            self.outcomes.append(type(error))

    def spawn(self, function):
        self._work.append(functools.partial(self._call, function))

    @contextlib.contextmanager
    def held_up(self):
        """Hold up the hub: its greenlets do not run."""
        with self._gate:
            while not self._is_at_gate:
                _sleep(0.001)
            yield

    @contextlib.contextmanager
    def held_up_after(self, *functions):
        """Hold up the hub as soon as greenlets have begun: no timer of theirs fires before."""
        reached, gate = [], _allocate_lock()

        def stop():
            reached.append(True)
            with gate:
                pass

        with gate:
            calls = [functools.partial(self._call, function) for function in functions]
            self._work += [*calls, stop]
            wait_until(lambda: reached)
            yield

    def end(self, destroy):
        """End the thread, and leave its greenlets where they are."""
        self._destroys = destroy
        self._over = True
        self._ended.acquire()


def is_libuv():
    """Whether `Hub.destroy` never returns if a watcher is started, as gevent's does over libuv."""
    return "libuv" in type(get_hub().loop).__module__


@pytest.fixture
def other():
    hub = OtherHub()
    yield hub
    if not hub._over:
        hub.end(destroy=not is_libuv())


def putters_of(source):
    return [putter for lane in source._core.outbox.lanes.values() for putter in lane.waiting]


def wait_until_putters(source, count):
    wait_until(lambda: len(putters_of(source)) == count)


def sending(source, number, **options):
    """Return a function for a greenlet of another hub, which sends to a source of this one."""
    return functools.partial(source.sender().send, numbered(number), **options)


def wait_in(other, source, number, count):
    other.spawn(sending(source, number))
    wait_until_putters(source, count)


def test_greenlets_of_any_hub_and_native_threads_share_one_order(context, other):
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        source.send(numbered(0))
        sender = source.sender()
        for number in range(1, 13):
            send = functools.partial(sender.send, numbered(number))
            if number % 3 == 0:
                gevent.spawn(source.send, numbered(number))
            elif number % 3 == 1:
                other.spawn(send)
            else:
                _start_thread(send, ())
            wait_until_putters(source, number)
        release()
        assert pull(receiver, 13) == list(range(13))
        wait_until(lambda: other.outcomes == [None] * 4)


def test_a_hub_that_does_not_answer_holds_up_nobody_for_long(context, other):
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        source.send(numbered(0))
        wait_in(other, source, 1, count=1)
        behind = gevent.spawn(source.send, numbered(2))
        all_blocked()
        with other.held_up():
            release()
            assert pull(receiver, 2) == [0, 2]
            behind.get(timeout=5)
            source.send(numbered(3))
            assert not source.flush(0.01)
        assert sorted(pull(receiver, 2)) == [1, 3]
        wait_until(lambda: other.outcomes == [None])
        assert source.flush(5)


@pytest.mark.parametrize("destroy", [False, True])
def test_a_hub_that_ended_leaves_nothing_behind(context, other, destroy):
    if destroy and is_libuv():
        pytest.skip("gevent does not destroy such a hub")
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        source.send(numbered(0))
        wait_in(other, source, 1, count=1)
        other.end(destroy)
        release()
        assert pull(receiver, 1) == [0]
        assert source.flush(5)
        assert not putters_of(source)
        assert pull_all(receiver, source) == []


def test_closing_refuses_a_greenlet_that_was_invited(context, other):
    with blocked_pair(context, outbox=1) as (source, _receiver, _release):
        source.send(numbered(0))
        wait_in(other, source, 1, count=1)
        with other.held_up():
            source.withdraw(numbered(0))
            assert not putters_of(source)[0].is_new
            assert source.stop(0) == []
        wait_until(lambda: other.outcomes == [SourceClosed])


def accepted_elsewhere(other, source):
    """Have a greenlet of the other hub accept, without a turn of this one."""
    source.send(numbered(0))
    wait_in(other, source, 1, count=1)
    source.withdraw(numbered(0))
    (putter,) = putters_of(source)
    while not source._core.outbox.arrivals:
        _sleep(0.001)
    assert putter.is_answered


def test_what_was_accepted_is_returned_if_the_source_stops_before_it_is_queued(context, other):
    with blocked_pair(context, outbox=1) as (source, _receiver, _release):
        accepted_elsewhere(other, source)
        assert [number_of(message) for message in source.stop(0)] == [1]


def test_what_was_accepted_is_counted_if_the_source_closes_before_it_is_queued(context, other):
    with blocked_pair(context, outbox=1) as (source, _receiver, _release):
        accepted_elsewhere(other, source)
        source.close()
        assert source.stats().dropped == {"unsent": 1}


def test_who_gives_up_passes_the_turn_on_to_a_native_thread(context, other, monkeypatch):
    monkeypatch.setattr(Outbox, "patience", 60)
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        source.send(numbered(0))
        sender = source.sender()
        wait_in(other, source, 1, count=1)
        killed = gevent.spawn(source.send, numbered(2))
        all_blocked()
        _start_thread(sender.send, (numbered(3),))
        wait_until_putters(source, 3)
        with other.held_up():
            release()
            assert pull(receiver, 1) == [0]
            all_blocked()
            other.kills = True
        while not source._core.outbox.arrivals:
            _sleep(0.001)
        killed.kill(block=False)
        assert pull(receiver, 1) == [3]
        wait_until(lambda: other.outcomes == [gevent.GreenletExit])


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_peer_gets_what_waited_for_room_while_another_is_full(context, other, where, monkeypatch):
    monkeypatch.setattr(Outbox, "patience", 60)
    monkeypatch.setattr(ManyWriters, "confirm_after", 60 if where == "here" else 0.001)
    options = {"context": context, "sndhwm": 1, "rcvhwm": 1, "linger": 0}
    router = Source.open(
        zmq.ROUTER, bind="inproc://router", router_mandatory=1, outbox=1, **options
    )
    full, free = (
        Source.open(zmq.DEALER, connect="inproc://router", routing_id=name, **options)
        for name in (b"full", b"free")
    )
    with closing(router, full, free):
        for name in (b"full", b"free"):
            fill(router, [name, b"x"])
        for name in (b"full", b"free"):
            router.send([name, b"queued"])
        sender = router.sender()
        if where == "here":
            gevent.spawn(router.send, [b"free", b"last"])
        else:
            other.spawn(lambda: sender.send([b"free", b"last"]))
        wait_until_putters(router, 1)
        with other.held_up():
            while free.recv(timeout=5) != [b"queued"]:
                pass
            until_nothing_moves(router)
        assert free.recv(timeout=5) == [b"last"]


@pytest.mark.parametrize("room", [True, False])
def test_an_invitation_counts_for_more_than_the_clock(context, other, room):
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        source.send(numbered(0))
        with other.held_up_after(sending(source, 1, timeout=0.3)):
            wait_until_putters(source, 1)
            if room:
                source.withdraw(numbered(0))
                # This hub runs no more, or it would lose its patience.
            _sleep(0.4)
        wait_until(lambda: other.outcomes)
        assert other.outcomes == [None if room else Full]
        release()
        assert pull_all(receiver, source) == [1 if room else 0]


def test_giving_up_makes_no_room_for_a_newcomer_before_the_others(context, other):
    with blocked_pair(context, outbox=1) as (source, receiver, release):
        source.send(numbered(0))
        with other.held_up_after(sending(source, 1, timeout=0.05), sending(source, 2)):
            wait_until_putters(source, 2)
        wait_until(lambda: other.outcomes == [Full])
        wait_until(lambda: len(putters_of(source)) == 1)
        release()
        assert pull(receiver, 2) == [0, 2]


def test_a_sender_whose_hub_was_destroyed_raises(context):
    made: list[Any] = []
    over = _allocate_lock()
    over.acquire()

    def make():
        source = Source.open(zmq.PUSH, context=context, outbox=1, linger=0)
        sender = source.sender()
        get_hub().destroy(destroy_loop=True)
        made.extend([source, sender])
        over.acquire()  # the end of the thread would close the source
        source._core.raw.close(0)

    _start_thread(make, ())
    wait_until(lambda: made)
    source, sender = made
    with pytest.raises(SourceClosed, match="destroyed"):
        sender.send(b"x")
    over.release()
    wait_until(lambda: source.closed)
