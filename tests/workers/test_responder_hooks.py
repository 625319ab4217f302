"""Hooks of a responder: called for each request, and harmless."""

import contextlib
import functools
import time

import gevent
import pytest
import zmq
from asking import Asker, Flag, Kind, key_of, responder_of
from gevent.event import Event
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.testing import wait_until
from gzmqsource.workers import Hook, Request, RequestCancelled, current_request


class Noting(Hook):
    """Notes what it sees."""

    def __init__(self):
        self.seen = []

    def before(self, request: Request):
        assert current_request() is request
        vars(request)["note"] = len(self.seen)
        self.seen.append(("before", request.payload, request.peer))

    def after(self, request: Request, reply):
        assert current_request() is request
        assert vars(request)["note"] < len(self.seen)
        self.seen.append(("after", request.payload, reply))

    def error(self, request, error):
        self.seen.append(("error", request.payload, type(error)))


def handler(payload):
    if payload == [b"raise"]:
        raise ValueError("no")
    if payload == [b"kill"]:
        raise gevent.GreenletExit
    if payload == [b"wait"]:
        Event().wait()
    return [b"reply"]


@pytest.mark.parametrize("spawn", [1, gevent.spawn], ids=["int", "spawn"])
def test_each_request_is_seen_from_its_beginning_to_its_end(context, spawn):
    hook = Noting()
    with (
        responder_of(context, handler, spawn=spawn, hooks=[hook]) as responder,
        Asker(context, responder, routing_id=b"me") as asker,
    ):
        ends = [
            (b"x", Kind.REPLY, ("after", [b"x"], [b"reply"])),
            (b"raise", Kind.ERROR, ("error", [b"raise"], ValueError)),
            (b"kill", Kind.LOST, ("error", [b"kill"], gevent.GreenletExit)),
        ]
        for payload, kind, end in ends:
            asker.wait_for(asker.ask(payload), kind)
            assert hook.seen == [("before", [payload], "'me'"), end]
            hook.seen.clear()
        key = asker.ask(b"wait")
        wait_until(lambda: hook.seen)
        asker.say(Kind.CANCEL, key)
        wait_until(lambda: len(hook.seen) == 2)
        assert hook.seen[1] == ("error", [b"wait"], RequestCancelled)


@pytest.mark.parametrize("spawn", [1, None, gevent.spawn], ids=["int", "None", "spawn"])
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_handler_that_returns_too_late_has_its_end_seen_too(context, spawn, is_killed):
    """It swallows what says that no caller waits, or that the responder ends."""
    hook = Noting()

    def handle(payload):
        with contextlib.suppress(RequestCancelled, gevent.GreenletExit):
            Event().wait()
        return b"late"

    with (
        responder_of(context, handle, spawn=spawn, hooks=[hook]) as responder,
        Asker(context, responder, routing_id=b"me") as asker,
    ):
        key = asker.ask(b"x")
        wait_until(lambda: hook.seen)
        if is_killed:
            responder.stop(0)
        else:
            asker.say(Kind.CANCEL, key)
        wait_until(lambda: len(hook.seen) == 2)
        kind = gevent.GreenletExit if is_killed else RequestCancelled
        assert hook.seen[1] == ("error", [b"x"], kind)


class Odd(BaseException):
    pass


@pytest.mark.parametrize("kind", [RuntimeError, Odd, GeneratorExit, gevent.Timeout])
def test_they_are_called_in_order_and_what_one_raises_changes_nothing(context, caplog, kind):
    calls = []

    class Broken(Hook):
        def before(self, request):
            calls.append("broken")
            raise kind

        def after(self, request, reply):
            raise kind

        def error(self, request, error):
            raise kind

    class Next(Hook):
        def before(self, request):
            calls.append("next")

    with (
        responder_of(context, handler, hooks=(Broken(), Next())) as responder,
        Asker(context, responder) as asker,
    ):
        assert asker.wait_for(asker.ask()) == [b"reply"]
        assert asker.wait_for(asker.ask(b"raise"), Kind.ERROR) == [b"ValueError", b"no"]
        assert (responder.stats().errors, responder.stats().lost) == (1, 0)
    assert calls == ["broken", "next"] * 2
    assert f"a hook raised: Broken.before: {kind.__name__}" in caplog.text


