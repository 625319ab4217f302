"""Waiting for a socket: order, timeouts, kills, and what an idle socket costs."""

import contextlib
import os
import time
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import Waiter, get_hub
from gevent.monkey import get_original
from gevent.queue import Empty, Full
from helpers import closing, endpoint_of, pair_of, python_process

from gzmqsource import Source, green
from gzmqsource._socket.budget import yield_to_io
from gzmqsource.testing import all_blocked

_block_hub = get_original("time", "sleep")


@pytest.fixture
def pulled(context, endpoint):
    """A source that is pulled, and one that sends to it."""
    with closing(*pair_of(context, endpoint)) as pair:
        yield pair


def watcher_of(source):
    return source._core.socket.readiness._watcher


def active_watchers():
    """How many watchers, timers among them, keep this hub's loop running."""
    return get_hub().loop.activecnt


class SpiedLoop:
    """A loop that notes the watchers that are made."""

    def __init__(self, made):
        self._loop, self._made = get_hub().loop, made

    def __getattr__(self, name):
        if name in ("io", "timer", "async_", "check", "prepare", "idle"):
            self._made.append(name)
        return getattr(self._loop, name)


class SpiedHub:
    """As much of a hub as a readiness uses, with such a loop; its switches are the real ones."""

    def __init__(self, made):
        self._hub = get_hub()
        self.loop = SpiedLoop(made)

    def __getattr__(self, name):
        return getattr(self._hub, name)


@contextlib.contextmanager
def pipe_watched(on_byte):
    """The writing end of a pipe; each byte in it calls *on_byte* in the hub."""
    reading, writing = os.pipe()
    watcher = get_hub().loop.io(reading, 1)

    def read():
        os.read(reading, 1)
        on_byte()

    watcher.start(read)
    try:
        yield writing
    finally:
        watcher.stop()
        watcher.close()
        os.close(reading)
        os.close(writing)


def test_waiting_readers_are_served_in_the_order_they_came(pulled):
    receiver, sender = pulled
    served = []

    def read(number):
        receiver.recv(timeout=5)
        served.append(number)

    readers = [gevent.spawn(read, number) for number in range(10)]
    all_blocked()
    for _ in range(10):
        sender.send(b"message")
        sender.flush()
    gevent.joinall(readers, raise_error=True)
    assert served == list(range(10))


def test_messages_reach_waiting_readers_in_order_one_each(pulled):
    receiver, sender = pulled
    readers = [gevent.spawn(receiver.recv, timeout=5) for _ in range(10)]
    all_blocked()
    for number in range(10):
        sender.send(b"%d" % number)
    assert [reader.get() for reader in readers] == [[b"%d" % number] for number in range(10)]


def test_a_newcomer_does_not_overtake_a_waiting_reader(pulled):
    receiver, sender = pulled
    sender.send(b"first")
    receiver.recv(timeout=5)
    waiting: gevent.Greenlet[..., Any] = gevent.spawn(receiver.recv, timeout=5)
    all_blocked()
    served = []
    waiting.rawlink(lambda _: served.append("waiting"))

    def take():
        receiver.recv(timeout=5)
        served.append("newcomer")

    sender.send(b"second")
    sender.send(b"third")
    newcomer: gevent.Greenlet[..., Any] = gevent.spawn(take)
    gevent.joinall([waiting, newcomer], raise_error=True)
    assert waiting.get() == [b"second"]


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_waiting_ends_with_empty_when_the_time_is_over(pulled, timeout):
    receiver, sender = pulled
    with pytest.raises(Empty):
        receiver.recv(timeout=timeout)
    assert receiver._core.socket.readiness.waiting == 0
    sender.send(b"message")
    assert receiver.recv(timeout=5) == [b"message"]


def test_a_timeout_is_told_apart_from_an_edge(pulled):
    receiver, sender = pulled
    readiness = receiver._core.socket.readiness
    sender.send(b"message")
    receiver.recv(timeout=5)
    receiver.socket.get(zmq.EVENTS)  # the edges of connecting are spent
    all_blocked()
    assert readiness.wait_readable(0.01) is False
    assert readiness.wait_readable(0) is False
    waiting = gevent.spawn(readiness.wait_readable, 5)
    all_blocked()
    sender.send(b"message")
    assert waiting.get() is True
    receiver.recv(timeout=5)


#: Calls that end without success after 100 ms.
TIMED = {
    "wait_readable": lambda source, socket: source._core.socket.readiness.wait_readable(0.1),
    "send": lambda source, socket: pytest.raises(Full, source.send, b"second", timeout=0.1),
    "green recv": lambda source, socket: pytest.raises(zmq.Again, socket.recv),
    "green poll": lambda source, socket: socket.poll(100),
}


