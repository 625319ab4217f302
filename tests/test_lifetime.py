"""The end of a source: dropped, closed, broken underneath, or touched from elsewhere."""

import contextlib
import gc
import warnings
import weakref
from typing import Any

import gevent
import pytest
import zmq
from gevent.queue import Empty
from helpers import closing, in_thread
from uses import uses

from gzmqsource import Source, SourceClosed
from gzmqsource.auth import Authenticator
from gzmqsource.proxy import Proxy
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Requester, Responder

# Dropped unclosed


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("started", [False, True], ids=["open", "used"])
def test_a_dropped_source_goes_at_once_without_the_collector(context, started):
    raw = context.socket(zmq.DEALER)
    gc.disable()
    try:
        source = Source(raw)
        if started:
            source.socket.bind("tcp://127.0.0.1:*")
            with contextlib.suppress(Empty):
                source.recv(timeout=0.01)
            repr(source)
            source.stats()
        gone = weakref.ref(source)
        core_gone = weakref.ref(source._core)
        del source
        assert gone() is None
        assert raw.closed
        all_blocked()
        assert core_gone() is None
    finally:
        gc.enable()
        raw.close()


def test_a_dropped_source_warns_and_names_itself(context):
    source = Source.open(zmq.PULL, bind="inproc://dropped", context=context)
    with pytest.warns(ResourceWarning, match="unclosed <Source PULL inproc://dropped started>"):
        del source


def test_a_dropped_source_lets_its_endpoint_go(context):
    source = Source.open(zmq.PULL, bind="inproc://again", context=context)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del source

    def bound():
        # libzmq closes in a thread of its own.
        with contextlib.suppress(zmq.ZMQError):
            return Source.open(zmq.PULL, bind="inproc://again", context=context)

    wait_until(bound).close()


@pytest.mark.parametrize("waited", [False, True], ids=["idle", "had a watcher"])
def test_a_source_collected_in_another_thread_closes_its_socket(context, waited):
    raw = context.socket(zmq.PULL)
    held = [Source(raw)]
    if waited:
        assert held[0]._core.socket.readiness.wait_readable(0.01) is False
    with pytest.warns(ResourceWarning, match="unclosed"):
        in_thread(held.clear)
    assert raw.closed
    all_blocked()
    gc.collect()


def test_a_source_that_is_closed_warns_of_nothing(context):
    source = Source.open(zmq.PULL, context=context)
    source.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del source
        gc.collect()


def authenticator(context):
    authenticator = Authenticator(context)
    authenticator.start()
    return authenticator


def proxy(context):
    proxy = Proxy(context.socket(zmq.PULL), context.socket(zmq.PUSH))
    proxy.start()
    return proxy


OWNERS = {
    "authenticator": authenticator,
    "proxy": proxy,
    "requester": lambda context: Requester.open("tcp://127.0.0.1:1", context=context),
    "responder": lambda context: Responder.open(list, bind="tcp://127.0.0.1:*", context=context),
}


@pytest.mark.parametrize("make", OWNERS.values(), ids=OWNERS)
def test_what_owned_a_source_is_garbage_once_it_was_stopped_and_dropped(context, make):
    owner = make(context)
    owner.stop()
    gone = weakref.ref(owner)
    del owner
    all_blocked()
    gc.collect()
    assert gone() is None


def test_a_source_that_failed_to_open_leaves_nothing(context):
    with pytest.raises(TypeError, match="spawn"):
        Source.open(zmq.PULL, print, spawn="none", context=context)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="outbox"):
        Source.open(zmq.PULL, outbox=0, context=context)
    gc.collect()


# Released in order


def test_closing_stops_the_watcher_then_wakes_who_waits_then_closes_the_socket(context):
    source = Source.open(zmq.PULL, context=context)
    readiness, raw = source._core.socket.readiness, source._core.raw
    waiting = gevent.spawn(source.recv)
    all_blocked()
    order = []
    watcher = readiness._watcher

    class Spy:
        def stop(self):
            order.append("stop")
            watcher.stop()

        def close(self):
            order.append("close watcher")
            watcher.close()

    wake_all = readiness.wake_all

    def wake():
        order.append("wake")
        wake_all()

    readiness.wake_all = wake  # type: ignore[method-assign]
    readiness._watcher = Spy()
    closing_socket = type(raw).close

    class Spied(type(raw)):  # type: ignore[misc]  # whatever class that is
        def close(self, linger=None):
            order.append("close socket")
            closing_socket(self, linger)

    raw.__class__ = Spied
    source.close()
    assert order[:4] == ["stop", "close watcher", "wake", "close socket"]
    assert raw.closed
    with pytest.raises(SourceClosed):
        waiting.get(timeout=10)


