"""Handlers in greenlets of their own, of a pool or of a spawn function."""

import contextlib
import itertools
import time

import gevent
import pytest
import zmq
from gevent import GreenletExit
from gevent.event import Event
from gevent.hub import get_hub
from gevent.lock import Semaphore
from gevent.pool import Pool
from handlers import INPROC, Gate, fed
from helpers import closing
from striking import Struck

from gzmqsource import Source
from gzmqsource._socket.budget import Budget, yield_to_io
from gzmqsource.testing import all_blocked, wait_until


def work(seconds):
    """Take the CPU for so long, by the clock that the pace of handlers is measured with."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize(
    "spawn", [lambda: Pool(50), lambda: gevent.spawn], ids=["Pool", "gevent.spawn"]
)
def test_greenlets_that_compute_ask_the_budget(context, spawn):
    got = []

    class Bounded(Source):
        max_messages = 1000
        max_seconds = 0.005

    def handle(message):
        got.append(message)
        work(0.002)

    server = Bounded.open(zmq.PULL, handle, bind=INPROC, context=context, spawn=spawn())
    client = Source.open(zmq.PUSH, connect=INPROC, context=context)
    with closing(server, client):
        for number in range(50):
            client.send(b"%d" % number)
        server.start()
        wait_until(lambda: len(got) == 50)
        assert server.stats().budget_stops >= 10


def test_no_more_is_read_than_handlers_that_compute_fit_into_a_part(context):
    """Handlers of 2 ms: the first tells how many fit, and a batch is one from then on."""
    in_hand = []

    def handle(message):
        in_hand.append(server.stats().in_hand)
        work(0.002)

    with fed(context, handle, INPROC, spawn=gevent.spawn) as (server, client):
        for number in range(30):
            client.send(b"%d" % number)
        wait_until(lambda: len(in_hand) == 30)
    assert max(in_hand) <= 2


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_no_more_is_read_than_a_pool_has_free_slots(context, slots):
    gate = Gate()
    with fed(context, gate, INPROC, spawn=Pool(slots)) as (server, client):
        for number in range(100):
            client.send(b"%d" % number)
        wait_until(lambda: len(gate.begun) == slots)
        all_blocked()
        assert server.stats().received == slots
        gate.opened.set()
        wait_until(lambda: len(gate.done) == 100)
    assert gate.most == slots


def test_handlers_of_a_pool_share_the_hub_with_the_slow_ones_of_another(context):
    """Each of two pools has its half of the time, whatever one of its handlers takes."""
    used = {"slow": 0.0, "quick": 0.0}

    def flood(client):
        while True:
            client.send(b"x")

    def handler(name, seconds):
        def handle(message):
            began = time.thread_time()
            work(seconds)
            used[name] += time.thread_time() - began

        return handle

    with (
        fed(context, handler("slow", 0.005), "inproc://slow", spawn=Pool(20)) as (_, slow),
        fed(context, handler("quick", 0.001), "inproc://quick", spawn=Pool(20)) as (_, quick),
    ):
        flooding = [gevent.spawn(flood, client) for client in (slow, quick)]
        wait_until(lambda: all(used.values()))
        before = dict(used)
        wait_until(lambda: used["slow"] >= before["slow"] + 0.3)
        assert used["slow"] - before["slow"] <= 2 * (used["quick"] - before["quick"])
        gevent.killall(flooding)


def test_few_handlers_run_between_two_polls_however_many_pools_are_busy(context):
    handled, between = [], []

    def handle(message):
        handled.append(message)
        work(50e-6)

    with contextlib.ExitStack() as stack:
        for number in range(50):
            endpoint = f"inproc://{number}"
            _, client = stack.enter_context(fed(context, handle, endpoint, spawn=Pool(20)))
            for _ in range(100):
                client.send(b"x")
        while len(handled) < 50 * 100:
            before = len(handled)
            yield_to_io(get_hub())
            between.append(len(handled) - before)
    # At first each pool has a batch at once. Then a slice and a half is 30 handlers, and each of
    # the two that have begun in it is allowed to take twice its part.
    assert sorted(between[10:])[-5] <= 60, between


def at_once(run, message):
    run(message)


def unreturned(run, message):
    gevent.spawn(run, message)


@pytest.mark.parametrize("spawn", [at_once, unreturned])
def test_a_spawn_function_need_not_return_a_greenlet(context, spawn):
    got: list[list[bytes]] = []
    with fed(context, got.append, INPROC, spawn=spawn) as (server, client):
        for number in range(10):
            client.send(b"%d" % number)
        wait_until(lambda: len(got) == 10)
        assert server.stop(10) == []


def test_a_handler_that_is_killed_before_its_turn_is_begun_by_another_greenlet(context):
    pool = Pool(10)
    got: list[list[bytes]] = []

    def handle(message):
        got.append(message)
        if len(got) == 1:
            # The others have begun when this returns, and have to wait for their turn.
            work(0.01)
            gevent.get_hub().loop.run_callback(kill)

    def kill():
        for greenlet in [*pool]:
            greenlet.kill(block=False)

    class Long(Source):
        max_batch = 10

    with fed(context, handle, INPROC, opened=Long, spawn=pool) as (server, client):
        server._receiver._intake.batch = 10
        for number in range(10):
            client.send(b"%d" % number)
        wait_until(lambda: len(got) == 10)
    assert sorted(got) == [[b"%d" % number] for number in range(10)]


def test_a_reader_that_is_idle_takes_what_was_killed_before_its_turn(context, monkeypatch):
    take_in_turn = Budget.take_in_turn
    struck: list[Budget] = []
    got: list[list[bytes]] = []

    def strike(budget):
        if not struck:
            struck.append(budget)
            raise GreenletExit
        take_in_turn(budget)

    def later(run, message):
        return gevent.spawn_later(0.01, run, message)

    monkeypatch.setattr(Budget, "take_in_turn", strike)
    with fed(context, got.append, INPROC, spawn=later) as (_, client):
        client.send(b"x")
        wait_until(lambda: got == [[b"x"]])
    assert struck


def test_a_message_is_handled_once_although_an_exception_comes_after_its_spawn(context):
    """A signal handler may raise when the spawn function returns."""
    got: list[list[bytes]] = []
    errors: list[BaseException] = []
    numbers = itertools.count()

    def spawn(run, message):
        greenlet = gevent.spawn(run, message)
        if not next(numbers) % 3:
            raise Struck
        return greenlet

    def report(error, _message):
        errors.append(error)

    with fed(context, got.append, spawn=spawn, on_error=report) as (_, client):
        for number in range(20):
            client.send(b"%d" % number)
        wait_until(lambda: len(got) == 20)
        all_blocked()
    assert got == [[b"%d" % number] for number in range(20)]
    assert {type(error) for error in errors} == {Struck}


class Blocked(Pool):
    """A pool that is full when it is about to spawn, as one that is shared may be."""

    def __init__(self):
        super().__init__(2)
        self.room = Semaphore(0)
        self.waiting = Event()

    def spawn(self, *arguments, **keywords):
        self.waiting.set()
        self.room.acquire()
        return super().spawn(*arguments, **keywords)


def test_a_message_that_waits_for_a_shared_pool_is_counted_when_a_stop_kills(context):
    pool = Blocked()
    got: list[list[bytes]] = []
    with fed(context, got.append, INPROC, spawn=pool) as (server, client):
        client.send(b"x")
        pool.waiting.wait()
        assert server.stop(0.05) == []
        assert server.stats().dropped == {"killed": 1}
        pool.room.release()
        all_blocked()
        assert (got, server.stats().in_hand) == ([], 0)
        assert server.stats().dropped == {"killed": 1}


def test_the_reader_of_a_pool_that_is_killed_while_it_waits_loses_nothing(context):
    pool = Blocked()
    got: list[list[bytes]] = []
    with fed(context, got.append, INPROC, spawn=pool) as (server, client):
        client.send(b"x")
        client.send(b"y")
        pool.waiting.wait()
        (reader,) = server._receiver._crew._workers
        with gevent.Timeout(10):
            reader.kill()
        pool.room.release()
        pool.room.release()
        wait_until(lambda: got == [[b"x"], [b"y"]])


def test_a_handler_that_stops_its_source_waits_for_the_others(context):
    gate = Gate()
    stopped = []

    def handle(message):
        if message == [b"stop"]:
            stopped.append(server.stop(10))
        else:
            gate(message)

    with fed(context, handle, INPROC, spawn=Pool(3)) as (server, client):
        client.send(b"x")
        client.send(b"stop")
        wait_until(lambda: gate.begun)
        all_blocked()
        assert not server.closed
        gate.opened.set()
        wait_until(lambda: stopped == [[]])
        assert gate.done == [[b"x"]]
        assert server.stats().dropped == {}
