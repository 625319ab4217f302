"""A turn ends at its bounds in messages and in time, and an idle source has none."""

import itertools
import time
from typing import Any

import gevent
import pytest
import zmq
from gevent.queue import Empty
from helpers import closing

from gzmqsource import Source, green
from gzmqsource._socket.budget import yield_to_io
from gzmqsource.testing import all_blocked


def work(seconds):
    """Keep the CPU busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def compute(seconds):
    """Use so much CPU time, by which turns are measured, also if the core is shared."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def came_at_once(got, most):
    """Wait until so many have come; return how many came between any two polls of the hub."""

    def look():
        while len(got) < most:
            seen.append(len(got))
            yield_to_io(gevent.get_hub())

    seen: list[int] = []
    gevent.spawn(look).join(10)
    return [after - before for before, after in itertools.pairwise([*seen, len(got)])]


@pytest.mark.parametrize("bound", [1, 10, 100])
def test_a_turn_ends_after_max_messages(context, bound):
    got: list[list[bytes]] = []

    class Bounded(Source):
        max_messages = bound
        max_seconds = 1000

    receiver = Bounded.open(zmq.PULL, got.append, bind="inproc://a", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)

    with closing(receiver, sender):
        for number in range(300):
            sender.send(b"%d" % number)
        receiver.start()
        steps = came_at_once(got, 300)
        assert receiver.stats().budget_stops >= 300 // bound - 1
    assert max(steps) <= 2 * bound
    assert [int(number) for (number,) in got] == list(range(300))


def test_a_turn_ends_after_max_seconds(context):
    got, seen = [], []

    class Bounded(Source):
        max_messages = 1000
        max_seconds = 0.01

    def handle(message):
        got.append(message)
        work(0.005)

    receiver = Bounded.open(zmq.PULL, handle, bind="inproc://a", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)

    def look():
        while len(got) < 60:
            seen.append(len(got))
            gevent.sleep(0.001)

    with closing(receiver, sender):
        for number in range(60):
            sender.send(b"%d" % number)
        looking = gevent.spawn(look)
        receiver.start()
        looking.join(10)
        assert receiver.stats().budget_stops >= 5
    assert len(seen) >= 10


@pytest.mark.parametrize("way", ["handled", "pulled", "frames", "messages"])
def test_a_message_that_takes_longer_than_a_slice_is_the_only_one_of_its_turn(context, way):
    got: list[Any] = []

    def handle(message):
        got.append(message)
        work(0.003)

    def receive(recv):
        while len(got) < 20:
            handle(recv())

    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    socket = green.Context(context).socket(zmq.PULL)
    socket.bind("inproc://a")
    receiver: Any = Source(socket) if way in ("handled", "pulled") else socket
    with closing(receiver, sender):
        for number in range(20):
            sender.send(b"%d" % number)
        if way == "handled":
            receiver.set_handle(handle)
            receiver.start()
        else:
            recv = receiver.recv_multipart if way == "messages" else receiver.recv
            gevent.spawn(receive, recv)
        steps = came_at_once(got, 20)
    assert len(got) == 20
    assert max(steps) == 1


@pytest.mark.parametrize("way", ["handled", "pulled", "frames"])
def test_those_that_wait_a_moment_after_each_message_take_turns(context, way):
    got: list[Any] = []
    sockets: list[Any] = []
    greenlets = []

    def handle(message):
        got.append(message)
        compute(0.003)
        gevent.sleep(0.001)

    def receive(recv):
        while True:
            handle(recv())

    for number in range(5):
        socket = green.Context(context).socket(zmq.PULL)
        socket.bind(f"inproc://{number}")
        receiver: Any = socket if way == "frames" else Source(socket)
        sender = Source.open(zmq.PUSH, connect=f"inproc://{number}", context=context)
        sockets += [receiver, sender]
        for _ in range(30):
            sender.send(b"x")
        if way == "handled":
            receiver.set_handle(handle)
            receiver.start()
        else:
            greenlets.append(gevent.spawn(receive, receiver.recv))
    with closing(*sockets):
        steps = came_at_once(got, 60)
        gevent.killall(greenlets)
    assert len(got) >= 60
    assert max(steps[3:]) <= 2  # at first all are ready at once


@pytest.mark.parametrize("way", ["recv", "recv_many", "frames", "poll"])
def test_a_turn_that_does_not_come_takes_no_longer_than_the_timeout(context, way):
    busy = Source.open(zmq.PULL, lambda _: work(0.002), bind="inproc://busy", context=context)
    flood = Source.open(zmq.PUSH, connect="inproc://busy", context=context, outbox=10_000)
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    socket = green.Context(context).socket(zmq.PULL)
    socket.bind("inproc://a")
    receiver: Any = Source(socket) if way.startswith("recv") else socket
    calls: dict[str, Any] = {
        "recv": lambda: receiver.recv(timeout=0.02),
        "recv_many": lambda: receiver.recv_many(2, timeout=0.02)[0],
        "frames": lambda: [receiver.recv()],
        "poll": lambda: receiver.poll(20) and [receiver.recv(zmq.NOBLOCK)],
    }
    with closing(busy, flood, sender, receiver):
        for _ in range(10_000):
            flood.send(b"x")
        sender.send(b"first")
        sender.send(b"x")
        assert receiver.recv() in (b"first", [b"first"])
        socket.rcvtimeo = 20
        core: Any = receiver._core.socket if way.startswith("recv") else receiver._shared
        budget = core.budget
        busy.start()
        gevent.sleep(0.02)
        budget.exhausted()
        budget.refill(5, 0.0)
        budget.spend()  # the next one finds that the time is over
        budget.charged = budget.shared._charged + 100  # the busy one comes before it
        greenlet: Any = gevent.spawn(calls[way])
        assert greenlet.get(timeout=10) == [b"x"]
        assert busy.stats().received < 10_000


@pytest.mark.parametrize("way", ["handled", "pulled"])
def test_an_idle_source_has_no_turns_and_no_wakeups(context, way):
    handled: list[list[bytes]] = []
    source = Source.open(
        zmq.PULL, handled.append if way == "handled" else None, bind="inproc://a", context=context
    )
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(source, sender):
        if way == "handled":
            source.start()
            pulling = None
        else:
            pulling = gevent.spawn(source.recv)
        all_blocked()
        before = source.stats()
        all_blocked(20)
        assert source.stats() == before
        assert before.budget_stops == 0
        if pulling is not None:
            pulling.kill()
            with pytest.raises(Empty):
                source.recv(block=False)


def test_a_flusher_yields_whenever_its_budget_is_exhausted(context):
    class Sparing(Source):
        max_messages = 10

    sender = Sparing.open(zmq.PUSH, context=context, sndhwm=0, linger=0)
    for _ in range(200):
        sender.send_nowait(b"x")
    receiver = Source.open(zmq.PULL, bind="inproc://fairness", context=context, rcvhwm=0)
    with closing(sender, receiver):
        assert sender.stats().budget_stops == 0
        sender.socket.connect("inproc://fairness")
        assert sender.flush(timeout=10)
        assert sender.stats().budget_stops >= 9
