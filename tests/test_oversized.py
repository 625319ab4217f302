"""Messages with more frames or bytes than a source allows: read, discarded and counted."""

import gevent
import pytest
import zmq
from gevent.queue import Empty
from helpers import closing, endpoint_of

from gzmqsource import Source, green
from gzmqsource.testing import wait_until
from gzmqsource.transfer.pure import MOST_DISCARDED


class Strict(Source):
    max_frames = 4
    max_message_bytes = 100


@pytest.fixture
def sender(context):
    """A plain socket that takes everything, which a source then reads."""
    socket = context.socket(zmq.PUSH)
    socket.linger = 0
    socket.sndhwm = 0
    socket.bind("tcp://127.0.0.1:*")
    yield socket
    socket.close()


def strict(sender, handle=None, cls=Strict, **options):
    address = sender.LAST_ENDPOINT.decode()
    return cls.open(zmq.PULL, handle, connect=address, context=sender.context, **options)


ALLOWED = [[b""] * 4, [b"x" * 100], [b"x" * 50, b"y" * 50], [b"x"] * 3, [b"x", b"y"]]
TOO_LARGE = [[b""] * 5, [b"x" * 101], [b"x" * 50, b"y" * 51], [b"x" * 101, b""], [b""] * 5000]


def frames_of(message):
    return [bytes(frame) for frame in message]


@pytest.mark.parametrize("copy", [True, False])
def test_what_is_too_large_is_discarded_and_what_follows_is_whole(sender, copy):
    with closing(strict(sender, copy=copy)) as (source,):
        for large, allowed in zip(TOO_LARGE, ALLOWED, strict=True):
            sender.send_multipart(large)
            sender.send_multipart(allowed)
        assert [frames_of(source.recv(timeout=10)) for _ in ALLOWED] == ALLOWED
        stats = source.stats()
        assert (stats.received, stats.dropped) == (5, {"oversized": 5})
        with pytest.raises(Empty):
            source.recv(timeout=0.01)


@pytest.mark.parametrize("spawn", [None, 2])
def test_a_handler_gets_what_is_allowed(sender, spawn):
    got: list[list[bytes]] = []
    with closing(strict(sender, got.append, spawn=spawn)) as (source,):
        source.start()
        for large, allowed in zip(TOO_LARGE, ALLOWED, strict=True):
            sender.send_multipart(large)
            sender.send_multipart(allowed)
        wait_until(lambda: len(got) == 5)
        assert sorted(got) == sorted(ALLOWED)
        sender.send_multipart(TOO_LARGE[0])
        wait_until(lambda: source.stats().dropped == {"oversized": 6})


def test_many_are_logged_once(sender, caplog):
    with closing(strict(sender)) as (source,):
        for _ in range(100):
            sender.send_multipart(TOO_LARGE[0])
        sender.send(b"end")
        assert source.recv(timeout=10) == [b"end"]
        assert source.stats().dropped == {"oversized": 100}
    assert caplog.text.count("a message was too large, and discarded: max_frames and max_me") == 1
    assert "<Strict PULL tcp:" in caplog.text


def test_a_call_that_must_not_wait_finds_nothing_behind_what_is_too_large(sender):
    with closing(strict(sender)) as (source,):
        sender.send(b"begin")
        assert source.recv(timeout=10) == [b"begin"]
        sender.send_multipart(TOO_LARGE[0])
        sender.send(b"end")

        def try_at_once():
            try:
                return source.recv(block=False)
            except Empty:
                return None

        assert wait_until(try_at_once) == [b"end"]


def test_a_long_one_is_discarded_in_turns(sender):
    """No call reads more frames than it may: it would hold up the hub."""
    with closing(strict(sender)) as (source,):
        transfer = source._core.socket.transfer
        sender.send_multipart([b""] * (3 * MOST_DISCARDED))
        got: list[list[bytes]] = []
        wait_until(lambda: not transfer.receive(got, 1, 1 << 20))
        calls = 1
        while transfer.discarding:
            transfer.receive(got, 1, 1 << 20)
            calls += 1
        assert (calls, got, transfer.oversized) == (3, [], 1)
        sender.send(b"end")
        assert source.recv(timeout=10) == [b"end"]


def test_a_kill_amid_the_discarding_loses_nothing(sender):
    with closing(strict(sender)) as (source,):
        transfer = source._core.socket.transfer
        sender.send_multipart([b""] * (3 * MOST_DISCARDED))
        sender.send(b"end")
        receiving = gevent.spawn(source.recv)
        wait_until(lambda: transfer.discarding)
        receiving.kill()
        assert source.recv(timeout=10) == [b"end"]


def test_a_batch_has_no_more_frames_than_a_message_may(sender):
    class Framed(Source):
        max_frames = 100

    with closing(strict(sender, cls=Framed)) as (source,):
        for _ in range(20):
            sender.send_multipart([b""] * 30)
        sender.send(b"end")
        gevent.sleep(0)
        got: list[list[bytes]] = []
        while got[-1:] != [[b"end"]]:
            batch = source.recv_many(1000, timeout=10)
            assert sum(map(len, batch)) <= 100 + 30
            got += batch
        assert len(got) == 21


def test_the_drop_in_has_no_such_bound(sender):
    socket: zmq.Socket[bytes] = green.Context.shadow(sender.context.underlying).socket(zmq.PULL)
    socket.connect(sender.LAST_ENDPOINT.decode())
    sender.send_multipart([b""] * (Source.max_frames + 1))
    assert len(socket.recv_multipart()) == Source.max_frames + 1
    socket.close(0)


def limited(name, value) -> type[Source]:
    return type("Limited", (Source,), {name: value})


@pytest.mark.parametrize("name", ["max_frames", "max_message_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_a_bound_is_a_positive_int_or_none(context, name, value):
    with pytest.raises(ValueError, match=name):
        limited(name, value).open(zmq.PULL, context=context)
    unbounded = limited(name, None)
    with closing(unbounded.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)) as (source,):
        assert endpoint_of(source)
