"""The same key again: one execution, and one reply, to whoever has asked last."""

import contextlib
import time

import gevent
import pytest
from asking import Asker, Flag, Kind, key_of, responder_of
from gevent.event import Event

from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder

KEEP = Flag.KEEP


class Counting:
    """A handler that counts its calls, and may wait."""

    def __init__(self, size=1):
        self.calls = 0
        self.go_on = Event()
        self.go_on.set()
        self.size = size

    def __call__(self, payload):
        self.calls += 1
        self.go_on.wait()
        if payload == [b"raise"]:
            raise ValueError("no")
        return bytes([self.calls % 256]) * self.size


@pytest.mark.parametrize("spawn", [1, 2])
@pytest.mark.parametrize("waits", [False, True])
def test_again_while_it_runs_or_waits_changes_only_where_the_reply_goes(context, spawn, waits):
    handler = Counting()
    handler.go_on.clear()
    with (
        responder_of(context, handler, spawn=spawn) as responder,
        Asker(context, responder) as first,
        Asker(context, responder) as second,
    ):
        if waits:
            for _ in range(spawn):
                first.ask()
            wait_until(lambda: responder.stats().running == spawn)
        key = first.ask(flags=KEEP)
        wait_until(lambda: responder.stats().requests == waits * spawn + 1)
        second.ask(key=key, flags=KEEP, attempt=1)
        wait_until(lambda: responder.stats().duplicates)
        # The first one has nothing here any more.
        first.say(Kind.CANCEL)
        wait_until(lambda: responder.stats().cancelled == waits * spawn)
        handler.go_on.set()
        second.wait_for(key)
        assert second.of(key)[0][0].attempt == 1
        assert not first.of(key)
        assert responder.stats().replies == 1


def test_an_attempt_that_comes_after_a_later_one_changes_nothing(context):
    go_on = Event()
    with (
        responder_of(context, lambda payload: go_on.wait() and payload) as responder,
        Asker(context, responder) as late,
        Asker(context, responder) as last,
    ):
        key = last.ask(flags=KEEP, attempt=1)
        wait_until(lambda: responder.stats().running)
        late.ask(key=key, flags=KEEP, attempt=0)
        wait_until(lambda: responder.stats().duplicates)
        go_on.set()
        assert last.wait_for(key) == [b"x"]
        assert late.of(key) == []


def test_again_after_it_has_the_reply_that_was_kept(context):
    handler = Counting()
    with (
        responder_of(context, handler) as responder,
        Asker(context, responder) as first,
        Asker(context, responder) as second,
    ):
        key = first.ask(flags=KEEP)
        assert first.wait_for(key) == [b"\1"]
        assert first.of(key)[0][0].flags == KEEP
        second.ask(key=key, flags=KEEP, attempt=3)
        assert second.wait_for(key) == [b"\1"]
        assert second.of(key)[0][0].attempt == 3
        assert len(first.of(key)) == 1
        failing = first.ask(b"raise", flags=KEEP)
        error = first.wait_for(failing, Kind.ERROR)
        second.ask(b"raise", key=failing, flags=KEEP)
        assert second.wait_for(failing, Kind.ERROR) == error == [b"ValueError", b"no"]
        assert handler.calls == 2
        stats = responder.stats()
        assert (stats.requests, stats.replies, stats.errors, stats.duplicates) == (2, 1, 1, 2)


def test_a_reply_that_is_kept_does_not_change_with_the_list_of_its_handler(context):
    frames = [b"1", b"2"]
    with (
        responder_of(context, lambda _: frames) as responder,
        Asker(context, responder) as first,
        Asker(context, responder) as second,
    ):
        key = first.ask(flags=KEEP)
        assert first.wait_for(key) == [b"1", b"2"]
        frames[0] = b"3"
        second.ask(key=key, flags=KEEP)
        assert second.wait_for(key) == [b"1", b"2"]


def test_a_reply_is_kept_only_for_a_request_that_says_so(context):
    handler = Counting()
    with responder_of(context, handler) as responder, Asker(context, responder) as asker:
        asker.wait_for(asker.ask(key=key_of(1)))
        asker.heard.clear()
        asker.ask(key=key_of(1))
        assert asker.wait_for(key_of(1)) == [b"\2"]


