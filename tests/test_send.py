"""What may be sent, when it goes out, and what is said about everything else."""

import contextlib
import time

import gevent
import greenlet
import pytest
import zmq
from gevent.queue import Empty, Full
from helpers import closing, endpoint_of, pair_of

from gzmqsource import SendError, Source
from gzmqsource.testing import all_blocked, wait_until


def frames_of(*frames):
    yield from frames


MESSAGES = {
    "bytes": (lambda: b"one", [b"one"]),
    "no bytes at all": (lambda: b"", [b""]),
    "bytearray": (lambda: bytearray(b"one"), [b"one"]),
    "memoryview": (lambda: memoryview(b"_one_")[1:4], [b"one"]),
    "strided memoryview": (lambda: memoryview(b"o_n_e_")[::2], [b"one"]),
    "Frame": (lambda: zmq.Frame(b"one"), [b"one"]),
    "list": (lambda: [b"one", b"", b"three"], [b"one", b"", b"three"]),
    "list of one": (lambda: [b"one"], [b"one"]),
    "tuple": (lambda: (b"one", b"two"), [b"one", b"two"]),
    "generator": (lambda: frames_of(b"one", b"two"), [b"one", b"two"]),
    "mixed": (
        lambda: [b"one", bytearray(b"two"), memoryview(b"three"), zmq.Frame(b"four")],
        [b"one", b"two", b"three", b"four"],
    ),
    "empty frames": (lambda: [b"", b""], [b"", b""]),
}

messages = pytest.mark.parametrize(("make", "frames"), MESSAGES.values(), ids=list(MESSAGES))


@pytest.fixture
def unconnected(context):
    """A source whose libzmq takes nothing yet: it has no peer."""
    with closing(Source.open(zmq.PUSH, context=context, linger=0)) as (source,):
        yield source


@contextlib.contextmanager
def connected(source, context):
    """Give a source a peer at last."""
    peer = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    with closing(peer):
        source.socket.connect(endpoint_of(peer))
        yield peer


@messages
def test_every_form_of_a_message_arrives_as_its_frames(context, endpoint, make, frames):
    with closing(*pair_of(context, endpoint)) as (receiver, sender):
        sender.send(make())
        assert receiver.recv(timeout=5) == frames


@messages
def test_every_form_of_a_message_can_be_queued(context, unconnected, make, frames):
    unconnected.send(make())
    assert unconnected.stats().outbox_depth == 1
    with connected(unconnected, context) as peer:
        assert peer.recv(timeout=5) == frames


@pytest.mark.parametrize("frames", [1, 3])
def test_100_megabytes_arrive(context, frames):
    big = bytes(range(250)) * 4 * 100_000
    message = [big[index::frames] for index in range(frames)]
    receiver, sender = pair_of(context, "tcp://127.0.0.1:*")
    with closing(receiver, sender):
        sender.send(message)
        assert receiver.recv(timeout=20) == message


def test_a_send_that_may_not_wait_takes_the_shortcut_past_the_allowance(context, monkeypatch):
    with closing(*pair_of(context, "inproc://past")) as (receiver, sender):
        sender.send(b"x")
        budget = sender._core.socket.budget
        budget.refill(0, 0.0)
        monkeypatch.setattr(sender._core, "send", None)
        for _ in range(3):
            sender.send(b"y", block=False)
        assert budget.left == 0
        assert receiver.recv_many(4) == [[b"x"], [b"y"], [b"y"], [b"y"]]


def test_a_message_of_10000_frames_arrives_whole(context, endpoint):
    message = [str(number).encode() for number in range(10_000)]
    with closing(*pair_of(context, endpoint, sndhwm=1)) as (receiver, sender):
        sender.send(message)
        sender.send([b"next"])
        assert receiver.recv(timeout=10) == message
        assert receiver.recv(timeout=5) == [b"next"]


def test_a_queued_bytearray_is_a_snapshot(context, unconnected):
    data = bytearray(b"before")
    unconnected.send(data)
    unconnected.send([b"head", data])
    unconnected.send(memoryview(data))
    data[:] = b"after!"
    with connected(unconnected, context) as peer:
        got = [peer.recv(timeout=5) for _ in range(3)]
    assert got == [[b"before"], [b"head", b"before"], [b"before"]]