def test_a_source_is_ready_for_gevent_wait_once_it_is_closed(context):
    with closing(*(Source.open(zmq.PULL, context=context) for _ in range(2))) as (one, other):
        assert gevent.wait([one, other], timeout=0.01) == []
        gevent.spawn(one.close)
        assert gevent.wait([one, other], count=1) == [one]
        assert gevent.wait([one]) == [one]
        assert one.ready()
        assert not other.ready()


def test_a_link_is_called_once_with_the_source_when_it_closes(context):
    source = Source.open(zmq.PULL, context=context)
    called: list[Source] = []
    source.rawlink(called.append)
    all_blocked()
    assert not called
    source.close()
    source.close()
    wait_until(lambda: called)
    all_blocked()
    assert called == [source]


def test_a_link_to_a_closed_source_is_called(context):
    source = Source.open(zmq.PULL, context=context)
    source.close()
    called: list[Source] = []
    source.rawlink(called.append)
    wait_until(lambda: called == [source])


def test_an_unlinked_callback_is_not_called(context):
    source = Source.open(zmq.PULL, context=context)
    called: list[Source] = []
    source.rawlink(called.append)
    source.unlink(called.append)
    source.unlink(print)
    source.close()
    all_blocked()
    assert called == []


def test_a_callback_is_called_once_for_each_link_that_is_left(context):
    source = Source.open(zmq.PULL, context=context)
    called: list[str] = []

    def note(_source):
        called.append("note")

    for _ in range(3):
        source.rawlink(note)
    source.unlink(note)
    source.unlink(note)
    source.close()
    all_blocked()
    assert called == ["note"]
    source.unlink(note)
    source.unlink(note)
    assert not source._links


def test_closing_wakes_everybody_who_waits_at_once(context):
    source = Source.open(zmq.DEALER, context=context, outbox=1)
    source.send(b"queued")
    waiting: list[gevent.Greenlet[..., Any]] = [gevent.spawn(source.recv) for _ in range(3)]
    waiting += [gevent.spawn(source.send, b"full"), gevent.spawn(source.flush)]
    all_blocked()
    source.close()
    gevent.joinall(waiting, timeout=10)
    assert [type(greenlet.exception) for greenlet in waiting] == [SourceClosed] * 5


@uses
def test_a_use_after_close_names_the_source(context, use):
    source = Source.open(zmq.DEALER, bind="inproc://named", context=context)
    source.close()
    with pytest.raises(SourceClosed, match="<Source DEALER inproc://named closed> is closed"):
        use(source)


def test_a_sender_after_close_names_the_source(context):
    source = Source.open(zmq.DEALER, bind="inproc://named", context=context)
    sender = source.sender()
    source.close()
    with pytest.raises(SourceClosed, match="inproc://named"):
        sender.send(b"message")
    assert isinstance(in_thread(sender.send, b"message"), SourceClosed)


def test_what_needs_no_socket_works_after_close(context):
    source = Source.open(zmq.DEALER, context=context)
    source.close()
    source.close()
    assert source.stop() == []
    assert source.closed
    assert not source.started
    assert source.ready()
    assert list(source) == []
    assert source.stats().received == 0
    assert "closed" in repr(source)


@pytest.mark.parametrize("through", ["source", "owned", "original"])
def test_the_socket_of_a_closed_source_raises_instead_of_crashing(context, through):
    raw = context.socket(zmq.DEALER)
    source = Source(raw)
    owned = source.socket
    {"source": source.close, "owned": owned.close, "original": raw.close}[through]()
    wait_until(lambda: source.closed)
    assert raw.closed
    assert owned.closed
    for use in (
        lambda: owned.send(b"message"),
        lambda: owned.recv(zmq.NOBLOCK),
        lambda: owned.get(zmq.EVENTS),
        lambda: owned.bind("inproc://late"),
        lambda: owned.poll(0),
        lambda: zmq.zmq_poll([(owned, zmq.POLLIN)], 0),
    ):
        with pytest.raises(zmq.ZMQError):
            use()