def test_a_reply_is_kept_for_so_many_seconds(context):
    handler = Counting()
    with (
        responder_of(context, handler, dedup=0.05) as responder,
        Asker(context, responder) as asker,
    ):
        asker.wait_for(asker.ask(key=key_of(1), flags=KEEP))
        gevent.sleep(0.06)
        asker.heard.clear()
        asker.ask(key=key_of(1), flags=KEEP)
        assert asker.wait_for(key_of(1)) == [b"\2"]


def test_replies_are_forgotten_also_if_no_further_one_is_kept(context):
    with (
        responder_of(context, Counting(), dead_after=0.2) as responder,
        Asker(context, responder) as asker,
    ):
        for number in range(3):
            asker.wait_for(asker.ask(key=key_of(number + 1), flags=KEEP))
        kept = responder._parts.kept
        assert len(kept.replies) == 3
        ticks = responder._pulse._number + 3  # it ticks as long as there are any
        wait_until(lambda: responder._pulse._number >= ticks)
        for key, reply in kept.replies.items():
            kept.replies[key] = reply._replace(until=time.monotonic())
        wait_until(lambda: not kept.replies)
        assert kept._bytes == 0


def test_what_was_lost_is_not_kept_and_runs_again(context):
    calls = []

    def handler(payload):
        calls.append(payload)
        if len(calls) == 1:
            raise gevent.GreenletExit
        return b"second"

    with responder_of(context, handler) as responder, Asker(context, responder) as asker:
        key = asker.ask(flags=KEEP)
        asker.wait_for(key, Kind.LOST)
        asker.heard.clear()
        asker.ask(key=key, flags=KEEP, attempt=1)
        assert asker.wait_for(key) == [b"second"]


def test_one_that_was_cancelled_and_still_runs_is_lost_to_who_asks_again(context):
    go_on = Event()
    begun = []

    def stubborn(payload):
        begun.append(payload)
        while not go_on.is_set():
            with contextlib.suppress(gevent.GreenletExit):
                go_on.wait()
        return b"too late"

    with responder_of(context, stubborn) as responder, Asker(context, responder) as asker:
        key = asker.ask(flags=KEEP)
        wait_until(lambda: begun)
        asker.say(Kind.CANCEL, key)
        asker.ask(key=key, flags=KEEP)
        asker.wait_for(key, Kind.LOST)
        go_on.set()
        wait_until(lambda: not responder.stats().running)
        assert len(begun) == len(asker.of(key)) == 1


@pytest.mark.parametrize("bound", ["number", "bytes"])
def test_what_is_kept_is_bounded(context, monkeypatch, bound):
    if bound == "number":
        monkeypatch.setattr(Responder, "max_kept", 10)
    else:
        monkeypatch.setattr(Responder, "max_kept_bytes", 10 * 11_000)
    handler = Counting(size=10_000)
    with responder_of(context, handler) as responder, Asker(context, responder) as asker:
        for number in range(1, 101):
            asker.wait_for(asker.ask(key=key_of(number), flags=KEEP))
            assert len(responder._handling._kept.replies) <= 10
        asker.heard.clear()
        for number in (91, 90):  # the oldest that is kept, and one that is not any more
            asker.ask(key=key_of(number), flags=KEEP)
            asker.wait_for(key_of(number))
        assert handler.calls == 101
        assert asker.of(key_of(91))[0][1] == [b"\x5b" * 10_000]


def test_a_reply_larger_than_all_that_is_kept_is_not(context, monkeypatch):
    monkeypatch.setattr(Responder, "max_kept_bytes", 5_000)
    handler = Counting(size=10_000)
    with responder_of(context, handler) as responder, Asker(context, responder) as asker:
        asker.wait_for(asker.ask(flags=KEEP))
        assert not responder._handling._kept.replies


def test_a_key_that_comes_again_after_its_time_takes_no_room_from_others(context, monkeypatch):
    monkeypatch.setattr(Responder, "max_kept_bytes", 30_000)
    handler = Counting(size=10_000)
    with (
        responder_of(context, handler, dedup=0.02) as responder,
        Asker(context, responder) as asker,
    ):
        for calls in range(1, 6):
            asker.heard.clear()
            asker.ask(key=key_of(1), flags=KEEP)
            asker.wait_for(key_of(1))
            assert handler.calls == calls
            kept = responder._handling._kept  # a tick may have forgotten it
            assert kept._bytes == sum(each.size for each in kept.replies.values())
            gevent.sleep(0.03)
