"""What zmq.green gets wrong. Each test fails over it, and passes over the drop-in.

The marker gives the row of the table in the docs.
"""

import contextlib
import gc
import time
from types import SimpleNamespace

import gevent
import pytest
import zmq
from green_under_test import LONG, fault, silent, soon
from helpers import close_for_good
from zmq.backend import Socket as BackendSocket
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource.testing import all_blocked, wait_until


class Ticking:
    """A greenlet that ticks while a block runs."""

    def __enter__(self):
        self.ticks = 0
        self._greenlet = gevent.spawn(self._tick)
        gevent.sleep(0)  # it has begun
        return self

    def __exit__(self, *_):
        self._greenlet.kill()

    def _tick(self):
        while True:
            gevent.sleep(0.001)
            self.ticks += 1


# Several waiters


@fault("several greenlets in recv on one socket are served in order")
@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("call", ["recv", "recv_multipart"])
def test_several_greenlets_receive_in_order(pair, call, copy):
    receiver, sender = pair()
    for _ in range(2):  # of a socket that is not busy yet, and of one that is
        waiting = []
        for _ in range(3):
            waiting.append(gevent.spawn(getattr(receiver, call), copy=copy))
            all_blocked()
        for number in range(3):
            sender.send(b"%d" % number)
        got = [soon(greenlet) for greenlet in waiting]
        frames = [each[0] if call == "recv_multipart" else each for each in got]
        assert [bytes(frame) for frame in frames] == [b"0", b"1", b"2"]


@fault("several greenlets in send on one socket are served in order")
def test_several_greenlets_send_in_order(pair):
    receiver, sender = pair(sndhwm=1)
    ballast = bytes(1 << 20)  # more than the kernel takes
    count = 0
    with contextlib.suppress(zmq.Again):
        while True:
            sender.send(b"%d " % count + ballast, zmq.NOBLOCK)
            count += 1
            all_blocked()
    waiting = []
    for number in range(count, count + 3):
        waiting.append(gevent.spawn(sender.send, b"%d " % number + ballast))
        all_blocked()
    got = [int(soon(gevent.spawn(receiver.recv)).split()[0]) for _ in range(count + 3)]
    gevent.joinall(waiting, timeout=LONG, raise_error=True)
    assert got == list(range(count + 3))


@fault("recv and poll work on one socket at the same time")
def test_one_greenlet_polls_and_another_receives(pair):
    receiver, sender = pair()
    polling = [gevent.spawn(receiver.poll), gevent.spawn(receiver.poll)]
    receiving = gevent.spawn(receiver.recv)
    all_blocked()
    sender.send(b"1")
    assert soon(receiving) == b"1"
    sender.send(b"2")
    assert [soon(greenlet) for greenlet in polling] == [zmq.POLLIN, zmq.POLLIN]


# The edge
STEALS = {
    "get": lambda green, socket: socket.get(zmq.EVENTS),
    "getsockopt": lambda green, socket: socket.getsockopt(zmq.EVENTS),
    "attribute": lambda green, socket: socket.EVENTS,
    "zmq_poll": lambda green, socket: green.zmq_poll([(socket, zmq.POLLIN)], 0),
    "Poller": lambda green, socket: poller_of(green, socket).poll(0),
    "poll": lambda green, socket: socket.poll(0),
    "bind": lambda green, socket: socket.bind("inproc://elsewhere"),
    "connect": lambda green, socket: socket.connect("tcp://127.0.0.1:1"),
    "send": lambda green, socket: socket.send(b"out", zmq.NOBLOCK),
}


def poller_of(green, socket, mask=zmq.POLLIN):
    poller = green.Poller()
    poller.register(socket, mask)
    return poller


@fault("no wake-up is lost, whichever call consumes the edge")
@pytest.mark.parametrize("steal", STEALS)
def test_a_call_that_eats_the_edge_delays_nobody(green, pair, steal, original_sleep):
    receiver, sender = pair(zmq.DEALER, zmq.DEALER)
    waiting = gevent.spawn(receiver.recv)
    all_blocked()
    sender.send(b"message")
    original_sleep(0.05)  # it is there, and the hub has not looked
    STEALS[steal](green, receiver)
    assert soon(waiting) == b"message"


@fault("no wake-up is lost when a poll includes the socket of another greenlet")
def test_polling_many_sockets_robs_nobody(green, context, pair, original_sleep):
    receiver, sender = pair()
    other = context.socket(zmq.PULL)
    waiting = gevent.spawn(receiver.recv)
    all_blocked()
    sender.send(b"message")
    original_sleep(0.05)
    green.select([receiver, other], [], [], 0)
    assert soon(waiting) == b"message"


@fault("bind and connect over inproc wake the greenlets that wait")
def test_connecting_over_inproc_wakes_who_waits_to_send(context):
    sender, receiver = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    sender.bind("inproc://late")
    waiting = gevent.spawn(sender.send, b"message")
    all_blocked()
    receiver.connect("inproc://late")
    assert soon(gevent.spawn(receiver.recv)) == b"message"
    soon(waiting)


@fault("a greenlet waits without a timer (zmq.green has some of 11.6 and 1.33 seconds)")
def test_waiting_has_no_timer(green, context):
    socket = context.socket(zmq.PULL)
    before = running_timers()
    waiting = [gevent.spawn(socket.recv), gevent.spawn(poller_of(green, socket).poll)]
    all_blocked()
    running = running_timers() - before
    gevent.killall(waiting)
    assert not running