@pytest.mark.parametrize("call", TIMED.values(), ids=list(TIMED))
def test_a_timeout_counts_from_the_call_though_the_hub_was_held_up_before(context, call):
    source = Source.open(zmq.DEALER, context=context, outbox=1)
    green_context: green.Context[green.Socket[bytes]] = green.Context(shadow=context)
    socket = green_context.socket(zmq.PULL)
    socket.rcvtimeo = 100
    with closing(source, socket):
        source.send(b"first")
        all_blocked()
        _block_hub(0.2)
        began = time.monotonic()
        call(source, socket)
        assert time.monotonic() - began > 0.09


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_reader_leaves_the_queue_and_the_message_to_the_next(pulled, killed):
    receiver, sender = pulled
    readers = [gevent.spawn(receiver.recv, timeout=5) for _ in range(3)]
    all_blocked()
    readers.pop(killed).kill()
    assert receiver._core.socket.readiness.waiting == 2
    for number in range(2):
        sender.send(b"%d" % number)
    assert [reader.get() for reader in readers] == [[b"0"], [b"1"]]


@pytest.mark.parametrize("block", [True, False])
def test_a_reader_that_is_killed_as_the_message_comes_loses_nothing(pulled, block):
    receiver, sender = pulled
    received = []

    def read():
        while True:
            received.append(receiver.recv())

    readers = [gevent.spawn(read) for _ in range(3)]
    for number in range(200):
        sender.send(b"%d" % number)
        if number % 2:
            gevent.sleep(0)
        readers.pop(0).kill(block=block)
        readers.append(gevent.spawn(read))
    with contextlib.suppress(gevent.Timeout), gevent.Timeout(10):
        while len(received) < 200:
            gevent.sleep(0.001)
    gevent.killall(readers)
    assert sorted(int(message[0]) for message in received) == list(range(200))


def test_a_reader_that_times_out_as_the_message_comes_loses_nothing(pulled):
    receiver, sender = pulled
    received: list[list[bytes]] = []

    def read():
        while len(received) < 200:
            with contextlib.suppress(Empty):
                received.append(receiver.recv(timeout=0.001))

    readers = [gevent.spawn(read) for _ in range(3)]
    for number in range(200):
        sender.send(b"%d" % number)
        gevent.sleep(0.001)
    gevent.joinall(readers, timeout=10, raise_error=True)
    assert sorted(int(message[0]) for message in received) == list(range(200))


def test_a_foreign_timeout_around_a_receive_loses_nothing(pulled):
    receiver, sender = pulled
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        receiver.recv()
    assert receiver._core.socket.readiness.waiting == 0
    sender.send(b"message")
    assert receiver.recv(timeout=5) == [b"message"]


def test_the_watcher_runs_only_while_somebody_waits(pulled):
    receiver, sender = pulled
    assert watcher_of(receiver) is None
    readers = [gevent.spawn(receiver.recv) for _ in range(2)]
    all_blocked()
    assert watcher_of(receiver).active
    readers[0].kill()
    assert watcher_of(receiver).active
    sender.send(b"message")
    assert readers[1].get(timeout=5) == [b"message"]
    assert not watcher_of(receiver).active
    with pytest.raises(Empty):
        receiver.recv(timeout=0.01)
    assert not watcher_of(receiver).active


def test_a_waiting_reader_makes_one_watcher_and_no_timer(pulled, monkeypatch):
    receiver, _ = pulled
    made: list[str] = []
    monkeypatch.setattr("gzmqsource._socket.readiness.Waiter", lambda hub: Waiter())
    monkeypatch.setattr(receiver._core.socket.readiness, "hub", SpiedHub(made))
    readers = [gevent.spawn(receiver._core.socket.readiness.wait_readable) for _ in range(3)]
    all_blocked()
    assert receiver._core.socket.readiness.waiting == 3
    gevent.killall(readers)
    assert made == ["io"]


def test_a_timed_wait_leaves_no_timer_behind(pulled):
    receiver, sender = pulled
    before = active_watchers()
    waiting = gevent.spawn(receiver.recv, timeout=60)
    all_blocked()
    sender.send(b"message")
    waiting.get(timeout=5)
    killed = gevent.spawn(receiver.recv, timeout=60)
    all_blocked()
    killed.kill()
    assert active_watchers() == before


