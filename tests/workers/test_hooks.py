"""Hooks of a requester, and requests that are made while another is handled."""

import contextvars
import threading
import time
from typing import Any

import gevent
import pytest
from gevent.event import Event
from requesting import requester_of
from scripted import Scripted, echo

from gzmqsource import SourceClosed
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Hook, PeerLost, RemoteError, RequestTimeout
from gzmqsource.workers._current import Request, current
from gzmqsource.workers._header import Kind


class Noting(Hook):
    """Notes what it is called with."""

    def __init__(self):
        self.calls = []

    def before(self, request):
        request.began = time.monotonic()
        self.calls.append(("before", request, request.payload))

    def after(self, request, reply):
        assert request.began
        self.calls.append(("after", request, reply))

    def error(self, request, error):
        self.calls.append(("error", request, type(error)))

    def names(self):
        return [name for name, *_ in self.calls]


class Odd(BaseException):
    pass


class Raising(Hook):
    def __init__(self, kind=ZeroDivisionError):
        self._kind = kind

    def before(self, request):
        raise self._kind

    def after(self, request, reply):
        raise self._kind

    def error(self, request, error):
        raise self._kind


def test_hooks_see_each_request_and_its_end(context):
    hook = Noting()
    with (
        Scripted(context, echo) as server,
        requester_of(server.endpoint, context, hooks=[Raising(), hook]) as requester,
    ):
        assert requester.request(b"x", timeout=5) == [b"x"]
        assert requester.submit(b"y").get(timeout=10) == [b"y"]
        assert gevent.get_hub().threadpool.apply(requester.request, (b"z",)) == [b"z"]
    assert hook.names() == ["before", "after"] * 3
    for number, payload in enumerate([b"x", b"y", b"z"]):
        (_, asked, sent), (_, answered, reply) = hook.calls[2 * number : 2 * number + 2]
        assert asked is answered
        assert sent == reply == [payload]
        assert (asked.key, asked.peer) == (server.asks[number].header.key, server.endpoint)
        assert (asked.left is not None) is (number == 0)


@pytest.mark.parametrize("kind", [Odd, GeneratorExit, gevent.Timeout])
def test_what_a_hook_raises_changes_nothing(context, caplog, kind):
    outcomes = iter([Kind.REPLY, Kind.ERROR])

    def answer(server, ask):
        server.reply(ask, [b"Oops", b"text"], next(outcomes))

    hooks = [Raising(kind), noting := Noting()]
    with (
        Scripted(context, answer) as server,
        requester_of(server.endpoint, context, hooks=hooks) as requester,
    ):
        assert requester.request(b"x", timeout=5) == [b"Oops", b"text"]
        with pytest.raises(RemoteError):
            requester.request(b"x", timeout=5)
    assert noting.names() == ["before", "after", "before", "error"]
    assert f"a hook raised: Raising.before: {kind.__name__}" in caplog.text


@pytest.mark.parametrize("kind", [gevent.GreenletExit, SystemExit, KeyboardInterrupt])
def test_a_hook_that_ends_its_greenlet_ends_the_request(context, kind):
    with (
        Scripted(context, echo) as server,
        requester_of(server.endpoint, context, hooks=[Raising(kind)]) as requester,
    ):
        with pytest.raises(kind):
            requester.request(b"x", timeout=5)
        assert requester.stats().outstanding == 0


@pytest.mark.parametrize("kind", [gevent.GreenletExit, SystemExit, KeyboardInterrupt])
def test_a_hook_that_ends_a_greenlet_leaves_a_submitted_request_its_result(
    context, monkeypatch, kind
):
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *_: None)
    hook = Raising(kind)
    vars(hook)["before"] = lambda _: None
    answers = iter([echo, lambda server, ask: None, echo])
    with (
        Scripted(context, lambda *ask: next(answers)(*ask)) as server,
        requester_of(server.endpoint, context, hooks=[hook]) as requester,
    ):
        assert requester.submit(b"x").get(timeout=10) == [b"x"]
        with pytest.raises(RequestTimeout):
            requester.submit(b"x", timeout=0.01).get(timeout=10)
        assert requester.submit(b"y").get(timeout=10) == [b"y"]


def test_a_hook_sees_the_end_of_a_request_once_if_it_kills_the_caller_that_waits(context):
    class Killing(Noting):
        def error(self, request, error):
            super().error(request, error)
            caller.kill(block=False)

    hook = Killing()
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context, max_outstanding=1, hooks=[hook]) as requester,
    ):
        requester.submit(b"first")
        caller = gevent.spawn(requester.submit, b"second", 0.01)
        caller.join(timeout=10)
        assert isinstance(caller.value, gevent.GreenletExit)
        assert hook.names() == ["before", "before", "error"]
        assert hook.calls[-1][2] is RequestTimeout