def test_a_queued_list_is_a_snapshot(context, unconnected):
    frames = [b"one", b"two"]
    unconnected.send(frames)
    frames[1] = b"changed"
    frames.append(b"three")
    with connected(unconnected, context) as peer:
        assert peer.recv(timeout=5) == [b"one", b"two"]


WRONG = {
    "None": (None, TypeError, "bytes-like or a zmq.Frame, got NoneType: serialise it"),
    "str": ("text", TypeError, "got the str 'text': encode it"),
    "number": (7, TypeError, "got int: serialise it"),
    "float": (0.5, TypeError, "got float: serialise it"),
    "nothing": ([], ValueError, "at least one frame"),
    "empty tuple": ((), ValueError, "at least one frame"),
    "empty generator": (frames_of(), ValueError, "at least one frame"),
    "list of str": (["text"], TypeError, "got the str 'text': encode it"),
    "str after bytes": ([b"one", "text"], TypeError, "got the str 'text': encode it"),
    "nested": ([b"one", [b"two"]], TypeError, "got list: serialise it"),
    "None in a list": ([None], TypeError, "got NoneType: serialise it"),
    "numbers": (range(3), TypeError, "got int: serialise it"),
}


@pytest.mark.parametrize("is_queued", [False, True])
@pytest.mark.parametrize(("wrong", "error", "text"), WRONG.values(), ids=list(WRONG))
@pytest.mark.parametrize("through", ["source", "sender"])
def test_what_is_no_message_is_an_error_with_its_mend_and_the_source_goes_on(
    context, through, wrong, error, text, is_queued
):
    receiver = Source.open(zmq.PULL, bind="inproc://wrong", context=context)
    source = Source.open(zmq.PUSH, context=context, linger=0)
    with closing(receiver, source):
        if is_queued:
            source.send(b"before")
        else:
            source.socket.connect("inproc://wrong")
            source.send(b"before")
        send = source.send if through == "source" else source.sender().send
        with pytest.raises(error, match=text):
            send(wrong)
        source.send(b"after")
        if is_queued:
            source.socket.connect("inproc://wrong")
        assert [receiver.recv(timeout=5) for _ in range(2)] == [[b"before"], [b"after"]]


def test_a_generator_that_raises_sends_nothing(context, unconnected):
    def broken():
        yield b"one"
        raise LookupError("no more")

    with pytest.raises(LookupError):
        unconnected.send(broken())
    assert unconnected.stats().outbox_depth == 0


@contextlib.contextmanager
def counted_switches():
    switches = []
    before = greenlet.settrace(lambda event, args: switches.append(event))
    try:
        yield switches
    finally:
        greenlet.settrace(before)


@messages
def test_a_message_goes_out_at_once_without_a_switch(context, endpoint, long_slices, make, frames):
    with closing(*pair_of(context, endpoint)) as (receiver, sender):
        sender.send(b"is connected")
        assert receiver.recv(timeout=5) == [b"is connected"]
        message = make()
        with counted_switches() as switches:
            sender.send(message)
            sender.send_nowait(b"second")
            sender.send(b"third", timeout=1)
            sent = sender.stats().sent
        assert not switches
        assert sent == 4
        assert sender.stats().outbox_peak <= 1  # the first may have come before the connection


def test_queueing_does_not_switch_while_there_is_room(long_slices, unconnected):
    with counted_switches() as switches:
        for _ in range(100):
            unconnected.send(b"queued")
    assert not switches
    assert unconnected.stats().outbox_depth == 100


def test_a_message_never_overtakes_a_queued_one(context, unconnected):
    unconnected.send(b"0")
    with connected(unconnected, context) as peer:
        # libzmq would take it as soon as the connection stands.
        number = 1
        while not unconnected.stats().sent:
            unconnected.send(str(number).encode())
            number += 1
            gevent.sleep(0)
        got = [int(peer.recv(timeout=5)[0]) for _ in range(number)]
    assert got == list(range(number))


@pytest.mark.parametrize(
    "send",
    [
        lambda source: source.send_nowait(b"more"),
        lambda source: source.send(b"more", block=False),
        lambda source: source.send(b"more", timeout=0),
        lambda source: source.send(b"more", timeout=0.02),
        lambda source: source.sender().send_nowait(b"more"),
        lambda source: source.sender().send(b"more", timeout=0.02),
    ],
)
def test_no_room_is_full_and_the_message_is_not_queued(context, send):
    with closing(Source.open(zmq.PUSH, context=context, outbox=2, linger=0)) as (source,):
        source.send(b"0")
        source.send(b"1")
        with pytest.raises(Full):
            send(source)
        assert source.stats().outbox_depth == 2
        with connected(source, context) as peer:
            assert peer.recv_many(1, timeout=5) + peer.recv_many(1, timeout=5) == [[b"0"], [b"1"]]
            wait_until(lambda: source.flush(0))
            with pytest.raises(Empty):
                peer.recv(timeout=0.02)


