"""A signal handler that raises, sends or receives in the middle of a transfer."""

import contextlib
import gc
import itertools
import random
import signal
import sys
import time
from collections import deque
from typing import Any

import pytest
import zmq
from helpers import closing, python_process

from gzmqsource.transfer import backend, transfer_for
from gzmqsource.transfer.pure import PureTransfer

if backend != "native":
    pytest.skip("where a handler raises, the pure one keeps no message", allow_module_level=True)

pytestmark = pytest.mark.once

FRAMES = 4
#: Of the processor's time, so that other work takes none of it away.
SECONDS = 0.1


class Struck(Exception):
    """What a handler of a signal raises."""


@pytest.fixture
def alarms(monkeypatch):
    """Let a function run in the handler of a signal, 5,000 times a second if it is *repeated*."""
    # pyzmq runs the handlers when a frame is freed, too, where nothing can be raised.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    def start(function, repeated=False):
        signal.signal(signal.SIGALRM, lambda _, frame: function(frame))
        if repeated:
            signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)

    yield start
    stop()
    # Another thread may still take the last signal, for which Python needs a handler.
    signal.signal(signal.SIGALRM, lambda *_: None)


def stop():
    signal.setitimer(signal.ITIMER_REAL, 0)


def strike(frame):
    """Raise, if `call` is being called, and not `check`."""
    while frame is not None and frame.f_code.co_name != "check":
        if frame.f_code.co_name == "call":
            raise Struck
        frame = frame.f_back


def framed(number, size=0):
    return [b"%d " % number + bytes(size)] * FRAMES


def number_of(message):
    assert message == [message[0]] * FRAMES, "torn"
    return int(message[0].split(b" ")[0])


@pytest.fixture
def transfers(context):
    sender, receiver = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    sender.sndhwm = receiver.rcvhwm = 0
    sender.bind("inproc://signals")
    receiver.connect("inproc://signals")
    with closing(sender, receiver):
        yield sender, receiver


def until_late(call):
    """Make a call over and over, and be struck once in most of them; return how often that was."""
    struck = 0
    ends = time.process_time() + SECONDS
    while time.process_time() < ends:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
        try:
            call()
        except Struck:
            struck += 1
        stop()
    return struck


@pytest.mark.parametrize("size", [0, 1000, 70_000])
def test_what_a_lane_sends_is_neither_torn_nor_sent_twice_by_a_handler_that_raises(
    transfers, alarms, size
):
    sender, receiver = transfers
    transfer = transfer_for(sender)
    numbers = iter(range(1 << 30))
    lane: deque[Any] = deque()
    moved: list[Any] = []
    received = 0

    def call():
        if len(lane) < 5:
            lane.append(framed(next(numbers), size))
        transfer.send_lanes([lane], moved, 3, 3, 1 << 20)
        check()

    def check():
        nonlocal received
        while receiver.poll(0):
            number = number_of(receiver.recv_multipart())
            assert number >= received, "sent twice"
            received = number + 1

    alarms(strike)
    assert until_late(call)
    check()
    assert sum(count for _, count, _ in moved) == transfer.sent
    left = [number_of(message) for message in lane]
    assert left == sorted(set(left))
    assert not left or left[0] >= received


@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("forms", ["bytes", "frames", "in turns"])
def test_nothing_received_is_torn_or_lost_by_a_handler_that_raises(transfers, alarms, forms, size):
    sender, receiver = transfers
    transfer = transfer_for(receiver)
    count = 3000
    for number in range(count):
        sender.send_multipart(framed(number, size))
    got: list[Any] = []

    copies = itertools.cycle({"bytes": [True], "frames": [False]}.get(forms, [True, False]))

    def call():
        transfer.receive(got, 10, 1 << 20, next(copies))

    alarms(strike)
    assert until_late(call)
    while not transfer.receive(got, 10, 1 << 20, next(copies)):
        pass
    types = {*map(type, itertools.chain(*got))}
    assert types == {"bytes": {bytes}, "frames": {zmq.Frame}}.get(forms, {bytes, zmq.Frame})
    assert all(len({*map(type, message)}) == 1 for message in got)
    assert [number_of([*map(bytes, message)]) for message in got] == list(range(count))