def test_a_kill_in_a_hook_that_waits_ends_the_caller(context):
    hook = Hook()
    vars(hook)["before"] = lambda _: Event().wait()
    with (
        Scripted(context, echo) as server,
        requester_of(server.endpoint, context, hooks=[hook]) as requester,
    ):
        caller = gevent.spawn(requester.request, b"x")
        all_blocked()
        caller.kill(timeout=10)
        assert isinstance(caller.value, gevent.GreenletExit)
    assert server.asks == []


def test_hooks_see_what_is_raised(context):
    hook = Noting()
    outcomes = iter([Kind.ERROR, Kind.LOST, None, None])

    def answer(server, ask):
        kind = next(outcomes)
        if kind is Kind.ERROR:
            server.reply(ask, [b"Oops", b"text"], kind)
        elif kind is Kind.LOST:
            server.end(ask, kind)

    with (
        Scripted(context, answer) as server,
        requester_of(server.endpoint, context, hooks=[hook]) as requester,
    ):
        for error, timeout in (RemoteError, 5), (PeerLost, 5), (RequestTimeout, 0.05):
            with pytest.raises(error):
                requester.request(b"x", timeout)
        killed = gevent.spawn(requester.request, b"x")
        wait_until(lambda: len(server.asks) == 4)
        killed.kill()
    assert hook.names() == ["before", "error"] * 4
    raised = [each for name, _, each in hook.calls if name == "error"]
    assert raised == [RemoteError, PeerLost, RequestTimeout, gevent.GreenletExit]


class Ending(Noting):
    """Ends the requester before the request is sent."""

    requester: Any

    def __init__(self, end):
        super().__init__()
        self._end = end

    def before(self, request):
        super().before(request)
        self._end(self.requester)


@pytest.mark.parametrize(
    "end",
    [
        lambda requester: requester.close(),
        lambda requester: requester.stop(10),
        lambda requester: gevent.spawn(requester.close).join(),
    ],
    ids=["close", "stop", "another greenlet"],
)
@pytest.mark.parametrize("make", ["request", "submit"])
def test_a_request_whose_hook_ends_the_requester_raises(context, make, end):
    with Scripted(context, echo) as server:
        hook = Ending(end)
        with requester_of(server.endpoint, context, hooks=[hook]) as hook.requester:
            made = gevent.spawn(getattr(hook.requester, make), b"x")
            with pytest.raises(SourceClosed, match="it was stopped"):
                made.get(timeout=10)
            assert set(hook.requester.stats()) == {0}
    assert hook.names() == ["before", "error"]
    assert server.asks == []


@pytest.mark.parametrize("make", ["request", "submit"])
def test_a_stop_that_waits_ends_although_a_request_is_with_its_hooks(context, make):
    go_on = Event()
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context) as requester,
    ):
        first = requester.submit(b"first")
        wait_until(lambda: server.asks)
        requester._hooks = (hook := Ending(lambda _: go_on.wait()),)
        hook.requester = requester
        made = gevent.spawn(getattr(requester, make), b"x")
        wait_until(hook.names)
        stopping = gevent.spawn(requester.stop, 60)
        all_blocked()
        go_on.set()
        with pytest.raises(SourceClosed, match="it was stopped"):
            made.get(timeout=10)
        server.reply(server.asks[0])
        assert first.get(timeout=10) == [b"first"]
        assert stopping.get(timeout=10) == 0
        assert (requester.stats().requests, requester.stats().outstanding) == (1, 0)
    assert len(server.asks) == 1


def test_a_request_of_a_thread_whose_hook_has_seen_the_end_raises(context):
    began, go_on = threading.Event(), threading.Event()

    def wait(_):
        began.set()
        go_on.wait(10)

    with Scripted(context, echo) as server:
        hook = Ending(wait)
        with requester_of(server.endpoint, context, hooks=[hook]) as hook.requester:
            made = gevent.get_hub().threadpool.spawn(hook.requester.request, b"x")
            wait_until(began.is_set)
            hook.requester.close()
            go_on.set()
            with pytest.raises(SourceClosed, match="it was stopped"):
                made.get(timeout=10)
    assert server.asks == []


def test_a_request_made_inside_has_the_time_that_is_left(context):
    with Scripted(context, echo) as server, requester_of(server.endpoint, context) as requester:

        def ask(deadline, timeout):
            current.set(Request(bytes(16), 0, [], "somebody", deadline))
            requester.request(b"x", timeout)

        for deadline, timeout in (1, None), (1, 60), (60, 1), (None, 1):
            at = None if deadline is None else time.monotonic() + deadline
            contextvars.copy_context().run(ask, at, timeout)
        assert all(0 < ask.header.left <= 1000 for ask in server.asks)
        assert len(server.asks) == 4
        for make in requester.request, requester.submit:
            with pytest.raises(RequestTimeout, match=r"the time of <Request .* is over"):
                contextvars.copy_context().run(_make_late, make)
        assert len(server.asks) == 4
        stats = requester.stats()
        assert (stats.requests, stats.timeouts) == (4, 0)


def _make_late(make):
    current.set(Request(bytes(16), 0, [], "somebody", time.monotonic() - 1))
    make(b"x")
