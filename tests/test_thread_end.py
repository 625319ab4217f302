"""Threads that end, and hubs that are destroyed, while something of theirs is open."""

import contextlib
import warnings
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.libev import corecext as libev
from gevent.libuv import loop as libuv
from gevent.monkey import get_original
from helpers import endpoint_of, unique_inproc

from gzmqsource import Source, SourceClosed
from gzmqsource._base.hubs import call_in_hub, can_run, wake_hub
from gzmqsource._base.threads import NativeThread
from gzmqsource._source.core import State
from gzmqsource.auth import Authenticator
from gzmqsource.monitor import Monitor
from gzmqsource.testing import in_forked_child, wait_until

_allocate_lock = get_original("_thread", "allocate_lock")

without_libuv = pytest.mark.skipif(
    isinstance(get_hub().loop, libuv.loop),
    reason="gevent cannot destroy a libuv hub in which an I/O watcher is started",
)


class SeenFromElsewhere:
    """A hub as another thread sees it, which has just looked whether it runs."""

    dead = False

    def __init__(self, loop):
        self.loop = loop


def left_open(make, destroys=False):
    """Return what *make* returns in a thread that ends, with the warnings of that."""
    made = []

    def run():
        made.append(make())
        gevent.sleep(0)
        if destroys:
            get_hub().destroy(destroy_loop=True)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        thread = NativeThread(run)
        thread.start()
        thread.join()
        assert thread.error is None
        # The variables of a thread are deleted after its last function has returned.
        wait_until(lambda: made[0].closed)
    return made[0], [str(each.message) for each in warned]


def started(context):
    def make():
        source = Source.open(zmq.PULL, print, bind=unique_inproc(), context=context)
        source.start()
        return source

    return make


def paused(context):
    def make():
        source = started(context)()
        source.pause()
        return source

    return make


def pulled(context):
    def make():
        source = Source.open(zmq.PULL, bind=unique_inproc(), context=context)
        gevent.spawn(source.recv)
        return source

    return make


def waited_for(context):
    def make():
        source = Source.open(zmq.PUSH, bind=unique_inproc(), context=context, outbox=1)
        source.send(b"queued")
        for call in (source.flush, source.serve_forever, lambda: source.send(b"waits")):
            gevent.spawn(call)
        return source

    return make


KINDS = [started, paused, pulled, waited_for]


# Hubs that are destroyed


@pytest.mark.parametrize("loop", [libev, libuv])
def test_a_loop_that_has_just_been_destroyed_is_left_alone(loop):
    hub = SeenFromElsewhere(loop.loop(default=False))
    watcher = hub.loop.async_()
    watcher.start(print)
    hub.loop.destroy()
    assert not call_in_hub(hub, print)
    assert not wake_hub(hub, watcher)
    with contextlib.suppress(ValueError):  # libev's has gone with its loop
        watcher.close()


def test_the_thread_that_calls_counts_nothing_in_the_loop(context):
    """libev counts its timers without the GIL meanwhile, and one of both would be lost."""
    called: list[int] = []
    loop: Any = get_hub().loop
    with contextlib.closing(Source.open(zmq.PUSH, context=context)):
        before = loop.activecnt
        assert call_in_hub(get_hub(), called.append, 1)
        assert loop.activecnt == before
        wait_until(lambda: called == [1])


def test_a_call_is_made_also_if_the_last_socket_of_its_hub_closes_first(context):
    """In a thread of its own, whose hub has no other socket."""
    called: list[int] = []

    def work():
        source = Source.open(zmq.PUSH, context=context)
        assert call_in_hub(get_hub(), called.append, 1)
        source.close()
        wait_until(lambda: called == [1])
        assert call_in_hub(get_hub(), called.append, 2)
        wait_until(lambda: called == [1, 2])
        get_hub().destroy(destroy_loop=True)

    thread = NativeThread(work)
    thread.start()
    thread.join()
    assert thread.error is None
    assert called == [1, 2]


