"""What waits at a responder is bounded; beyond that it refuses, and goes on to read."""

import contextvars
import itertools
from typing import Any

import gevent
import pytest
import zmq
from asking import Asker, Detail, Kind, key_of, responder_of
from gevent.event import Event
from gevent.pool import Pool
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import current_request

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


class Held:
    """A handler that waits until it is let go."""

    def __init__(self):
        self.begun = []
        self.go_on = Event()

    def __call__(self, payload):
        self.begun.append(payload[0])
        self.go_on.wait()
        return payload


SPAWNS = pytest.mark.parametrize("spawn", [2, Pool(2)], ids=["int", "pool"])


@SPAWNS
def test_beyond_the_bound_an_asker_is_refused_and_a_control_is_heard(context, spawn):
    held = Held()
    with (
        responder_of(context, held, spawn=spawn, max_waiting=3) as responder,
        Asker(context, responder) as asker,
    ):
        keys = [asker.ask(b"%d" % number) for number in range(5)]
        wait_until(lambda: responder.stats().waiting == 3)
        assert asker.wait_for(asker.ask(b"more"), Kind.REFUSED) == Detail.FULL
        before = asker.count(Kind.PONG)
        asker.say(Kind.PING, left=10_000)
        asker.until_heard(Kind.PONG, before + 1)
        held.go_on.set()
        assert [asker.wait_for(key) for key in keys] == [[b"%d" % n] for n in range(5)]
        assert held.begun == [b"%d" % number for number in range(5)]
        stats = responder.stats()
        assert (stats.requests, stats.replies, stats.full, stats.waiting) == (6, 5, 1, 0)


@SPAWNS
def test_the_bytes_that_wait_are_bounded(context, spawn):
    held = Held()
    with responder_of(context, held, spawn=spawn) as responder, Asker(context, responder) as asker:
        responder.max_waiting_bytes = 100_000
        for _ in range(2):
            asker.ask()
        wait_until(lambda: responder.stats().running == 2)
        keys = [asker.ask(bytes(60_000)) for _ in range(4)]
        assert [asker.wait_for(key, Kind.REFUSED) for key in keys[2:]] == [Detail.FULL] * 2
        assert responder.stats().waiting == 2
        held.go_on.set()
        for key in keys[:2]:
            assert asker.wait_for(key) == [bytes(60_000)]


@SPAWNS
def test_an_asker_is_told_that_the_hub_lives_while_plain_peers_hold_up_the_intake(context, spawn):
    held = Held()
    with (
        responder_of(context, held, spawn=spawn, max_waiting=0, dead_after=0.1) as responder,
        Asker(context, responder) as asker,
        Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        ) as plain,
    ):
        asker.say(Kind.PING, left=100)
        accepted = asker.ask(b"accepted")
        wait_until(lambda: responder.stats().running)
        for number in range(1000):
            plain.send([b"", b"%d" % number])
        wait_until(lambda: responder.stats().waiting)
        all_blocked()
        read = responder.source.stats().received
        assert read < 200
        # It is heard no more, and alive: what it says is not read.
        key = asker.ask()
        before = asker.count(Kind.PONG)
        asker.until_heard(Kind.PONG, before + 8)
        assert responder.source.stats().received == read
        held.go_on.set()
        assert sorted(int(plain.recv(timeout=10)[1]) for _ in range(1000)) == [*range(1000)]
        assert asker.wait_for(accepted) == [b"accepted"]
        wait_until(lambda: asker.of(key))
        assert asker.wait_for(asker.ask(b"y")) == [b"y"]
        assert responder.stats().cancelled == 0


def test_a_worker_that_was_killed_leaves_the_line_to_another(context):
    held = Held()
    victims: list[Any] = []

    def handler(payload):
        victims.append(gevent.getcurrent())
        return held(payload)

    with responder_of(context, handler, spawn=1) as responder, Asker(context, responder) as asker:
        keys = [asker.ask(b"%d" % number) for number in range(3)]
        wait_until(lambda: responder.stats().waiting == 2)
        victims[0].kill(block=False)
        assert asker.wait_for(keys[0], Kind.LOST) == Detail.KILLED
        held.go_on.set()
        assert [asker.wait_for(key) for key in keys[1:]] == [[b"1"], [b"2"]]
        assert asker.wait_for(asker.ask()) == [b"x"]
        assert held.begun == [b"0", b"1", b"2", b"x"]


def test_a_handler_that_does_not_wait_costs_no_greenlet(context, long_slices):
    greenlets = set()

    def handler(payload):
        greenlets.add(gevent.getcurrent())
        return payload

    with responder_of(context, handler) as responder, Asker(context, responder) as asker:
        for key in [asker.ask() for _ in range(500)]:
            asker.wait_for(key)
    assert len(greenlets) == 1


