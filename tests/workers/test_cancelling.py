"""Requests for whose replies nobody waits: dropped if they wait, told if they run."""

import contextlib
import contextvars
import functools
from typing import Any

import gevent
import pytest
from asking import Asker, Detail, Kind, key_of, responder_of
from gevent.event import Event
from gevent.hub import Waiter
from gevent.pool import Pool

from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import RequestCancelled, current_request, shield

SPAWNS = pytest.mark.parametrize(
    "spawn", [1, 2, Pool(2), gevent.spawn], ids=["1", "2", "pool", "spawn"]
)


class Sleeper:
    """A handler that waits, and notes how that ends."""

    def __init__(self):
        self.begun, self.ended = [], []
        self.go_on = Event()

    def __call__(self, payload):
        self.begun.append(payload[0])
        try:
            if payload != [b"quick"]:
                self.go_on.wait()
        except BaseException as error:
            self.ended.append((payload[0], type(error)))
            raise
        self.ended.append((payload[0], None))
        return payload


@SPAWNS
def test_a_handler_is_told_that_nobody_waits_and_nothing_is_sent(context, spawn):
    sleeper = Sleeper()
    with (
        responder_of(context, sleeper, spawn=spawn) as responder,
        Asker(context, responder) as asker,
    ):
        key = asker.ask(b"a")
        wait_until(lambda: sleeper.begun)
        asker.say(Kind.CANCEL, key)
        wait_until(lambda: sleeper.ended == [(b"a", RequestCancelled)])
        assert asker.wait_for(asker.ask(b"quick")) == [b"quick"]
        assert not asker.of(key)
        stats = responder.stats()
        assert (stats.cancelled, stats.replies, stats.errors, stats.lost) == (1, 1, 0, 0)
        assert not responder.source.stats().errors


@pytest.mark.parametrize("spawn", [1, Pool(1)], ids=["int", "pool"])
def test_one_that_waits_is_dropped_and_does_not_begin(context, spawn):
    sleeper = Sleeper()
    with (
        responder_of(context, sleeper, spawn=spawn) as responder,
        Asker(context, responder) as asker,
    ):
        keys = [asker.ask(b"%d" % number) for number in range(3)]
        wait_until(lambda: responder.stats().waiting == 2)
        asker.say(Kind.CANCEL, keys[1])
        wait_until(lambda: responder.stats().cancelled == 1)
        assert responder.stats().waiting == 1
        sleeper.go_on.set()
        assert asker.wait_for(keys[2]) == [b"2"]
        assert sleeper.begun == [b"0", b"2"]
        assert not asker.of(keys[1])


def has_come(asker, key, responder, requests):
    return asker.of(key) or responder.stats().requests == requests


def test_a_worker_that_is_on_to_the_next_request_is_not_struck(context):
    """The reply and the cancellation of a request cross each other."""
    told = []

    def handler(payload):
        try:
            gevent.sleep(0.001 if payload[0].startswith(b"short") else 0.005)
        except RequestCancelled:
            told.append(payload[0])
            raise
        return payload

    with responder_of(context, handler, spawn=1) as responder, Asker(context, responder) as asker:
        keys = []
        for number in range(50):
            short = asker.ask(b"short%d" % number)
            keys.append(asker.ask(b"long"))
            wait_until(functools.partial(has_come, asker, short, responder, 2 * number + 2))
            asker.say(Kind.CANCEL, short)
        for key in keys:
            assert asker.wait_for(key) == [b"long"]
        assert b"long" not in told
        stats = responder.stats()
        assert stats.replies + stats.cancelled == 100
        assert stats.replies >= 50


def test_a_cancellation_that_comes_as_the_handler_returns_strikes_nobody(context):
    """The handler returns, the worker begins the next request, and only then the strike comes."""
    go_on: Waiter[None] = Waiter()
    held = Event()
    struck = []

    def handler(payload):
        try:
            if payload == [b"first"]:
                go_on.get()
            else:
                held.wait()
        except BaseException:
            struck.append(payload[0])
            raise
        return payload

    with responder_of(context, handler, spawn=1) as responder, Asker(context, responder) as asker:
        first, second = asker.ask(b"first"), asker.ask(b"second")
        wait_until(lambda: responder.stats().waiting)
        gevent.get_hub().loop.run_callback(go_on.switch, None)
        responder._handling.cancel(responder._handling.jobs[first])
        wait_until(lambda: not responder.stats().waiting)
        all_blocked()
        held.set()
        assert asker.wait_for(second) == [b"second"]
        assert struck == []
        assert not asker.of(first)


