"""Handlers that end in the moment in which a stop kills them: handled, or counted, never both."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from asking import Asker, Kind, responder_of
from gevent import GreenletExit
from gevent.event import Event
from gevent.hub import get_hub
from gevent.lock import Semaphore
from gevent.pool import Pool
from handlers import INPROC, fed

from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Hook, _server

AGES = 1000.0

#: Whether the handlers are let go right before the deadline, and end before the kill that was asked
#: for; or right after it.
MOMENTS = pytest.mark.parametrize("before", [True, False], ids=["before", "after"])

SPAWNS: Any = pytest.mark.parametrize(
    "spawn",
    [lambda: 5, lambda: Pool(5), lambda: gevent.spawn, lambda: gevent.spawn_raw],
    ids=["5", "Pool(5)", "gevent.spawn", "gevent.spawn_raw"],
)


class Ending:
    """A handler that waits until it is let go, and notes how that ends."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.handled: list[Any] = []
        self.killed: list[Any] = []
        self.go_on = Event()
        #: The source, and for each kill whether it was closed by then.
        self.source: Any = None
        self.was_closed: list[bool] = []

    def __call__(self, message: Any) -> Any:
        self.begun.append(message)
        try:
            self.go_on.wait()
        except GreenletExit:
            self.killed.append(message)
            self.was_closed.append(self.source.closed)
            raise
        self.handled.append(message)
        return message


def stop_at(before: bool, let_go: Callable[[], object], stop: Any, **options: Any) -> Any:
    """Call both in one turn of a loop that is late, *let_go* before the deadline or after it."""
    timer = get_hub().loop.timer(0.01 if before else 0.1)
    timer.start(let_go)
    stopping = gevent.spawn(stop, 0.05, **options)
    gevent.sleep(0)
    time.sleep(0.2)
    result = stopping.get()
    timer.close()
    return result


@SPAWNS
@MOMENTS
def test_only_a_handler_that_the_kill_has_reached_counts_as_killed(context, spawn, before):
    handle = Ending()
    with fed(context, handle, INPROC, spawn=spawn()) as (server, client):
        handle.source = server
        for number in range(5):
            client.send(b"%d" % number)
        wait_until(lambda: len(handle.begun) == 5)
        stop_at(before, handle.go_on.set, server.stop, drain=False)
        counted = server.stats().dropped.get("killed", 0)
        all_blocked()
        assert counted == server.stats().dropped.get("killed", 0) == len(handle.killed)
        assert len(handle.handled) + counted == 5
        assert not any(handle.was_closed)


class Narrow(Pool):
    """A pool that waits for room when it is about to spawn, as one that is shared may."""

    def __init__(self) -> None:
        super().__init__(2)
        self.room = Semaphore(0)
        self.is_waiting = Event()

    def spawn(self, *arguments: Any, **keywords: Any) -> Any:
        self.is_waiting.set()
        self.room.acquire()
        return super().spawn(*arguments, **keywords)


@MOMENTS
def test_a_handler_that_is_spawned_as_a_stop_kills_is_counted(context, before):
    pool, handle = Narrow(), Ending()
    with fed(context, handle, INPROC, spawn=pool) as (server, client):
        handle.source = server
        client.send(b"x")
        pool.is_waiting.wait()
        stop_at(before, pool.room.release, server.stop, drain=False)
        assert server.stats().dropped == {"killed": 1}
        all_blocked()
        assert server.stats().dropped == {"killed": 1}
        assert handle.begun == handle.killed
        assert not any(handle.was_closed)


@pytest.mark.parametrize("spawn", [1, gevent.spawn], ids=["1", "gevent.spawn"])
def test_a_handler_that_resists_two_stops_is_counted_once(context, spawn):
    kills, go_on = [], Event()

    def resist(_message):
        while not go_on.is_set():
            with contextlib.suppress(GreenletExit):
                go_on.wait()
                return
            kills.append(True)

    with fed(context, resist, INPROC, spawn=spawn) as (server, client):
        client.send(b"x")
        wait_until(lambda: server.stats().received)
        all_blocked()
        stops = [gevent.spawn(server.stop, seconds) for seconds in (0.05, 0.5)]
        gevent.joinall(stops, raise_error=True)
        assert len(kills) == 2
        assert server.stats().dropped == {"killed": 1}
        go_on.set()


@SPAWNS
@MOMENTS
def test_only_a_request_whose_handler_was_killed_is_lost(context, spawn, before):
    handler = Ending()
    with responder_of(context, handler, spawn=spawn()) as responder:
        handler.source = responder.source
        asker = Asker(context, responder)
        for _ in range(5):
            asker.ask()
        wait_until(lambda: len(handler.begun) == 5)
        unfinished = stop_at(before, handler.go_on.set, responder.stop)
        stats = responder.stats()
        all_blocked()
        assert stats.lost == len(handler.killed)
        assert stats.replies + stats.undelivered == len(handler.handled)
        assert (unfinished, stats.running) == (stats.lost + stats.undelivered, 0)
        assert responder.stats() == stats
        assert not any(handler.was_closed)
        asker.close()


def test_a_reply_goes_out_in_the_time_that_is_left_after_the_kills(context, monkeypatch):
    monkeypatch.setattr(_server, "_LAST_PART", 0.9)
    monkeypatch.setattr(_server, "_LAST_SECONDS", AGES)
    go_on = Event()
    hook = Hook()
    monkeypatch.setattr(hook, "after", lambda *_: go_on.wait())

    def handler(payload):
        if payload == [b"stuck"]:
            try:
                gevent.sleep(AGES)
            finally:
                go_on.set()
        return payload

    with (
        responder_of(context, handler, hooks=[hook]) as responder,
        Asker(context, responder) as asker,
    ):
        stuck = asker.ask(b"stuck")
        keys = [asker.ask(b"quick") for _ in range(5)]
        wait_until(lambda: responder.stats().running == 6)
        all_blocked()
        assert responder.stop(5) == 1
        stats = responder.stats()
        assert (stats.replies, stats.lost, stats.undelivered) == (5, 1, 0)
        asker.wait_for(stuck, Kind.LOST)
        assert [asker.wait_for(key) for key in keys] == [[b"quick"]] * 5


def test_a_reply_that_is_not_there_in_time_is_undelivered(context, monkeypatch):
    hook, go_on = Hook(), Event()
    monkeypatch.setattr(hook, "after", lambda *_: go_on.wait())
    with (
        responder_of(context, lambda payload: payload, hooks=[hook]) as responder,
        Asker(context, responder) as asker,
    ):
        key = asker.ask()
        wait_until(lambda: responder.stats().running)
        all_blocked()
        assert responder.stop(0.5) == 1
        assert asker.wait_for(key, Kind.LOST) == 0
        go_on.set()
        all_blocked()
        stats = responder.stats()
        assert (stats.undelivered, stats.lost, stats.replies, stats.running) == (1, 0, 0, 0)
