"""Errors: who is told, and what goes on."""

import contextlib
import io
import itertools
import time

import gevent
import pytest
import zmq
from helpers import closing, endpoint_of

from gzmqsource import SendError, Source
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

    server = Source.open(
        zmq.PULL, lambda _: 1 / 0, bind="inproc://a", context=context, on_error=fail
    )
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


# What a raising handler may raise


@pytest.fixture
def told(monkeypatch):
    """What the hub is asked to handle: context, error."""
    told = []
    monkeypatch.setattr(
        gevent.get_hub(),
        "handle_error",
        lambda context, _, value, __: told.append((context, value)),
    )
    return told


@contextlib.contextmanager
def fed(context, handle, kind=Source, **options):
    """A started source with a handler, and a source that sends to it."""
    server = kind.open(zmq.PULL, handle, bind="inproc://fed", context=context, **options)
    client = Source.open(zmq.PUSH, connect="inproc://fed", context=context)
    with closing(server, client):
        server.start()
        yield server, client


@spawns
def test_a_handler_that_ends_its_greenlet_is_silent_and_does_not_end_the_source(
    context, told, make_spawn
):
    handled = []

    def handle(message):
        handled.append(message)
        raise gevent.GreenletExit

    with fed(context, handle, spawn=make_spawn()) as (server, client):
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

    with fed(context, handle, spawn=make_spawn(), on_error=lambda *what: errors.append(what)) as (
        _,
        client,
    ):
        client.send(b"exit")
        with pytest.raises(kind, match="from the handler"):
            wait_until(lambda: False)
        client.send(b"next")
        wait_until(lambda: handled == [[b"exit"], [b"next"]])
    assert errors == []


