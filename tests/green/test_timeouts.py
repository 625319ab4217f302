"""An exception out of a call means that it did nothing, and what is there beats the clock."""

import contextlib
import gc
import random
import weakref

import gevent
import greenlet
import pytest
import zmq
from gevent.hub import get_hub
from green_under_test import fault, fill, soon
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._socket.budget import Budget
from gzmqsource.testing import all_blocked, wait_until


@fault("a send that raises a Timeout was not sent")
@pytest.mark.parametrize("kind", ["PUSH", "ROUTER"])
@pytest.mark.parametrize("form", ["send", "send_multipart", "by frame"])
def test_a_send_that_is_killed_or_timed_out_sends_nothing(context, form, kind):
    """Timeouts that are due in the same turn of the loop as the room for a message."""
    receiver = context.socket(zmq.DEALER if kind == "ROUTER" else zmq.PULL)
    sender = context.socket(getattr(zmq, kind))
    receiver.rcvhwm = sender.sndhwm = 1
    receiver.linger = sender.linger = 0
    path = []
    if kind == "ROUTER":
        receiver.routing_id, sender.router_mandatory, path = b"peer", 1, [b"peer"]
    sender.bind("tcp://127.0.0.1:*")
    receiver.connect(sender.LAST_ENDPOINT.decode())
    if kind == "ROUTER":
        receiver.send(b"hello")
        sender.recv_multipart()
    dice = random.Random(7)
    ballast = b"x" * 300_000
    raised: set[bytes] = set()
    heard: list[bytes] = []

    def send(message):
        if form == "send" and not path:
            sender.send(b" ".join(message))
        elif form == "by frame":
            for frame in (*path, *message[:-1]):
                sender.send(frame, zmq.SNDMORE)
            sender.send(message[-1])
        else:
            sender.send_multipart([*path, *message])

    def send_all(me):
        number = 0
        while len(raised) < 300:
            number += 1
            name = b"%d.%d" % (me, number)
            try:
                with gevent.Timeout(dice.uniform(0.001, 0.003)):
                    send([name, ballast])
            except gevent.Timeout:
                raised.add(name)

    def receive_all():
        while True:
            heard.append(receiver.recv_multipart()[0][:20].split()[0])
            gevent.sleep(dice.choice([0, 0.001, 0.002]))

    receiving = gevent.spawn(receive_all)
    sending = [gevent.spawn(send_all, me) for me in range(3)]
    try:
        for one in sending:
            soon(one)
        assert len(raised) >= 300
        soon(gevent.spawn(send, [b"last", b""]))
        with gevent.Timeout(20):
            while b"last" not in heard:
                gevent.sleep(0.001)
    finally:
        gevent.killall([receiving, *sending])
    assert not raised.intersection(heard)


@pytest.mark.parametrize("waiting", [1, 3])
@pytest.mark.parametrize("call", ["recv", "recv_multipart", "recv lent", "recv_into"])
def test_a_message_that_is_there_beats_the_clock(pair, original_sleep, call, waiting):
    receiver, sender = pair()
    if call == "recv_into" and not hasattr(PlainSocket, "recv_into"):
        pytest.skip("pyzmq before 26.4")
    receiver.rcvtimeo = 20
    calls = {
        "recv": receiver.recv,
        "recv_multipart": lambda: receiver.recv_multipart()[0],
        "recv lent": lambda: receiver.recv(copy=False).bytes,
        "recv_into": lambda: (buffer := bytearray(1), receiver.recv_into(buffer))[0],
    }
    receiving = [gevent.spawn(calls[call]) for _ in range(waiting)]
    gevent.sleep(0)  # they wait, and from now on the hub is held up
    for number in range(waiting):
        sender.send(b"%d" % number, zmq.NOBLOCK)
    while not receiver.get(zmq.EVENTS) & zmq.POLLIN:
        original_sleep(0.001)  # it travels
    original_sleep(0.03)
    assert sorted(soon(one) for one in receiving) == [b"%d" % n for n in range(waiting)]


def test_room_that_is_there_beats_the_clock(context, original_sleep):
    receiver, sender = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    receiver.rcvhwm = sender.sndhwm = 10
    receiver.bind("inproc://room")
    sender.connect("inproc://room")
    count = fill(sender)
    sender.sndtimeo = 20
    sending = [gevent.spawn(sender.send, b"message") for _ in range(5)]
    gevent.sleep(0)  # they wait, and from now on the hub is held up
    for _ in range(count):
        receiver.recv(zmq.NOBLOCK)
    original_sleep(0.03)
    for one in sending:
        soon(one)
    assert [receiver.recv() for _ in range(5)] == [b"message"] * 5


