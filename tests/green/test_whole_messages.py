"""A message goes whole or not at all, by whichever call and beside whatever else sends."""

import functools
import gc
from typing import Any

import gevent
import pytest
import zmq
from green_under_test import fault, fill, soon
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.tracker import MessageTracker as PlainTracker

from gzmqsource.testing import all_blocked, wait_until

BIG = 70_000  # more than the size from which pyzmq lends a frame


def overriding(plain: type[Any]) -> type[Any]:
    """A socket class that overrides what legacy programs override, and switches there."""

    class Socket(plain):
        def send(self, data, flags=0, copy=True, track=False, **keywords):
            gevent.sleep(0)
            return super().send(data, flags, copy=copy, track=track, **keywords)

        def recv(self, flags=0, copy=True, track=False):
            return super().recv(flags, copy=copy, track=track)

    return Socket


def by_frame(socket, message, **options):
    for frame in message[:-1]:
        socket.send(frame, zmq.SNDMORE, **options)
        gevent.sleep(0)
    socket.send(message[-1], **options)


def by_string(socket, message, **options):
    for frame in message[:-1]:
        socket.send_string(frame.decode(), zmq.SNDMORE, **options)
        gevent.sleep(0)
    socket.send_string(message[-1].decode(), **options)


def at_once(socket, message, **options):
    socket.send_multipart(message, **options)


def in_two_calls(socket, message, **options):
    socket.send_multipart(message[:1], zmq.SNDMORE, **options)
    gevent.sleep(0)
    socket.send_multipart(message[1:], **options)


FORMS = [by_frame, by_string, at_once, in_two_calls]


@fault("messages that greenlets send frame by frame stay whole")
@pytest.mark.parametrize("size", [1, BIG], ids=["small", "big"])
@pytest.mark.parametrize("copy", [True, False], ids=["copied", "lent"])
@pytest.mark.parametrize("is_overridden", [False, True], ids=["", "overridden"])
@pytest.mark.parametrize("hwm", [1, 1000])
def test_greenlets_that_send_in_different_forms_tear_nothing(
    green, context, endpoint, hwm, is_overridden, copy, size
):
    make = overriding(green.Socket) if is_overridden else green.Socket
    with make(context, zmq.PULL) as receiver, make(context, zmq.PUSH) as sender:
        receiver.rcvhwm = sender.sndhwm = hwm
        sender.linger = 0
        receiver.bind(endpoint)
        sender.connect(receiver.LAST_ENDPOINT.decode())
        frames = {form: [b"%d" % index * size] * 3 for index, form in enumerate(FORMS)}
        sending = [
            gevent.spawn(functools.partial(form, sender, frames[form], copy=copy))
            for form in FORMS * 5
        ]
        got = [soon(gevent.spawn(receiver.recv_multipart)) for _ in sending]
        for one in sending:
            soon(one)
    assert sorted(got) == sorted(frames[form] for form in FORMS * 5)


@fault("no frame is sent of a message that its greenlet abandons midway")
@pytest.mark.parametrize("how", ["killed", "raised", "ended"])
def test_nothing_of_an_abandoned_message_is_sent(pair, how):
    receiver, sender = pair()

    def begin():
        sender.send(b"abandoned", zmq.SNDMORE)
        sender.send_string("abandoned", zmq.SNDMORE)
        if how == "killed":
            gevent.sleep(1000)
        if how == "raised":
            raise gevent.GreenletExit

    beginning = gevent.spawn(begin)
    all_blocked()
    beginning.kill()
    for message in ([b"a"], [b"b", b"c"]):
        soon(gevent.spawn(sender.send_multipart, message))
        assert soon(gevent.spawn(receiver.recv_multipart)) == message


def test_what_dead_greenlets_have_begun_is_forgotten(pair):
    _, sender = pair()
    for _ in range(1000):
        gevent.spawn(sender.send, b"begun", zmq.SNDMORE).join()
    assert len(sender._shared.outgoing.partial) < 50


def test_what_many_greenlets_have_begun_goes_out_whole(pair):
    receiver, sender = pair()
    gate = gevent.event.Event()

    def send(number):
        sender.send(b"%d" % number, zmq.SNDMORE)
        gate.wait()
        sender.send(b"%d" % number)

    sending = [gevent.spawn(send, number) for number in range(300)]
    all_blocked()
    gate.set()
    got = [soon(gevent.spawn(receiver.recv_multipart)) for _ in sending]
    assert sorted(got) == sorted([b"%d" % number] * 2 for number in range(300))