def test_an_exit_in_on_error_reaches_the_main_greenlet(context):
    def on_error(*_):
        raise SystemExit("from on_error")

    with fed(context, lambda _: 1 / 0, on_error=on_error) as (server, client):
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

    with fed(context, handle, spawn=make_spawn(), on_error=lambda *what: errors.append(what)) as (
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

    with fed(context, handle, spawn=make_spawn(), on_error=lambda *what: errors.append(what)) as (
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
    with fed(context, lambda _: 1 / 0, spawn=make_spawn()) as (server, client):
        client.send(b"1")
        ((where, error),) = wait_until(lambda: told)
        assert where is server or "Source PULL" in repr(where)
    assert type(error) is ZeroDivisionError


def test_without_on_error_the_traceback_is_printed(context, monkeypatch):
    printed = io.StringIO()
    monkeypatch.setattr(gevent.get_hub(), "exception_stream", printed)
    with fed(context, lambda _: 1 / 0) as (_, client):
        client.send(b"1")
        wait_until(lambda: "ZeroDivisionError: division by zero" in printed.getvalue())
    assert "Traceback" in printed.getvalue()


def test_on_error_may_close_the_source(context):
    with fed(context, lambda _: 1 / 0, on_error=lambda *_: server.close()) as (server, client):
        for _ in range(3):
            client.send(b"1")
        wait_until(lambda: server.closed)
        all_blocked()
        assert server.stats().errors == 1


# Backing off


class Timed:
    """A handler that notes when it is called, and raises for a bad message."""

    def __init__(self):
        self.times = []

    def __call__(self, message):
        self.times.append(time.monotonic())
        if message == [b"bad"]:
            raise ValueError


class Slow(Source):
    min_delay = max_delay = 3600  # a test that begins such a pause does not end


def send_each(client, *texts):
    for text in texts:
        client.send(text)


def test_pauses_between_errors_in_a_row_double(context):
    class Doubling(Source):
        min_delay, max_delay = 0.02, 0.08

    handle = Timed()
    with fed(context, handle, Doubling, on_error=lambda *_: None) as (_, client):
        send_each(client, *[b"bad"] * 6)
        wait_until(lambda: len(handle.times) == 6)
    pauses = [after - before for before, after in itertools.pairwise(handle.times)]
    # libuv counts in milliseconds, from the beginning of its loop's turn.
    least = [0, 0.018, 0.038, 0.078, 0.078]
    assert all(pause >= low for low, pause in zip(least, pauses, strict=True))


def test_a_pause_after_an_error_is_never_longer_than_the_longest(context):
    class Bounded(Source):
        min_delay, max_delay = 0.001, 0.002

    handle = Timed()
    with fed(context, handle, Bounded, on_error=lambda *_: None) as (_, client):
        send_each(client, *[b"bad"] * 18)  # the last pause would be over a minute
        wait_until(lambda: len(handle.times) == 18)


def test_no_pause_follows_an_error_behind_a_success(context):
    handle = Timed()
    with fed(context, handle, Slow, on_error=lambda *_: None) as (_, client):
        send_each(client, *[b"bad", b"good"] * 5)
        wait_until(lambda: len(handle.times) == 10)


@pytest.mark.parametrize("spawn", [1, 3])
def test_errors_in_a_pool_back_off_too(context, spawn):
    class Steady(Source):
        min_delay = max_delay = 0.02

    handle, count = Timed(), 14 * spawn
    with fed(context, handle, Steady, spawn=spawn, on_error=lambda *_: None) as (_, client):
        send_each(client, *[b"bad"] * count)
        wait_until(lambda: len(handle.times) == count)
    # Between two pauses the pool is filled twice at most.
    assert handle.times[-1] - handle.times[0] >= 6 * 0.018


def test_a_message_long_after_the_errors_is_not_delayed(context):
    """The pause belongs to the error before it, and is over by then."""

    class Brief(Source):
        min_delay = max_delay = 0.01

    handle = Timed()
    with fed(context, handle, Brief, on_error=lambda *_: None) as (server, client):
        send_each(client, b"bad", b"bad")
        wait_until(lambda: len(handle.times) == 2)
        wait_until(lambda: time.monotonic() > handle.times[1] + 0.02)
        all_blocked()
        server.min_delay = server.max_delay = 3600
        client.send(b"good")
        wait_until(lambda: len(handle.times) == 3)
        assert server.stats().budget_stops == 0


@pytest.mark.parametrize("end", [Source.stop, Source.close])
def test_ending_does_not_wait_for_the_pause_after_errors(context, end):
    with fed(context, lambda _: 1 / 0, Slow, on_error=lambda *_: None) as (server, client):
        send_each(client, *[b"bad"] * 3)
        wait_until(lambda: server.stats().errors == 2)
        all_blocked()
        assert server.stats().errors == 2
        with gevent.Timeout(10):
            end(server)


def test_a_flood_of_errors_leaves_others_their_turn_and_loses_none(context):
    class Quick(Source):
        min_delay = max_delay = 0.001

    errors = []
    with fed(context, lambda _: 1 / 0, Quick, on_error=lambda *what: errors.append(what)) as (
        server,
        client,
    ):
        for number in range(200):
            client.send(b"%d" % number)
        wait_until(lambda: len(errors) == 200)
        assert server.started
    assert [message for _, message in errors] == [[b"%d" % number] for number in range(200)]


# Queued messages that libzmq refuses


@contextlib.contextmanager
def gone_with_messages_queued(context, **options):
    """A ROUTER whose peer has gone while messages for it were queued; how many were."""
    router = Source.open(
        zmq.ROUTER,
        bind="tcp://127.0.0.1:*",
        context=context,
        router_mandatory=1,
        sndhwm=1,
        sndbuf=4096,
        linger=0,
        **options,
    )
    peer = Source.open(
        zmq.DEALER,
        connect=endpoint_of(router),
        context=context,
        routing_id=b"peer",
        rcvhwm=1,
        rcvbuf=4096,
        linger=0,
    )
    with closing(router, peer):
        peer.send(b"hello")
        router.recv(timeout=5)
        number = 0
        # Ten times more than the buffers of both ends and of the kernel still have room for.
        while router.stats().outbox_depth < 100:
            router.send([b"peer", b"%d" % number, b"x" * 10_000])
            number += 1
        peer.close()
        yield router, number


def test_each_queued_message_that_is_refused_is_reported_with_its_frames(context):
    errors = []
    with gone_with_messages_queued(context, on_error=lambda *what: errors.append(what)) as (
        router,
        number,
    ):
        assert router.flush(10)
        stats = router.stats()
        assert stats.dropped == {"refused": len(errors)}
        assert stats.errors == len(errors)
        assert stats.sent + len(errors) == number
    assert {(type(error), error.errno) for error, _ in errors} == {(SendError, zmq.EHOSTUNREACH)}
    assert all(error.message == message for error, message in errors)
    # The last of what was sent, in order, none left out.
    assert [message[:2] for _, message in errors] == [
        [b"peer", b"%d" % index] for index in range(number - len(errors), number)
    ]


def test_a_raising_on_error_does_not_stop_the_flushing(context, told):
    def on_error(error, message):
        raise LookupError(message)

    with gone_with_messages_queued(context, on_error=on_error) as (router, _):
        assert router.flush(10)
        refused = router.stats().dropped["refused"]
        assert refused > 1
        assert [type(error) for _, error in told] == [LookupError] * refused
        with closing(
            Source.open(zmq.DEALER, connect=endpoint_of(router), context=context, routing_id=b"new")
        ) as (peer,):
            peer.send(b"hello")
            router.recv(timeout=5)
            router.send([b"new", b"works"])
            assert peer.recv(timeout=5) == [b"works"]


def test_without_on_error_the_hub_is_told_of_what_is_refused(context, told):
    with gone_with_messages_queued(context) as (router, _):
        assert router.flush(10)
        assert {type(error) for _, error in told} == {SendError}
        assert len(told) == router.stats().errors


def test_a_refused_message_leaves_the_source_and_its_counters_as_they_were(context):
    pull = Source.open(zmq.PULL, bind="inproc://a", context=context)
    with closing(pull):
        for send in (pull.send, pull.send_nowait, pull.sender().send):
            with pytest.raises(SendError) as raised:
                send([b"a", b"b"])
            assert raised.value.errno == zmq.ENOTSUP
            assert raised.value.message == [b"a", b"b"]
        stats = pull.stats()
        assert (stats.sent, stats.outbox_depth, stats.dropped, stats.errors) == (0, 0, {}, 0)


def failing_once(function):
    """A function that finds no memory at first."""
    calls = iter([True])

    def call(*arguments):
        if next(calls, False):
            raise MemoryError
        return function(*arguments)

    return call


def test_a_want_of_memory_ends_neither_the_intake_nor_the_flushing(context, monkeypatch):
    told, got = [], []
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
        outflow = sender._core.outflow
        monkeypatch.setattr(outflow, "_send_queued", failing_once(outflow._send_queued))
        monkeypatch.setattr(outflow, "pause", 0.001)
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
        sender._core.outflow._flusher.kill()  # before it has run, as a want of memory does
        all_blocked()
        sender.socket.connect("inproc://memory")
        sender.send(b"y", timeout=5)
        assert [receiver.recv(timeout=5) for _ in range(2)] == [[b"x"], [b"y"]]
