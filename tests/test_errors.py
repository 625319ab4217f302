"""Errors: who is told, and what goes on."""

import itertools
import time

import gevent
import pytest
import zmq
from helpers import all_blocked, closing, endpoint_of, wait_until

from gzmqsource import SendError, Source

SPAWNS = {
    "None": lambda: None,
    "int": lambda: 4,
    "gevent.spawn": lambda: gevent.spawn,
    "gevent.spawn_raw": lambda: gevent.spawn_raw,
}
spawns = pytest.mark.parametrize("make_spawn", SPAWNS.values(), ids=list(SPAWNS))


def test_a_raising_handler_is_reported_and_the_next_message_goes_on(context, endpoint):
    errors, handled = [], []

    def handle(message):
        if message == [b"bad"]:
            raise ValueError("bad message")
        handled.append(message)

    server = Source.open(
        zmq.PULL,
        handle,
        bind=endpoint,
        context=context,
        on_error=lambda error, message: errors.append((str(error), message)),
    )
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        for text in (b"1", b"bad", b"2"):
            client.send(text)
        wait_until(lambda: handled == [[b"1"], [b"2"]])
    assert errors == [("bad message", [b"bad"])]


@spawns
def test_without_on_error_the_hub_handles_it(context, endpoint, make_spawn, monkeypatch):
    told = []
    monkeypatch.setattr(
        gevent.get_hub(), "handle_error", lambda context, kind, value, tb: told.append(kind)
    )
    handled = []

    def handle(message):
        handled.append(message)
        raise KeyError(message[0])

    server = Source.open(zmq.PULL, handle, bind=endpoint, context=context, spawn=make_spawn())
    client = Source.open(zmq.PUSH, connect=endpoint_of(server), context=context)
    with closing(server, client):
        server.start()
        client.send(b"1")
        wait_until(lambda: told == [KeyError])
        assert server.started


def test_an_error_in_on_error_goes_to_the_hub(context, monkeypatch):
    told = []
    monkeypatch.setattr(
        gevent.get_hub(), "handle_error", lambda context, kind, value, tb: told.append(kind)
    )

    def fail(*_):
        raise LookupError("in on_error")

    server = Source.open(
        zmq.PULL, lambda _: 1 / 0, bind="inproc://a", context=context, on_error=fail
    )
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        server.start()
        client.send(b"1")
        wait_until(lambda: told == [LookupError])


def test_errors_in_a_row_back_off_and_a_success_ends_that(context):
    times = []

    class Server(Source):
        min_delay, max_delay = 0.02, 0.08

        def handle(self, message):
            times.append(time.monotonic())
            if message == [b"bad"]:
                raise ValueError

    server = Server.open(
        zmq.PULL, bind="inproc://a", context=context, on_error=lambda error, message: None
    )
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        for text in [b"bad"] * 6 + [b"good", b"bad", b"good"]:
            client.send(text)
        server.start()
        wait_until(lambda: len(times) == 9)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    # libuv counts in milliseconds, from the beginning of its loop's turn.
    least = [0, 0.018, 0.038, 0.078, 0.078, 0.078, 0, 0]
    most = [0.018, 1, 1, 1, 1, 1, 0.018, 0.018]
    for low, pause, high in zip(least, pauses, most, strict=True):
        assert low <= pause < high


def test_a_handler_that_exits_is_silent_and_the_source_goes_on(context, monkeypatch):
    told = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *what: told.append(what))
    handled = []

    def handle(message):
        handled.append(message)
        raise gevent.GreenletExit

    server = Source.open(zmq.PULL, handle, bind="inproc://a", context=context, spawn=2)
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        server.start()
        for _ in range(5):
            client.send(b"1")
        wait_until(lambda: len(handled) == 5)
        all_blocked()
    assert told == []


def test_a_message_that_libzmq_refuses_is_raised_at_the_call(context):
    router = Source.open(zmq.ROUTER, bind="inproc://a", context=context, router_mandatory=1)
    pull = Source.open(zmq.PULL, bind="inproc://b", context=context)
    request = Source.open(zmq.REQ, connect="inproc://c", context=context)
    with closing(router, pull, request):
        with pytest.raises(SendError) as raised:
            router.send([b"nobody", b"message"])
        assert raised.value.errno == zmq.EHOSTUNREACH
        assert raised.value.message == [b"nobody", b"message"]
        with pytest.raises(SendError) as raised:
            pull.send(b"message")
        assert raised.value.errno == zmq.ENOTSUP


def test_a_second_request_before_the_reply_is_refused(context):
    server = Source.open(zmq.REP, bind="inproc://a", context=context)
    client = Source.open(zmq.REQ, connect="inproc://a", context=context)
    with closing(server, client):
        client.send(b"first")
        with pytest.raises(SendError) as raised:
            client.send(b"second")
        assert raised.value.errno == zmq.EFSM
        assert server.recv(timeout=5) == [b"first"]
        server.send(b"reply")
        assert client.recv(timeout=5) == [b"reply"]