def test_another_thread_starts_no_watcher_in_a_loop_of_libuv():
    called: list[int] = []
    hub = SeenFromElsewhere(libuv.loop(default=False))
    assert call_in_hub(hub, called.append, 1)
    assert not vars(libuv)["libuv"].uv_is_active(hub.loop._timer0)
    hub.loop.run()
    assert called == [1]
    hub.loop.destroy()


def test_hubs_that_are_destroyed_end_the_monitors_of_no_other(context):
    def watch():
        pull = context.socket(zmq.PULL)
        pull.bind("tcp://127.0.0.1:*")
        with contextlib.closing(context.socket(zmq.PUSH)) as push, Monitor(pull) as monitor:
            push.connect(endpoint_of(pull))
            monitor.wait_for("accepted", timeout=10)
        pull.close()
        get_hub().destroy(destroy_loop=True)

    for _ in range(5):
        threads = [NativeThread(watch) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [thread.error for thread in threads] == [None] * 12


@without_libuv
@pytest.mark.parametrize("make", KINDS)
def test_the_end_of_a_context_closes_the_sources_of_a_hub_that_was_destroyed(make):
    context = zmq.Context()
    gate, made = _allocate_lock(), []
    gate.acquire()

    def run():
        made.append(make(context)())
        gevent.sleep(0)
        get_hub().destroy(destroy_loop=True)
        made.append(True)
        gate.acquire()

    thread = NativeThread(run)
    thread.start()
    wait_until(lambda: len(made) == 2)
    context.destroy(0)
    assert made[0].ready()
    gate.release()
    thread.join()
    assert thread.error is None


# Threads that end


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("destroys", [False, pytest.param(True, marks=without_libuv)])
def test_a_source_that_its_thread_leaves_open_is_closed_and_named(make, destroys):
    context = zmq.Context()
    source, warned = left_open(make(context), destroys)
    (named,) = warned
    assert named.startswith("unclosed <Source P")
    assert named.endswith(", whose thread has ended")
    wait_until(source.ready)
    assert source._core.raw.closed
    assert not can_run(source._core.hub)
    context.term()


def test_a_native_thread_that_waits_to_send_is_refused_when_the_thread_of_the_source_ends(context):
    outcome = []

    def wait_to_send(sender):
        try:
            sender.send(b"waits")
        except SourceClosed as error:
            outcome.append(error)

    def make():
        source = Source.open(zmq.PUSH, bind=unique_inproc(), context=context, outbox=1)
        source.send(b"queued")
        sender, outbox = source.sender(), source._core.outbox
        NativeThread(lambda: wait_to_send(sender)).start()
        wait_until(lambda: outbox.lane is not None and outbox.lane.waiting)
        return source

    left_open(make)
    assert wait_until(lambda: outcome)


def test_the_next_authenticator_starts_when_the_thread_of_the_last_has_ended(context):
    class Started(Authenticator):
        @property
        def closed(self):
            return not self.started

    def make():
        authenticator = Started(context)
        authenticator.start()
        return authenticator

    _, (named,) = left_open(make)
    assert named.startswith("unclosed <Source ROUTER inproc://zeromq.zap.01 started>")

    def started_again():
        # libzmq frees the endpoint in a thread of its own.
        with contextlib.suppress(ValueError):
            other = Authenticator(context)
            other.start()
            return other

    wait_until(started_again).stop()


def test_a_forked_child_closes_nothing_of_the_threads_that_it_has_not(context):
    gate = _allocate_lock()
    gate.acquire()
    made = []

    def run():
        made.append(started(context)())
        gate.acquire()
        made[0].close()

    thread = NativeThread(run)
    thread.start()
    wait_until(lambda: made)

    def child():
        assert made[0]._core.state is State.FORKED
        assert not made[0]._core.raw.closed

    in_forked_child(child)
    gate.release()
    thread.join()
    assert thread.error is None


def test_a_source_that_its_thread_has_closed_warns_of_nothing(context):
    def make():
        source = started(context)()
        source.close()
        return source

    assert left_open(make)[1] == []
