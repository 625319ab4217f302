"""Hooks of a responder: called for each request, and harmless."""

import gevent
import pytest
from asking import Asker, Kind, responder_of
from gevent.event import Event

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


def test_they_are_called_in_order_and_what_one_raises_changes_nothing(context, caplog):
    calls = []

    class Broken(Hook):
        def before(self, request):
            calls.append("broken")
            raise RuntimeError("hook")

        after = error = before  # type: ignore[assignment]

    class Next(Hook):
        def before(self, request):
            calls.append("next")

    with (
        responder_of(context, handler, hooks=(Broken(), Next())) as responder,
        Asker(context, responder) as asker,
    ):
        assert asker.wait_for(asker.ask()) == [b"reply"]
        assert asker.wait_for(asker.ask(b"raise"), Kind.ERROR) == [b"ValueError", b"no"]
        assert responder.stats().errors == 1
    assert calls[:2] == ["broken", "next"]
    assert "a hook raised: Broken.before: RuntimeError('hook')" in caplog.text


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