@pytest.mark.parametrize("count", [100, 1500])
@pytest.mark.parametrize("call", ["recv", "send"])
@pytest.mark.usefixtures("few_callbacks")
def test_the_clock_waits_for_all_in_front(context, original_sleep, call, count):
    """Longer than gevent runs callbacks in a row, 5 ms, and than one look wakes."""
    receiver, sender = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    receiver.rcvhwm = sender.sndhwm = count
    receiver.bind("inproc://many")
    sender.connect("inproc://many")
    if call == "send":
        fill(sender)
    done = []

    def wait():
        receiver.recv() if call == "recv" else sender.send(b"message")
        original_sleep(0.05 / count)  # what a greenlet does then
        done.append(1)

    def hold_up_the_hub():
        for one in waiting:
            one.switch()  # it waits
        for _ in range(count):
            if call == "recv":
                sender.send(b"message", zmq.NOBLOCK)
            else:
                receiver.recv(zmq.NOBLOCK)
        original_sleep(0.2)

    receiver.rcvtimeo = sender.sndtimeo = 100
    hub = get_hub()
    waiting = [greenlet.greenlet(wait, hub) for _ in range(count)]
    hub.loop.run_callback(hold_up_the_hub)
    wait_until(lambda: len(done) == count, 20)


@pytest.mark.usefixtures("few_callbacks")
def test_time_in_the_queue_of_busy_sockets_leaves_a_last_look(context, original_sleep, monkeypatch):
    receiver, sender = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    receiver.bind("inproc://busy")
    sender.connect("inproc://busy")
    receiver.rcvtimeo = 100
    done = []

    def receive(number):
        receiver.recv()
        done.append(number)

    def hold_up_the_hub():
        for number, waiting in enumerate(others):
            waiting.switch(number)
        for _ in range(101):
            sender.send(b"message", zmq.NOBLOCK)
        receiver._shared.budget.refill(0, 0.0)  # the next one queues
        last.switch(100)
        original_sleep(0.2)

    hub = get_hub()
    others, last = (
        [greenlet.greenlet(receive, hub) for _ in range(100)],
        greenlet.greenlet(receive, hub),
    )
    monkeypatch.setattr(Budget, "exhausted", lambda budget, _receives=False: budget.left <= 0)
    hub.loop.run_callback(hold_up_the_hub)
    wait_until(lambda: len(done) == 101, 5)
    assert done == list(range(101))


@pytest.mark.parametrize("kind", ["ROUTER", "XPUB", "PUB"])
def test_sndtimeo_ends_where_pollout_says_nothing(context, kind):
    sender = context.socket(getattr(zmq, kind))
    receiver = context.socket(zmq.DEALER if kind == "ROUTER" else zmq.SUB)
    sender.sndhwm = receiver.rcvhwm = 1
    message = [b"peer", b"message"]
    if kind == "ROUTER":
        receiver.routing_id, sender.router_mandatory = b"peer", 1
    else:
        sender.xpub_nodrop = 1
        receiver.subscribe(b"")
    sender.bind("inproc://full")
    receiver.connect("inproc://full")
    if kind == "ROUTER":
        receiver.send(b"hello")
        sender.recv_multipart()
    elif kind == "XPUB":
        sender.recv()
    else:
        sender.get(zmq.EVENTS)  # takes the subscription
    with contextlib.suppress(zmq.Again):
        for _ in range(100):
            sender.send_multipart(message, zmq.NOBLOCK)
    sender.sndtimeo = 20
    sending = [gevent.spawn(sender.send_multipart, message) for _ in range(3)]
    for one in sending:
        with pytest.raises(zmq.Again):
            soon(one)
    assert receiver.recv_multipart()[-1:] == message[-1:]
    soon(gevent.spawn(sender.send_multipart, message))


@pytest.mark.parametrize("call", [lambda pair: pair.send(b"x"), lambda pair: pair.recv()])
def test_a_killed_greenlet_is_in_no_reference_cycle(context, call):
    pair = context.socket(zmq.PAIR)
    waiting = [gevent.spawn(call, pair) for _ in range(3)]
    killed = [weakref.ref(each) for each in waiting]
    all_blocked()
    gc.disable()
    try:
        gevent.killall(waiting)
        waiting.clear()
        all_blocked()
        assert [each() for each in killed] == [None] * 3
    finally:
        gc.enable()