# After a refusal


@pytest.fixture
def full(context):
    """A PULL and a PUSH that is full of ``b"ballast"``, and what empties it."""
    receiver, sender = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    receiver.rcvhwm = sender.sndhwm = 1
    receiver.bind("inproc://full")
    sender.connect("inproc://full")
    count = fill(sender)

    def drain():
        for _ in range(count):
            assert receiver.recv() == b"ballast"

    return receiver, sender, drain


def refuse(sender, how):
    """Have the last frame of a message refused."""
    sender.send(b"1", zmq.SNDMORE)
    sender.send(b"2", zmq.SNDMORE)
    if how == "timeout":
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.005):
            sender.send(b"3")
    elif how == "SNDTIMEO":
        sender.sndtimeo = 5
        with pytest.raises(zmq.Again):
            sender.send(b"3")
    else:
        with pytest.raises(zmq.Again):
            sender.send(b"3", zmq.NOBLOCK)


@pytest.mark.parametrize("how", ["timeout", "SNDTIMEO", "NOBLOCK"])
def test_the_last_frame_alone_tries_a_refused_message_again(full, how):
    receiver, sender, drain = full
    refuse(sender, how)
    with pytest.raises(zmq.Again):
        sender.send(b"3", zmq.NOBLOCK)
    drain()
    sender.send_string("3")
    assert receiver.recv_multipart() == [b"1", b"2", b"3"]


@pytest.mark.parametrize("options", [{}, {"copy": False}, {"copy": False, "track": True}])
@pytest.mark.parametrize("kind", [bytes, bytearray, zmq.Frame, memoryview])
@pytest.mark.parametrize("size", [1, BIG], ids=["small", "big"])
def test_a_last_frame_of_any_kind_is_known_again(full, size, kind, options):
    receiver, sender, drain = full
    if kind is zmq.Frame:
        options = {"copy": False}
    sender.send(b"1", zmq.SNDMORE)
    with pytest.raises(zmq.Again):
        sender.send(kind(b"2" * size), zmq.NOBLOCK, **options)
    drain()
    sender.send(kind(b"2" * size), **options)
    assert receiver.recv_multipart() == [b"1", b"2" * size]


@pytest.mark.parametrize("how", ["timeout", "SNDTIMEO", "NOBLOCK"])
@pytest.mark.parametrize("message", [[b"other"], [b"1", b"2", b"3"], [b"3", b"3"]])
def test_anything_else_begins_anew(full, how, message):
    receiver, sender, drain = full
    refuse(sender, how)
    drain()
    by_frame(sender, message)
    assert receiver.recv_multipart() == message


@pytest.mark.parametrize("is_overridden", [False, True])
@pytest.mark.parametrize("repeats", ["the call", "the message"])
def test_a_refused_send_multipart_can_be_repeated(green, context, repeats, is_overridden):
    make = overriding(green.Socket) if is_overridden else green.Socket
    with make(context, zmq.PUSH) as sender, green.Socket(context, zmq.PULL) as receiver:
        sender.linger = 0
        sender.send(b"begun", zmq.SNDMORE)
        for _ in range(2):
            with pytest.raises(zmq.Again):
                sender.send_multipart([b"1", b"2"], zmq.NOBLOCK)
        receiver.bind("inproc://later")
        sender.connect("inproc://later")
        if repeats == "the message":
            sender.send(b"begun", zmq.SNDMORE)
        sender.send_multipart([b"1", b"2"], zmq.NOBLOCK)
        assert receiver.recv_multipart() == [b"begun", b"1", b"2"]


def test_a_first_frame_without_room_is_refused_at_once(full):
    _, sender, _ = full
    with pytest.raises(zmq.Again):
        sender.send(b"1", zmq.SNDMORE | zmq.NOBLOCK)


def test_a_frame_that_is_none_leaves_what_was_begun(pair):
    receiver, sender = pair()
    sender.send(b"1", zmq.SNDMORE)
    for flags in (zmq.SNDMORE, 0):
        with pytest.raises(TypeError):
            sender.send("text", flags)
    with pytest.raises(TypeError):
        sender.send_multipart([b"x", 7])
    sender.send(b"2")
    assert receiver.recv_multipart() == [b"1", b"2"]