def running_timers():
    return {
        found
        for found in gc.get_objects()
        if type(found).__name__ == "timer" and getattr(found, "active", False)
    }


# Timeouts


@fault("RCVTIMEO holds")
def test_rcvtimeo_ends_a_recv(pair):
    receiver, _ = pair()
    with gevent.Timeout(LONG), silent():
        receiver.rcvtimeo = 50
        started = time.monotonic()
        with pytest.raises(zmq.Again):
            receiver.recv()
        assert time.monotonic() - started > 0.04


@fault("SNDTIMEO holds")
def test_sndtimeo_ends_a_send(context):
    sender = context.socket(zmq.PUSH)
    sender.bind("inproc://nobody")
    with gevent.Timeout(LONG), silent():
        sender.sndtimeo = 50
        with pytest.raises(zmq.Again):
            sender.send(b"message")
        with pytest.raises(zmq.Again):
            sender.send_multipart([b"me", b"ssage"])


# Whole messages


@fault("keyword arguments of send are kept when it has to wait")
def test_keywords_are_kept_when_a_send_waits(pair, monkeypatch):
    """The group of a frame is looked at, because few libzmq have the socket types that use it."""
    receiver, sender = pair(sndhwm=1)
    groups = []
    monkeypatch.setattr(zmq.Frame, "group", property(None, lambda _, group: groups.append(group)))
    ballast = bytes(1 << 20)  # more than the kernel takes
    gevent.spawn(lambda: [sender.send(ballast, group="g") for _ in range(10)])
    all_blocked()
    for _ in range(10):
        assert soon(gevent.spawn(receiver.recv)) == ballast
    assert groups == ["g"] * 10


@fault("messages of concurrent senders stay whole")
def test_concurrent_senders_tear_nothing(pair):
    receiver, sender = pair(sndhwm=2)

    def send(tag):
        for number in range(100):
            sender.send_multipart([b"%d" % tag, b"%d" % number, b"%d" % tag])

    sending = [gevent.spawn(send, tag) for tag in range(4)]
    try:
        for _ in range(400):
            first, _number, last = soon(gevent.spawn(receiver.recv_multipart))
            assert first == last, "torn"
    finally:
        gevent.killall(sending)


@fault("a message whose connection ends midway is sent whole to another peer")
@pytest.mark.parametrize("by_frame", [False, True])
def test_a_message_whose_pipe_dies_midway_is_sent_whole(context, monkeypatch, by_frame):
    """Its peer closes before the second frame, and libzmq sees it there."""
    sender, peers = context.socket(zmq.PUSH), [context.socket(zmq.PULL) for _ in range(2)]
    sender.linger = 0
    for index, peer in enumerate(peers):
        peer.bind(f"inproc://{index}")
        sender.connect(f"inproc://{index}")
    closes_before: list[bytes] = []

    def closing(send):
        def call(self, data, *args, **kwargs):
            if data in closes_before:
                closes_before.clear()
                close_for_good(PlainContext(shadow=context), peers[0])
            return send(self, data, *args, **kwargs)

        return call

    def send_message(tag):
        if by_frame:
            for frame in (b"1", b"2", b"3"):
                sender.send(tag + frame, 0 if frame == b"3" else zmq.SNDMORE, copy=False)
        else:
            sender.send_multipart([tag + b"1", tag + b"2", tag + b"3"], copy=False)

    # The drop-in sends by its transfer, of which only the pure one calls Python for each frame.
    monkeypatch.setattr("gzmqsource.transfer._native", None)
    calls = SimpleNamespace(**vars(BackendSocket) | {"send": closing(BackendSocket.send)})
    monkeypatch.setattr("gzmqsource.transfer.pure.BackendSocket", calls)
    monkeypatch.setattr(PlainSocket, "send", closing(PlainSocket.send))
    for tag in (b"a", b"b"):  # both pipes stand
        soon(gevent.spawn(send_message, tag))
    closes_before += [b"c2", b"d2"]  # one of the two goes to the dying peer
    for tag in (b"c", b"d", b"e"):
        soon(gevent.spawn(send_message, tag))
    got: list[list[bytes]] = []
    while not got or got[-1][0] != b"e1":
        got.append(soon(gevent.spawn(peers[1].recv_multipart)))
    assert all(message == [message[0][:1] + n for n in (b"1", b"2", b"3")] for message in got), got
    # libzmq has said that the pipe was dead, or it has dropped that message with its peer, as it
    # does with all that is on its way to one that goes.
    assert [message[0] for message in got][-2:] == [b"d1", b"e1"]


# Fairness


@fault("a busy recv yields to other greenlets")
def test_receiving_all_the_time_gives_others_their_turn(pair):
    receiver, sender = pair(sndhwm=0)
    count = 60_000
    for _ in range(count):
        sender.send(b"x")
    with Ticking() as ticking:
        for _ in range(count):
            receiver.recv()
        assert ticking.ticks >= 3


@fault("a busy send yields to other greenlets")
def test_sending_all_the_time_gives_others_their_turn(pair):
    _, sender = pair(sndhwm=0)
    with Ticking() as ticking:
        for _ in range(60_000):
            sender.send(b"x")
        assert ticking.ticks >= 3


@fault("a busy poll yields to other greenlets")
def test_polling_all_the_time_gives_others_their_turn(green, pair):
    receiver, sender = pair()
    sender.send(b"x")
    poller = poller_of(green, receiver)
    wait_until(lambda: poller.poll(0))
    with Ticking() as ticking:
        for _ in range(20_000):
            poller.poll()
        assert ticking.ticks >= 3