def test_full_does_not_come_before_the_timeout_is_over(context):
    with closing(Source.open(zmq.PUSH, context=context, outbox=1, linger=0)) as (source,):
        source.send(b"0")
        started = time.monotonic()
        with pytest.raises(Full):
            source.send(b"1", timeout=0.1)
        assert time.monotonic() - started > 0.095


@pytest.mark.parametrize("connect", [False, True])
@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
@pytest.mark.parametrize("through", ["source", "sender", "flush", "stop"])
def test_a_negative_timeout_is_a_value_error(context, through, timeout, connect):
    receiver = Source.open(zmq.PULL, bind="inproc://negative", context=context)
    source = Source.open(zmq.PUSH, context=context, linger=0)
    with closing(receiver, source):
        if connect:
            source.socket.connect("inproc://negative")
        call = {
            "source": lambda: source.send(b"one", timeout=timeout),
            "sender": lambda: source.sender().send(b"one", timeout=timeout),
            "flush": lambda: source.flush(timeout),
            "stop": lambda: source.stop(timeout),
        }[through]
        with pytest.raises(ValueError, match="timeout="):
            call()
        assert source.started
        assert source.stats().sent == source.stats().outbox_depth == 0


def test_a_message_that_libzmq_refuses_is_a_send_error_with_the_message(context):
    with closing(Source.open(zmq.REQ, bind="inproc://req", context=context)) as (source,):
        peer = Source.open(zmq.REP, connect="inproc://req", context=context)
        with closing(peer):
            source.send(b"first")
            with pytest.raises(SendError) as caught:
                source.send([b"second", b"frame"])
            assert caught.value.errno == zmq.EFSM
            assert caught.value.message == [b"second", b"frame"]
            assert peer.recv(timeout=5) == [b"first"]
            peer.send(b"reply")
            assert source.recv(timeout=5) == [b"reply"]
            source.send(b"third")
            assert peer.recv(timeout=5) == [b"third"]


def test_a_greenlet_that_sends_all_the_time_lets_other_io_in(context, monkeypatch):
    monkeypatch.setattr(Source, "max_messages", 50)
    receiver = Source.open(zmq.PULL, bind="inproc://fair", context=context, rcvhwm=0)
    sender = Source.open(zmq.PUSH, connect="inproc://fair", context=context, sndhwm=0)
    with closing(receiver, sender):
        got: list[list[bytes]] = []
        reader = gevent.spawn(got.extend, receiver)
        for _ in range(2000):
            sender.send(b"one")
        stops = sender.stats().budget_stops
        assert stops >= 2000 // 50 // 4
        assert len(got) >= stops  # at least one each time, also if its own turn is short
        reader.kill()


def test_a_queued_message_may_be_withdrawn(context):
    source = Source.open(
        zmq.PUSH, connect="tcp://127.0.0.1:1", context=context, immediate=1, linger=0
    )
    for message in (b"one", [b"two", b"frames"], b"three"):
        source.send(message)
    assert source.withdraw([b"two", b"frames"])
    assert not source.withdraw([b"two", b"frames"])
    assert source.withdraw(b"one")
    assert source.stats().outbox_depth == 1
    assert source.stop(timeout=0) == [[b"three"]]


def test_one_frame_is_never_queued_on_a_router(context):
    with closing(Source.open(zmq.ROUTER, context=context)) as (source,):
        assert not source.withdraw(b"")
        assert not source.withdraw(b"peer")


def test_withdrawing_makes_room_for_who_waits(context):
    source = Source.open(
        zmq.PUSH, connect="tcp://127.0.0.1:1", context=context, immediate=1, linger=0, outbox=1
    )
    source.send(b"one")
    waiting = gevent.spawn(source.send, b"two")
    all_blocked()
    assert not waiting.ready()
    assert source.withdraw(b"one")
    waiting.get(timeout=10)
    assert source.withdraw(b"two")
    assert source.flush(timeout=10)
    source.close()