def test_no_more_handlers_run_than_there_are_places(context):
    running = itertools.count()
    now, most = 0, 0

    def handler(payload):
        nonlocal now, most
        now += 1
        most = max(most, now)
        gevent.sleep(0.001 * (next(running) % 3))
        now -= 1
        return payload

    for spawn in (1, 4, None, Pool(3)):
        now = most = 0
        with (
            responder_of(context, handler, spawn=spawn) as responder,
            Asker(context, responder) as asker,
        ):
            for key in [asker.ask() for _ in range(200)]:
                asker.wait_for(key)
        assert most == (spawn.size if isinstance(spawn, Pool) else spawn or 1)


@SPAWNS
def test_what_has_waited_begins_with_the_context_of_the_start(context, spawn):
    seen = []
    mine: contextvars.ContextVar[object] = contextvars.ContextVar("mine", default="not set")
    mine.set("start")
    go_on = Event()

    def handler(payload):
        seen.append(mine.get())
        mine.set(payload)
        go_on.wait()
        return payload

    with (
        responder_of(context, handler, spawn=spawn) as responder,
        Asker(context, responder) as asker,
    ):
        keys = [asker.ask() for _ in range(20)]
        wait_until(lambda: responder.stats().waiting == 18)
        go_on.set()
        for key in keys:
            asker.wait_for(key)
    assert seen == ["start"] * 20


@pytest.mark.parametrize("spawn", [1, 3, Pool(3), gevent.spawn, gevent.spawn_raw])
def test_a_handler_knows_its_request_and_begins_with_no_other(context, spawn):
    requests: list[Any] = []

    def handler(payload):
        requests.append(current_request())
        gevent.sleep(0)
        assert current_request() is requests[int(payload[0])]
        return payload

    with (
        responder_of(context, handler, spawn=spawn) as responder,
        Asker(context, responder, routing_id=b"somebody") as asker,
    ):
        keys = [asker.ask(b"%d" % number, left=20_000, attempt=2) for number in range(10)]
        for key in keys:
            asker.wait_for(key)
    assert [request.key for request in requests] == keys
    assert {(request.peer, request.attempt) for request in requests} == {("'somebody'", 2)}
    assert all(0 < request.left <= 20 for request in requests)
    assert current_request() is None


@pytest.mark.parametrize("spawn", [None, 1, Pool(3), gevent.spawn])
def test_the_handlers_of_a_source_that_a_handler_starts_work_on_no_request(context, spawn):
    seen: list[Any] = []
    source = Source.open(
        zmq.PULL,
        lambda _message: seen.append((current_request(), variable.get())),
        bind="tcp://127.0.0.1:*",
        context=context,
        spawn=spawn,
    )

    def handler(payload):
        variable.set("of the handler")
        source.start()
        return payload

    with (
        source,
        responder_of(context, handler) as responder,
        Asker(context, responder) as asker,
        Source.open(zmq.PUSH, connect=endpoint_of(source), context=context) as sender,
    ):
        asker.wait_for(asker.ask(left=20_000))
        sender.send(b"x")
        wait_until(lambda: seen)
    assert seen == [(None, "of the handler")]


def test_a_spawn_function_that_raises_loses_no_request(context):
    fails = itertools.cycle([True, True, False])
    errors = []

    def spawn(function, *arguments):
        if next(fails):
            raise RuntimeError("no greenlet to be had")
        return gevent.spawn(function, *arguments)

    with (
        responder_of(
            context,
            lambda payload: payload,
            spawn=spawn,
            on_error=lambda *each: errors.append(each),
        ) as responder,
        Asker(context, responder) as asker,
    ):
        for key in [asker.ask() for _ in range(10)]:
            assert asker.wait_for(key) == [b"x"]
    assert len(errors) == 20
    assert {(str(error), message[-1]) for error, message in errors} == {
        ("no greenlet to be had", b"x")
    }


def test_a_pool_that_is_full_of_other_work_is_waited_for(context):
    pool, other = Pool(2), Event()
    with (
        responder_of(context, lambda payload: payload, spawn=pool) as responder,
        Asker(context, responder) as asker,
    ):
        for _ in range(2):
            pool.spawn(other.wait)
        key = asker.ask(key=key_of(7))
        wait_until(lambda: responder.stats().waiting)
        all_blocked()
        assert responder.stats().running == 0
        other.set()
        assert asker.wait_for(key) == [b"x"]


def test_what_is_killed_before_it_begins_is_spawned_again(context):
    """As by the ``kill`` of a pool that others use, too."""
    victims = [True, True, False]

    class Killed(Pool):
        def spawn(self, *arguments: Any, **keywords: Any) -> Any:
            greenlet = super().spawn(*arguments, **keywords)
            if victims and victims.pop(0):
                greenlet.kill(block=False)
            return greenlet

    held = Held()
    held.go_on.set()
    with (
        responder_of(context, held, spawn=Killed(4)) as responder,
        Asker(context, responder) as asker,
    ):
        for key in [asker.ask(b"%d" % number) for number in range(4)]:
            asker.wait_for(key)
        assert sorted(held.begun) == [b"0", b"1", b"2", b"3"]
        assert responder.stats().waiting == 0
