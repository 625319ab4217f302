"""Hooks of a requester, and requests that are made while another is handled."""

import contextvars
import time

import gevent
import pytest
from requesting import requester_of
from scripted import Scripted, echo

from gzmqsource.testing import wait_until
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


class Raising(Hook):
    def before(self, request):
        raise ZeroDivisionError

    after = error = before  # type: ignore[assignment]


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
