"""Requests from threads that do not own the requester."""

import logging
from typing import Any

import gevent
import pytest
from gevent.hub import get_hub
from gevent.monkey import get_original
from helpers import _sleep, endpoint_of, in_thread
from requesting import echo, ignore, requester_of, server_of
from scripted import Scripted

from gzmqsource import SourceClosed
from gzmqsource._base import hubs
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Requester, RequestTimeout, _elsewhere
from gzmqsource.workers._header import Kind

start_thread = get_original("_thread", "start_new_thread")
allocate_lock = get_original("_thread", "allocate_lock")


def test_a_hub_that_never_runs_is_named_in_the_error_and_in_the_log(context, caplog, monkeypatch):
    monkeypatch.setattr(_elsewhere, "PATIENCE", 0.1)
    made: list[Requester] = []
    ends = allocate_lock()
    ends.acquire()

    def own(endpoint):
        made.append(Requester.open(endpoint, context=context, linger=0))
        ends.acquire()  # as a thread of gunicorn's gthread does, until its next request
        made[0].close()
        gevent.get_hub().destroy(destroy_loop=True)
        made.clear()

    with server_of(context, echo) as server:
        start_thread(own, (endpoint_of(server),))
        wait_until(lambda: made)
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(RequestTimeout, match="has made it did not run, so the request was not"),
        ):
            made[0].request(b"x", timeout=0.3)
        assert "a request waits for a hub that does not run" in caplog.text
        ends.release()
        wait_until(lambda: not made)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_requester_whose_thread_has_ended_is_closed(context):
    with server_of(context, ignore) as server:
        endpoint = endpoint_of(server)
        requester = in_thread(lambda: Requester.open(endpoint, context=context, linger=0))
        wait_until(lambda: requester.closed)
        with pytest.raises(SourceClosed):
            requester.request(b"x", timeout=5)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_request_fails_when_the_thread_of_its_requester_ends(context):
    made: list[Requester] = []

    def own(endpoint, received):
        made.append(Requester.open(endpoint, context=context, linger=0))
        wait_until(received)

    with server_of(context, ignore) as server:
        start_thread(own, (endpoint_of(server), lambda: server.stats().received))
        wait_until(lambda: made)
        asking = gevent.spawn(in_thread, made[0].request, b"x")
        assert isinstance(asking.get(timeout=10), SourceClosed)


def test_a_greenlet_of_another_hub_that_is_killed_cancels(context):
    with Scripted(context) as server, requester_of(server.endpoint, context) as requester:
        left = []

        def ask():
            asking = gevent.spawn(requester.request, b"x")
            while len(server.asks) < 2:
                gevent.sleep(0.001)
            asking.kill()
            left.append(asking.dead)
            get_hub().destroy(destroy_loop=True)

        speaks = requester.submit(b"first")
        wait_until(lambda: requester.endpoints()[0].speaks)
        start_thread(ask, ())
        wait_until(lambda: left)
        wait_until(lambda: server.keys(Kind.CANCEL))
        assert server.keys(Kind.CANCEL) == [server.asks[1].header.key]
        wait_until(lambda: requester.stats().cancelled == 1)
        assert not speaks.ready()


def test_a_reply_that_a_late_hub_has_yet_to_read_counts(context):
    with (
        Scripted(context, Scripted.reply) as server,
        requester_of(server.endpoint, context) as requester,
    ):
        replies: list[object] = []

        def ask():
            try:
                replies.append(requester.request(b"x", timeout=1))
            except RequestTimeout as error:
                replies.append(error)

        requester.request(b"first")
        start_thread(ask, ())
        wait_until(lambda: len(server.asks) == 2)
        _sleep(1.2)
        wait_until(lambda: replies)
        assert replies == [[b"x"]]


@pytest.mark.parametrize(("end", "count"), [("timeout", "timeouts"), ("kill", "cancelled")])
def test_a_request_that_is_over_before_the_hub_runs_is_counted(context, end, count):
    asked: list[Any] = []
    ends: list[Any] = []

    def ask():
        greenlet = gevent.spawn(requester.request, b"x", 0.05 if end == "timeout" else 30)
        gevent.sleep(0)  # it has begun
        if end == "kill":
            greenlet.kill(block=False)
            gevent.sleep(0)
        asked.append(1)
        greenlet.join()
        ends.append(greenlet.exception or greenlet.value)
        gevent.get_hub().destroy(destroy_loop=True)

    with server_of(context, ignore) as server, requester_of(server, context) as requester:
        start_thread(ask, ())
        while not asked or (end == "timeout" and not ends):
            _sleep(0.01)  # this hub does not run
        wait_until(lambda: ends)
        wait_until(lambda: getattr(requester.stats(), count))
        stats = requester.stats()
        assert (stats.requests, stats.outstanding, getattr(stats, count)) == (1, 0, 1)
        assert server.stats().received == 0


@pytest.fixture
def scheduled(monkeypatch):
    """The calls into the hub of a requester."""
    calls = []

    def call_in_hub(*arguments):
        reaches = hubs.call_in_hub(*arguments)
        calls.append(arguments)
        return reaches

    monkeypatch.setattr(_elsewhere, "call_in_hub", call_in_hub)
    return calls


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("end", ["of the thread", "of the hub"])
def test_a_request_that_the_hub_never_takes_over_fails_with_its_end(context, scheduled, end):
    made: list[Requester] = []
    ends = allocate_lock()
    ends.acquire()

    def own():
        made.append(Requester.open("inproc://nobody", context=context, linger=0))
        ends.acquire()
        if end == "of the hub":
            made[0].close()
            gevent.get_hub().destroy(destroy_loop=True)

    start_thread(own, ())
    wait_until(lambda: made)
    asking = gevent.spawn(in_thread, made[0].request, b"x")
    wait_until(lambda: scheduled)
    ends.release()
    assert isinstance(asking.get(timeout=10), SourceClosed)
    stats = made[0].stats()
    assert (stats.requests, stats.failed) == (1, 1)


def test_a_request_that_reaches_the_hub_after_the_close_fails(context, scheduled):
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        asking = gevent.spawn(in_thread, requester.request, b"x")
        gevent.sleep(0)
        while not scheduled:
            _sleep(0.001)  # and this hub does not run
        requester.close()
        assert isinstance(asking.get(timeout=10), SourceClosed)
        all_blocked()  # the hub has seen it by now
    stats = requester.stats()
    assert (stats.requests, stats.outstanding, stats.failed) == (1, 0, 1)


def test_a_request_that_reaches_the_hub_during_a_stop_fails(context, scheduled):
    held = []

    def hold_the_first(server, message):
        if message[-1] == b"first":
            held.append(message)
        else:
            server.send(message)

    def reply_after(asking):
        asking.join()
        server.send(held[0])

    with server_of(context, hold_the_first) as server, requester_of(server, context) as requester:
        first = requester.submit(b"first")
        wait_until(lambda: held)
        asking = gevent.spawn(in_thread, requester.request, b"x")
        gevent.sleep(0)
        while not scheduled:
            _sleep(0.001)  # and this hub does not run
        gevent.spawn(reply_after, asking)
        assert requester.stop(timeout=10) == 0
        assert isinstance(asking.get(timeout=10), SourceClosed)
        assert first.get(timeout=10) == [b"first"]