def test_key_0_cancels_all_of_one_asker_and_of_no_other(context):
    sleeper = Sleeper()
    with (
        responder_of(context, sleeper, spawn=4) as responder,
        Asker(context, responder) as asker,
        Asker(context, responder) as other,
    ):
        mine = [asker.ask(b"mine") for _ in range(5)]
        wait_until(lambda: responder.stats().requests == 5)
        theirs = [other.ask(b"theirs") for _ in range(5)]
        wait_until(lambda: responder.stats().waiting == 6)
        asker.say(Kind.CANCEL)
        wait_until(lambda: responder.stats().cancelled == 5)
        wait_until(lambda: len(sleeper.ended) == 4)
        wait_until(lambda: responder.stats().running == 4)
        sleeper.go_on.set()
        for key in theirs:
            assert other.wait_for(key) == [b"theirs"]
        assert not any(asker.of(key) for key in mine)


def test_who_catches_it_and_returns_has_no_reply_sent(context):
    def stubborn(payload):
        with contextlib.suppress(RequestCancelled):
            Event().wait()
        return b"all the same"

    def broken(payload):
        try:
            Event().wait()
        finally:
            raise ValueError("while cleaning up")

    for handler, errors in ((stubborn, 0), (broken, 1)):
        with responder_of(context, handler) as responder, Asker(context, responder) as asker:
            key = asker.ask()
            wait_until(lambda: responder.stats().running)
            asker.say(Kind.CANCEL, key)
            wait_until(lambda: responder.stats().cancelled)
            assert responder.stats().running == 0
            asker.say(Kind.PING, left=1000)
            asker.until_heard(Kind.PONG, 2)
            assert not asker.of(key)
            assert responder.source.stats().errors == errors


def test_a_shield_holds_it_back_to_its_end(context):
    steps = []
    inside, go_on = Event(), Event()

    def handler(payload):
        try:
            with shield():
                with shield():
                    inside.set()
                    go_on.wait()
                steps.append("inner block")
                gevent.sleep(0.001)
                steps.append("block")
            steps.append("after")
        except RequestCancelled:
            steps.append("cancelled")
            with shield():  # it is told once
                gevent.sleep(0.001)
            steps.append("cleaned up")
            raise

    with responder_of(context, handler) as responder, Asker(context, responder) as asker:
        key = asker.ask()
        inside.wait()
        asker.say(Kind.CANCEL, key)
        wait_until(lambda: responder._handling.jobs[key].is_cancelled)
        all_blocked()
        go_on.set()
        wait_until(lambda: responder.stats().cancelled)
    assert steps == ["inner block", "block", "cancelled", "cleaned up"]


def test_a_shield_whose_block_raises_lets_that_go_on_and_is_told_later(context):
    steps = []
    inside, go_on = Event(), Event()

    def handler(payload):
        try:
            with shield():
                inside.set()
                go_on.wait()
                raise ValueError
        except ValueError:
            steps.append("ValueError")
        try:
            Event().wait()
        except RequestCancelled:
            steps.append("cancelled")
            raise

    with responder_of(context, handler) as responder, Asker(context, responder) as asker:
        key = asker.ask()
        inside.wait()
        asker.say(Kind.CANCEL, key)
        wait_until(lambda: responder._handling.jobs[key].is_cancelled)
        go_on.set()
        wait_until(lambda: responder.stats().cancelled)
    assert steps == ["ValueError", "cancelled"]


def test_a_greenlet_of_a_handler_has_its_request_only_with_its_context(context):
    found: list[object] = []

    def handler(payload):
        in_context = contextvars.copy_context().run
        greenlets: list[Any] = [
            gevent.spawn(current_request),
            gevent.spawn(in_context, current_request),
        ]
        gevent.joinall(greenlets)
        found.extend([current_request(), *(each.value for each in greenlets)])
        return payload

    with responder_of(context, handler) as responder, Asker(context, responder) as asker:
        assert asker.wait_for(asker.ask()) == [b"x"]
    own, plain, with_context = found
    assert own is not None
    assert plain is None
    assert with_context is own


def test_a_shield_does_nothing_elsewhere():
    with shield():
        assert current_request() is None


def test_a_kill_is_no_cancellation_and_is_told_as_a_loss(context):
    greenlets: list[Any] = []

    def handler(payload):
        greenlets.append(gevent.getcurrent())
        Event().wait()

    for spawn in (1, Pool(1), gevent.spawn):
        with (
            responder_of(context, handler, spawn=spawn) as responder,
            Asker(context, responder) as asker,
        ):
            key = asker.ask(key=key_of(3), attempt=4)
            wait_until(lambda: responder.stats().running)
            greenlets.pop().kill(block=False)
            assert asker.wait_for(key, Kind.LOST) == Detail.KILLED
            assert asker.of(key)[0][0].attempt == 4
            stats = responder.stats()
            assert (stats.lost, stats.cancelled, stats.running) == (1, 0, 0)