def alternate(call, how, alarms):
    """Make a call over and over, and have a signal's handler or a finaliser make it in between."""

    class Garbage:
        def __init__(self):
            self.self = self

        def __del__(self):
            call()

    ends = time.process_time() + SECONDS
    threshold = gc.get_threshold()
    if how == "signal":
        alarms(call, repeated=True)
    else:
        gc.set_threshold(5)
    try:
        while time.process_time() < ends:
            Garbage()
            call()
    finally:
        stop()
        gc.set_threshold(*threshold)
        gc.collect()


each_transfer = pytest.mark.parametrize(
    "make", [transfer_for, PureTransfer], ids=["native", "pure"]
)


def send_all(transfer, messages):
    """Send what is not sent yet, unless another call is in the middle of a message."""
    with contextlib.suppress(IndexError):  # the others were sent in between
        while transfer.send_one(message := messages.popleft()):
            pass
        messages.append(message)


@each_transfer
@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("how", ["signal", "finaliser"])
def test_what_is_received_in_between_is_received_once(transfers, alarms, how, copies, make):
    sender, receiver = transfers
    sending, transfer = make(sender), make(receiver)
    numbers = itertools.count()
    unsent: deque[Any] = deque()
    got: list[Any] = []
    # The next list would be one that was freed, for which the collector does not run.
    kept: list[Any] = []

    def receive(*signal_and_frame):
        gc.disable()  # it is to run below
        for number in itertools.islice(numbers, 3):
            message = framed(number) if number % 2 else [b"%d " % number]
            kept.append(message)
            unsent.append(message)
        send_all(sending, unsent)
        gc.enable()
        transfer.receive(got, 2, 1 << 20, copies)

    alternate(receive, how, alarms)
    send_all(sending, unsent)
    while not transfer.receive(got, 10, 1 << 20, copies):
        pass
    whole = [[*map(bytes, message)] for message in got]
    received = sorted(number_of(message * (FRAMES // len(message))) for message in whole)
    assert received == list(range(next(numbers)))


@each_transfer
@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("how", ["signal", "finaliser"])
def test_what_is_sent_in_between_tears_nothing(transfers, alarms, how, size, make):
    sender, receiver = transfers
    transfer = make(sender)
    numbers = iter(range(1 << 30))
    unsent: deque[Any] = deque()

    def send(*signal_and_frame):
        unsent.append(framed(next(numbers), size))
        send_all(transfer, unsent)

    alternate(send, how, alarms)
    send_all(transfer, unsent)
    total = next(numbers)
    assert transfer.sent == total
    assert {number_of(receiver.recv_multipart()) for _ in range(total)} == set(range(total))


def test_a_message_behind_one_that_a_handler_removes_is_not_lost(transfers, alarms):
    def remove(_):
        if sends and lane:
            removed.append(int(lane.popleft()))

    sender, receiver = transfers
    transfer = transfer_for(sender)
    lane: deque[Any] = deque()
    moved: list[Any] = []
    removed: list[int] = []
    total, sends = 0, False
    alarms(remove)
    signal.setitimer(signal.ITIMER_REAL, 2e-5, 2e-5)
    ends = time.process_time() + 3 * SECONDS
    while time.process_time() < ends:
        # libzmq reads its mailbox, and can be interrupted there, if its last look was long ago.
        looked = time.perf_counter()
        while time.perf_counter() < looked + 0.0012:
            pass
        lane.extend(b"%d" % number for number in range(total, total + 3))
        total += 3
        sends = True
        transfer.send_lanes([lane], moved, 10, 10, 1 << 20)
        sends = False
    stop()
    assert removed
    left = [int(message) for message in lane]
    sent = [int(receiver.recv()) for _ in range(transfer.sent)]
    assert {*sent, *removed, *left} == set(range(total))
    assert sum(count for _, count, _ in moved) == transfer.sent


#: A process of its own, which a wrong access would end. libzmq reads its mailbox, and can be
#: interrupted there, if its last look was a millisecond ago. Only the first large frame starts the
#: collector.
CHANGES = """
import signal
import sys
import time

import zmq

from gzmqsource import Source
from gzmqsource._base import fork


class Strikes:
    def add(self, inherited):
        signal.raise_signal(signal.SIGALRM)


def change(*_):
    global changed
    if sends and frames:
        changed += 1
        frames.clear()


where, size = sys.argv[1], int(sys.argv[2])
frames, sends, changed = [], False, 0
signal.signal(signal.SIGALRM, change)
with (
    zmq.Context() as context,
    context.socket(zmq.PULL) as receiver,
    Source.open(zmq.PUSH, bind="inproc://changes", context=context, sndhwm=0) as source,
):
    receiver.rcvhwm = 0
    receiver.connect("inproc://changes")
    while not source._shortcut_send(b"warm"):
        source.send(b"cold")
    if where == "collector":
        fork._inherited = Strikes()
    else:
        signal.setitimer(signal.ITIMER_REAL, 2e-5, 2e-5)
    ends = time.process_time() + 0.5
    while not changed if where == "collector" else time.process_time() < ends:
        looked = time.perf_counter()
        while time.perf_counter() < looked + 0.0012:
            pass
        frames[:] = [bytes(size)] * 20
        sends = True
        try:
            source._shortcut_send_now(frames)
        finally:
            sends = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    while receiver.poll(0):
        message = receiver.recv_multipart()
        assert len(message) in (1, 20), len(message)
print(changed)
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("where", "size"), [("mailbox", 0), ("mailbox", 1000), ("collector", 70_000)]
)
def test_a_list_that_a_handler_empties_while_it_is_sent_goes_whole_or_not_at_all(where, size):
    with python_process(CHANGES, where, str(size)) as process:
        assert int(process.stdout.read()) > 0
        assert process.wait(30) == 0


#: The handler sets the flag of a closed socket, whose handle may be that of another one by then.
#: Here it is still its own. Only the first large frame starts the collector.
CLOSES = """
import signal
import sys

import gevent
import zmq

from gzmqsource import green
from gzmqsource._base import fork
from gzmqsource._socket.readiness import Readiness


def close(*_):
    socket._shared._shadow._closed = True


def strike(*_):
    signal.raise_signal(signal.SIGALRM)


class Strikes:
    add = strike


def poll():
    poller = green.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.poll()


signal.signal(signal.SIGALRM, close)
with green.Context() as context, context.socket(zmq.PAIR) as peer:
    socket = context.socket(zmq.PAIR)
    peer.bind("inproc://closes")
    socket.connect("inproc://closes")
    socket.poll(0)
    if sys.argv[1] == "send":
        fork._inherited, call = Strikes(), lambda: socket.send(bytes(70_000))
    else:
        waiting, call = gevent.spawn(poll), socket.recv
        gevent.idle()
        peer.send(b"x")
        Readiness.recheck = strike
    socket._shared.budget.refill(100, 10)
    try:
        call()
        print("moved")
    except zmq.ZMQError as error:
        print(error.errno == zmq.ENOTSOCK)
    socket._shared._shadow._closed = False
    socket.close()
"""


@pytest.mark.processes
@pytest.mark.parametrize("where", ["send", "receive"])
def test_a_socket_that_a_handler_closes_in_a_call_is_not_used_in_it(where):
    with python_process(CLOSES, where) as process:
        assert process.stdout.read().strip() == "True"
        assert process.wait(30) == 0