def test_what_is_refused_is_not_seen(context):
    hook = Noting()
    with (
        responder_of(context, handler, spawn=1, max_waiting=0, hooks=[hook]) as responder,
        Asker(context, responder) as asker,
    ):
        asker.ask(b"wait")
        wait_until(lambda: responder.stats().running)
        asker.wait_for(asker.ask(), Kind.REFUSED)
        assert len(hook.seen) == 1


class Switching(Hook):
    """Waits in one of its methods until it is let go."""

    def __init__(self, where):
        self.is_there = False
        self.go_on = Event()
        setattr(self, where, self._wait)

    def _wait(self, *_):
        self.is_there = True
        self.go_on.wait()


@pytest.mark.parametrize("spawn", [1, gevent.spawn], ids=["int", "spawn"])
def test_one_cancelled_while_a_hook_switches_before_it_does_not_begin(context, spawn):
    hook, noting = Switching("before"), Noting()
    begun: list[object] = []
    with (
        responder_of(context, begun.append, spawn=spawn, hooks=[noting, hook]) as responder,
        Asker(context, responder) as asker,
    ):
        key = asker.ask()
        wait_until(lambda: hook.is_there)
        asker.say(Kind.CANCEL, key)
        wait_until(lambda: responder._handling.jobs[key].is_cancelled)
        assert responder.stats().running == 1
        hook.go_on.set()
        wait_until(lambda: responder.stats().cancelled == 1)
        assert not begun
        assert noting.seen[1:] == [("error", [b"x"], RequestCancelled)]
        assert responder.stats().running == 0


def test_a_key_that_comes_again_while_a_hook_switches_is_handled_once(context):
    hook, calls = Switching("after"), []

    def count(payload):
        calls.append(payload)
        return payload

    with (
        responder_of(context, count, hooks=[hook]) as responder,
        Asker(context, responder) as first,
        Asker(context, responder) as second,
    ):
        key = first.ask(key=key_of(), flags=Flag.KEEP)
        wait_until(lambda: hook.is_there)
        second.ask(key=key, flags=Flag.KEEP, attempt=1)
        wait_until(lambda: responder.stats().duplicates == 1)
        hook.go_on.set()
        assert second.wait_for(key) == [b"x"]
        assert len(calls) == 1
        assert not first.of(key)


@pytest.mark.parametrize("spawn", [1, gevent.spawn], ids=["int", "spawn"])
@pytest.mark.parametrize("payload", [b"raise", b"kill"])
def test_a_hook_that_is_killed_ends_its_request(context, spawn, payload):
    class Killed(Hook):
        def error(self, request, error):
            raise gevent.GreenletExit

    with (
        responder_of(context, handler, spawn=spawn, hooks=[Killed()]) as responder,
        Asker(context, responder) as asker,
    ):
        for lost in range(1, 4):
            asker.wait_for(asker.ask(payload), Kind.LOST)
            assert (responder.stats().lost, responder.stats().running) == (lost, 0)


def test_an_exception_whose_text_cannot_be_had_ends_its_request(context):
    class Mute(Exception):
        def __str__(self):
            raise ValueError("no")

    def fail(payload):
        raise Mute

    with responder_of(context, fail, spawn=1) as responder, Asker(context, responder) as asker:
        for errors in range(1, 4):
            error = asker.wait_for(asker.ask(), Kind.ERROR)
            assert error == [b"Mute", b"<no text: ValueError>"]
            assert (responder.stats().errors, responder.stats().running) == (errors, 0)


@pytest.mark.parametrize("where", ["before", "after", "error", "on_error"])
def test_a_stop_out_of_a_hook_does_not_wait_for_its_own_request(context, where):
    ended = []

    def stop(*_):
        began = time.monotonic()
        ended.append((responder.stop(20), time.monotonic() - began < 10))

    hook = Hook()
    if where != "on_error":
        setattr(hook, where, stop)
    on_error = stop if where == "on_error" else lambda *_: None
    with (
        responder_of(context, handler, hooks=[hook], on_error=on_error) as responder,
        Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        ) as peer,
    ):
        peer.send([b"", b"raise" if "error" in where else b"x"])
        wait_until(functools.partial(bool, ended))
        assert ended == [(1, True)]
        assert responder.stats().lost == 1