@pytest.mark.parametrize("kind", [zmq.PULL, zmq.ROUTER, zmq.SUB], ids=lambda kind: kind.name)
def test_an_idle_waiting_source_uses_no_cpu(context, endpoint, kind):
    with contextlib.closing(Source.open(kind, bind=endpoint, context=context)) as source:
        waiting = gevent.spawn(source.recv)
        all_blocked()
        edges = source.stats().wakeups
        begun = time.process_time()
        gevent.sleep(0.2)
        assert time.process_time() - begun < 0.02
        assert source.stats().wakeups == edges
        waiting.kill()


@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.ROUTER], ids=lambda kind: kind.name)
def test_a_blocked_sender_uses_no_cpu(context, endpoint, kind):
    peer_kind = zmq.PULL if kind is zmq.PUSH else zmq.DEALER
    with (
        contextlib.closing(
            Source.open(kind, bind=endpoint, context=context, sndhwm=2, linger=0)
        ) as source,
        context.socket(peer_kind) as peer,
    ):
        peer.linger = 0
        peer.rcvhwm = 2
        peer.connect(endpoint_of(source))
        message = [bytes(1_000_000)]
        if kind is zmq.ROUTER:
            source.socket.set(zmq.ROUTER_MANDATORY, 1)
            peer.send(b"hello")
            message = [source.recv(timeout=5)[0], *message]
        while source.stats().outbox_depth < 3:
            source.send(message)
            gevent.sleep(0.001)
        # Until the kernel's buffers are full too.
        quiet = 0
        while quiet < 20:
            sent = source.stats().sent
            gevent.sleep(0.01)
            quiet = quiet + 1 if source.stats().sent == sent else 0
        begun = time.process_time()
        gevent.sleep(0.2)
        assert time.process_time() - begun < 0.02


def test_let_io_in_lets_other_io_in():
    """Other I/O comes with each yield, where after ``gevent.sleep(0)`` it waits for many."""
    turn = 0
    seen = []
    with pipe_watched(lambda: seen.append(turn)) as writing:
        for turn in range(1, 102):
            if turn % 10 == 0:
                os.write(writing, b"x")
            yield_to_io(get_hub())
    late = [turn - 10 * (number + 1) for number, turn in enumerate(seen)]
    assert len(late) == 10
    assert max(late) <= 1


def test_a_greenlet_that_receives_all_the_time_lets_other_io_in(context, endpoint, monkeypatch):
    monkeypatch.setattr(Source, "max_messages", 10)
    received = 0
    seen = []
    with closing(*pair_of(context, endpoint)) as (receiver, sender):
        for number in range(100):
            sender.send(b"%d" % number)
        receiver.recv(timeout=5)
        with pipe_watched(lambda: seen.append(received)) as writing:
            os.write(writing, b"x")
            for received in range(1, 100):  # noqa: B007
                receiver.recv(timeout=5)
    assert seen
    assert seen[0] < 60  # up to four parts of ten, if the machine pauses between them


ALIVE = """
import sys
import gevent
import zmq
from gzmqsource import Source

how = sys.argv[1]
context = zmq.Context()
options = {"ref": False} if "noref" in how else {}
handle = print if "handler" in how else None
kind = zmq.PUSH if "queued" in how else zmq.PULL
source = Source.open(kind, handle, bind="tcp://127.0.0.1:*", context=context, **options)
if "queued" in how:
    source.send(b"there is no peer")
if "started" in how:
    source.start()
if "waiting" in how:
    gevent.spawn(source.recv)
if "timed" in how:
    gevent.spawn(source.recv, timeout=60)
if "waited" in how:
    gevent.spawn(source.recv, timeout=0.01).join()
print("idle", flush=True)
timeout = float(sys.argv[2])
returned = gevent.get_hub().join(timeout) if "join" in how else gevent.wait(timeout=timeout)
print("over" if returned else "alive", flush=True)
source.close()
context.term()
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("pulled join", "over"),
        ("pulled wait", "over"),
        ("pulled waited", "over"),
        ("waiting", "alive"),
        ("waiting noref", "over"),
        ("timed noref", "over"),
        ("handler", "over"),
        ("handler started", "alive"),
        ("handler started join", "alive"),
        ("handler started noref", "over"),
        ("handler started noref join", "over"),
        ("queued", "alive"),
        ("queued noref", "over"),
    ],
)
def test_only_who_waits_keeps_the_hub_alive(how, expected):
    if "noref" in how and "libuv" in type(get_hub().loop).__module__:
        pytest.skip("gevent's libuv loop makes every I/O watcher keep it running")
    with python_process(ALIVE, how, 10 if expected == "over" else 0.3) as process:
        lines = process.stdout.read().split()
        assert process.wait() == 0
    assert lines == ["idle", expected]