def test_a_held_frame_is_a_copy(pair):
    receiver, sender = pair()
    buffer = bytearray(b"before")
    sender.send(buffer, zmq.SNDMORE)
    buffer[:] = b"behind"
    sender.send(buffer)
    assert receiver.recv_multipart() == [b"before", b"behind"]


def test_a_socket_that_is_handed_on_keeps_what_was_begun(pair):
    receiver, sender = pair()
    sender.send(b"1", zmq.SNDMORE)
    gevent.get_hub().threadpool.spawn(sender.send_multipart, [b"a", b"b"]).get()
    sender.send(b"2")
    assert [receiver.recv_multipart() for _ in range(2)] == [[b"a", b"b"], [b"1", b"2"]]


# What is sent


def test_frames_of_any_kind_arrive_as_they_were(pair):
    receiver, sender = pair()
    table = memoryview(bytes(range(12))).cast("B", (3, 4))
    frames = {
        "bytes": (b"x", b"x"),
        "empty": (b"", b""),
        "bytearray": (bytearray(b"x"), b"x"),
        "memoryview": (memoryview(b"xy")[1:], b"y"),
        "table": (table, bytes(range(12))),
        "frame": (zmq.Frame(b"x"), b"x"),
        "big": (bytes(BIG), bytes(BIG)),
        "big bytearray": (bytearray(BIG), bytes(BIG)),
        "big frame": (zmq.Frame(bytes(BIG)), bytes(BIG)),
    }
    for copy in (True, False):
        for flags in (0, zmq.NOBLOCK):
            for name, (frame, expected) in frames.items():
                sender.send(frame, flags, copy=copy)
                assert receiver.recv() == expected, name
            sender.send_multipart([frame for frame, _ in frames.values()], flags, copy=copy)
            assert receiver.recv_multipart() == [expected for _, expected in frames.values()]


@pytest.mark.parametrize("call", ["send", "send_multipart"])
def test_a_buffer_with_gaps_is_refused_as_by_pyzmq(pair, call):
    receiver, sender = pair()
    gaps = memoryview(b"abcdef")[::2]
    with pytest.raises(BufferError):
        getattr(sender, call)(gaps if call == "send" else [b"first", gaps])
    sender.send(b"next")
    assert receiver.recv_multipart() == [b"next"]


def test_a_lent_buffer_is_released(pair):
    receiver, sender = pair()
    buffer = bytearray(BIG)
    sender.send(buffer, copy=False)
    assert receiver.recv() == buffer
    gc.collect()

    def can_grow():
        try:
            buffer.append(1)
        except BufferError:  # it is lent
            return False
        return True

    wait_until(can_grow)


def test_a_message_of_very_many_frames_goes_whole(pair):
    receiver, sender = pair()
    message = [b"%d" % number for number in range(20_000)]
    sender.send_multipart(message)
    assert receiver.recv_multipart() == message


# Trackers


@pytest.mark.parametrize("size", [1, BIG], ids=["small", "big"])
@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("call", ["send", "send_multipart"])
def test_a_send_returns_what_pyzmq_returns(green, call, track, copy, size):
    def outcome(make):
        with make() as context, context.socket(zmq.PUSH) as sender:
            sender.bind("inproc://trackers")
            with context.socket(zmq.PULL) as receiver:
                receiver.connect("inproc://trackers")
                data = bytes(size)
                frames = data if call == "send" else [data] * 2
                tracker = getattr(sender, call)(frames, copy=copy, track=track)
                receiver.recv_multipart()
        if tracker is None or tracker is zmq._FINISHED_TRACKER:
            return tracker
        tracker.wait(20)
        return isinstance(tracker, PlainTracker) and tracker.done

    assert outcome(green.Context) == outcome(PlainContext)


def test_a_frame_has_one_tracker_for_all_its_sends(green, pair):
    receiver, sender = pair()
    frame = zmq.Frame(bytes(BIG), copy=False, track=True)
    trackers = [sender.send(frame, copy=False, track=True), sender.send_multipart([b"", frame])]
    assert [one is frame.tracker for one in trackers] == [True, True]
    for _ in range(2):
        receiver.recv_multipart()
    with pytest.raises(zmq.NotDone):
        trackers[0].wait(0)
    del frame
    trackers[0].wait(20)


def test_an_untracked_frame_cannot_be_tracked(pair):
    _, sender = pair()
    with pytest.raises(ValueError, match="Not a tracked message"):
        sender.send(zmq.Frame(b"x"), copy=False, track=True)
