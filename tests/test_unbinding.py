"""A stop while libzmq's own thread has no time: the connections end later than it has unbound."""

import contextlib
from typing import Any

import gevent
import pytest
import zmq
from gevent.event import Event
from helpers import closing, endpoint_of, free_ports, unique_inproc

from gzmqsource import Source
from gzmqsource.monitor import Monitor
from gzmqsource.testing import wait_until

AGES = 3600


class Quick(Source):
    quiet = 0.01


@contextlib.contextmanager
def held_up(context):
    """Hold up libzmq's thread for the time of the block: it waits for the reader of a monitor.

    Each of its attempts to connect is an event. A timer begins the next one, and that comes before
    what the thread is told. It is told of the first in two steps, one before each of two messages.
    """
    address = unique_inproc()
    kinds = zmq.DEALER, zmq.PAIR, zmq.PUSH, zmq.PULL
    watched, reader, push, pull = sockets = [context.socket(kind) for kind in kinds]
    for each in sockets:
        each.linger = 0

    def passes(timeout):
        push.send(b"x")
        return pull.poll(timeout) and pull.recv()

    pull.bind("tcp://127.0.0.1:*")
    push.connect(endpoint_of(pull))
    assert passes(20_000)
    watched.reconnect_ivl = 1
    watched.connect(f"tcp://127.0.0.1:{free_ports(1)[0]}")
    assert passes(20_000)
    assert passes(20_000)
    watched.monitor(address, zmq.EVENT_ALL)
    while passes(100):
        pass
    try:
        yield
    finally:
        reader.connect(address)
        reader.recv_multipart()
        watched.disable_monitor()
        for each in sockets:
            each.close()


@pytest.fixture(params=[2, gevent.spawn], ids=["workers", "spawned"])
def busy(request, context):
    """A source with a message in a handler, its sender, and what the handler waits for."""
    gate = Event()
    source = Quick.open(
        zmq.PULL,
        lambda _message: gate.wait() and None,
        bind="tcp://127.0.0.1:*",
        context=context,
        spawn=request.param,
    )
    sender = Source.open(zmq.PUSH, connect=endpoint_of(source), context=context, linger=0)
    with closing(source, sender):
        source.start()
        sender.send(b"x")
        wait_until(lambda: source.stats().received)
        yield source, sender, gate


def test_while_handlers_run_the_end_of_a_connection_is_awaited(context, busy):
    source, sender, gate = busy
    with Monitor(source) as own, Monitor(sender) as monitor:
        with held_up(context):
            stopping = gevent.spawn(source.stop, AGES)
            gevent.sleep(0.2)  # the socket was unbound long ago
        monitor.wait_for("disconnected", timeout=20)
        gate.set()
        assert stopping.get(timeout=20) == []
        own.wait_for("closed", timeout=20)
    assert source.stats().dropped == {}


def test_it_is_awaited_that_libzmq_has_unbound(context, busy):
    source, _, gate = busy
    gate.set()
    with held_up(context):
        stopping = gevent.spawn(source.stop, AGES)
        gevent.sleep(0.2)
        assert "draining" in repr(source)
    assert stopping.get(timeout=20) == []


def test_a_stop_whose_time_is_over_does_not_wait_for_libzmq(context, busy):
    source, _, gate = busy
    gate.set()
    with held_up(context):
        assert gevent.spawn(source.stop, 0.1).get(timeout=20) == []
    assert source.closed


def test_a_handler_that_is_killed_is_not_waited_for(context):
    """It has not begun, and so reports no end; another one gets its message."""
    spawned: list[Any] = []
    got: list[list[bytes]] = []

    def spawn(function, message):
        spawned.append(gevent.spawn_later(0 if spawned else AGES, function, message))
        return spawned[-1]

    source = Quick.open(
        zmq.PULL, got.append, bind="tcp://127.0.0.1:*", context=context, spawn=spawn
    )
    sender = Source.open(zmq.PUSH, connect=endpoint_of(source), context=context, linger=0)
    with closing(source, sender):
        source.start()
        sender.send(b"x")
        wait_until(lambda: spawned)
        stopping = gevent.spawn(source.stop, AGES)
        gevent.sleep(0.05)
        spawned[0].kill()
        assert stopping.get(timeout=20) == []
    assert got == [[b"x"]]


def test_a_stop_after_one_that_was_killed_does_not_wait_for_what_is_unbound(context, busy):
    source, sender, gate = busy
    with Monitor(sender) as monitor:
        stopping = gevent.spawn(source.stop, AGES)
        monitor.wait_for("disconnected", timeout=20)
        stopping.kill()
        gate.set()
        assert gevent.spawn(source.stop, AGES).get(timeout=20) == []
