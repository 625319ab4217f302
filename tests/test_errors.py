"""Errors: who is told, and what goes on."""

import logging

import gevent
import pytest
import zmq
from handlers import INPROC, fed
from helpers import closing, endpoint_of

from gzmqsource import Source
from gzmqsource._source.flusher import Flusher
from gzmqsource.testing import all_blocked, wait_until

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

    def divide(_message):
        _ = 1 / 0

    server = Source.open(zmq.PULL, divide, bind="inproc://a", context=context, on_error=fail)
    client = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(server, client):
        server.start()
        client.send(b"1")
        wait_until(lambda: told == [LookupError])


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


@spawns
def test_a_handler_that_ends_its_greenlet_is_silent_and_does_not_end_the_source(
    context, told, make_spawn
):
    handled = []

    def handle(message):
        handled.append(message)
        raise gevent.GreenletExit

    with fed(context, handle, INPROC, spawn=make_spawn()) as (server, client):
        for _ in range(5):
            client.send(b"1")
            all_blocked()
        assert len(handled) == 5
        assert server.stats().errors == 0
    assert told == []


@spawns
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_handler_reaches_the_main_greenlet_and_the_source_goes_on(
    context, make_spawn, kind
):
    handled, errors = [], []

    def handle(message):
        handled.append(message)
        if message == [b"exit"]:
            raise kind("from the handler")

    with fed(
        context, handle, INPROC, spawn=make_spawn(), on_error=lambda *what: errors.append(what)
    ) as (
        _,
        client,
    ):
        client.send(b"exit")
        with pytest.raises(kind, match="from the handler"):
            wait_until(lambda: False)
        client.send(b"next")
        wait_until(lambda: handled == [[b"exit"], [b"next"]])
    assert errors == []


class Odd(BaseException):
    pass


@spawns
def test_an_exception_of_any_class_is_passed_to_on_error(context, told, make_spawn):
    errors: list[BaseException] = []
    raised = [Odd(), GeneratorExit(), gevent.Timeout()]
    left = iter(raised)

    def handle(_message):
        raise next(left)

    with fed(
        context, handle, INPROC, spawn=make_spawn(), on_error=lambda error, _: errors.append(error)
    ) as (server, client):
        for _ in raised:
            client.send(b"1")
        wait_until(lambda: errors == raised)
        assert server.stats().errors == len(raised)
    assert told == []


@spawns
def test_a_system_error_goes_to_the_hub_although_there_is_an_on_error(context, make_spawn):
    errors = []

    def handle(_message):
        raise SystemError("of Python itself")

    with fed(
        context, handle, INPROC, spawn=make_spawn(), on_error=lambda *what: errors.append(what)
    ) as (_, client):
        client.send(b"1")
        with pytest.raises(SystemError, match="of Python itself"):
            wait_until(lambda: False)
    assert errors == []


def test_an_exit_in_on_error_reaches_the_main_greenlet(context):
    def on_error(*_):
        raise SystemExit("from on_error")

    with fed(context, lambda _: 1 / 0, INPROC, on_error=on_error) as (server, client):
        client.send(b"1")
        with pytest.raises(SystemExit, match="from on_error"):
            wait_until(lambda: False)
        assert server.started


@spawns
def test_a_timeout_that_a_handler_does_not_catch_is_its_error(context, told, make_spawn):
    errors = []

    def handle(_message):
        with gevent.Timeout(0.001):
            gevent.sleep(5)

    with fed(
        context, handle, INPROC, spawn=make_spawn(), on_error=lambda *what: errors.append(what)
    ) as (
        _,
        client,
    ):
        client.send(b"1")
        wait_until(lambda: errors or told)
    assert told == []
    assert [(type(error), message) for error, message in errors] == [(gevent.Timeout, [b"1"])]


@spawns
def test_on_error_gets_the_error_with_its_traceback_and_its_message(context, make_spawn):
    errors = []

    def handle(message):
        raise ValueError(*message)

    with fed(
        context, handle, INPROC, spawn=make_spawn(), on_error=lambda *what: errors.append(what)
    ) as (
        server,
        client,
    ):
        client.send([b"a", b"b"])
        ((error, message),) = wait_until(lambda: errors)
        assert server.stats().errors == 1
    assert error.args == (b"a", b"b")
    assert message == [b"a", b"b"]
    entry = error.__traceback__
    while entry.tb_next:
        entry = entry.tb_next
    assert entry.tb_frame.f_code is handle.__code__


@spawns
def test_the_hub_is_told_which_source_it_was(context, told, make_spawn):
    with fed(context, lambda _: 1 / 0, INPROC, spawn=make_spawn()) as (server, client):
        client.send(b"1")
        ((where, error),) = wait_until(lambda: told)
        assert where is server or "Source PULL" in repr(where)
    assert type(error) is ZeroDivisionError


def test_without_on_error_it_is_logged_with_its_traceback(context, caplog):
    with fed(context, lambda _: 1 / 0, INPROC) as (_, client):
        client.send(b"1")
        wait_until(lambda: "ZeroDivisionError: division by zero" in caplog.text)
    ((name, level, text),) = caplog.record_tuples
    assert (name, level) == ("gzmqsource.source", logging.ERROR)
    assert text.startswith("<Source PULL inproc://fed started>: ZeroDivisionError")
    assert "Traceback" in text
    assert "in <lambda>" in text


def test_on_error_may_close_the_source(context):
    def close(*_):
        server.close()

    with fed(context, lambda _: 1 / 0, INPROC, on_error=close) as (server, client):
        for _ in range(3):
            client.send(b"1")
        wait_until(lambda: server.closed)
        all_blocked()
        assert server.stats().errors == 1


def failing_once(function):
    """A function that finds no memory at first."""
    calls = iter([True])

    def call(*arguments):
        if next(calls, False):
            raise MemoryError
        return function(*arguments)

    return call


def test_a_want_of_memory_ends_neither_the_intake_nor_the_flushing(context, monkeypatch):
    told = []
    got: list[list[bytes]] = []
    receiver = Source.open(
        zmq.PULL,
        got.append,
        bind="inproc://memory",
        context=context,
        on_error=lambda error, message: told.append((error, message)),
    )
    sender = Source.open(zmq.PUSH, context=context, linger=0, on_error=receiver.report)
    with closing(receiver, sender):
        monkeypatch.setattr(receiver._core, "receive", failing_once(receiver._core.receive))
        monkeypatch.setattr(Flusher, "attempt", failing_once(Flusher.attempt))
        monkeypatch.setattr(Flusher, "pause", 0.001)
        receiver.start()
        sender.send(b"x")
        sender.socket.connect("inproc://memory")
        wait_until(lambda: got == [[b"x"]])
    assert [(type(error), message) for error, message in told] == [(MemoryError, None)] * 2


def test_a_flusher_that_could_not_begin_has_a_successor(context):
    receiver = Source.open(zmq.PULL, bind="inproc://memory", context=context)
    sender = Source.open(zmq.PUSH, context=context, linger=0, outbox=1)
    with closing(receiver, sender):
        sender.send(b"x")
        flusher = sender._core.flusher
        assert flusher is not None
        flusher.kill()  # before it has run, as a want of memory does
        all_blocked()
        sender.socket.connect("inproc://memory")
        sender.send(b"y", timeout=5)
        assert [receiver.recv(timeout=5) for _ in range(2)] == [[b"x"], [b"y"]]
