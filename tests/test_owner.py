"""A socket has one owner, in one thread; it may be plain or green."""

import contextlib
import gc
import uuid
import weakref

import gevent
import pytest
import zmq
import zmq.green
from gevent.exceptions import InvalidThreadUseError
from gevent.hub import get_hub
from helpers import closing, endpoint_of, in_thread, pair_of
from uses import uses

from gzmqsource import Source
from gzmqsource.testing import all_blocked

# One owner


def test_a_second_source_on_the_same_socket_is_refused(context):
    raw = context.socket(zmq.PULL)
    with contextlib.closing(Source(raw)) as source:
        for socket in (raw, source.socket):
            with pytest.raises(ValueError, match="belongs to a source already"):
                Source(socket)
        assert not source.closed


@pytest.mark.parametrize("socket", [None, 3, "inproc://x"])
def test_only_a_socket_can_be_owned(socket):
    with pytest.raises(TypeError, match="a source owns"):
        Source(socket)


@uses
def test_another_thread_is_turned_away_at_once(context, use):
    with contextlib.closing(Source.open(zmq.DEALER, context=context)) as source:
        error = in_thread(use, source)
        assert isinstance(error, InvalidThreadUseError)
        assert "sender()" in str(error)
        assert not source.closed


@uses
def test_another_thread_is_turned_away_from_a_busy_source(context, use):
    """For its own hub, each call is a shortcut."""
    receiver, sender = pair_of(context, "inproc://busy")
    with closing(receiver, sender):
        for _ in range(3):
            sender.send(b"x")
        for _ in range(2):
            assert receiver.recv() == [b"x"]
        for source in receiver, sender:
            assert isinstance(in_thread(use, source), InvalidThreadUseError)
        assert receiver.recv() == [b"x"]


@pytest.mark.parametrize("name", ["stop", "close", "serve_forever", "__exit__", "__next__"])
def test_another_thread_cannot_end_or_serve_a_source(context, name):
    with contextlib.closing(Source.open(zmq.DEALER, context=context)) as source:
        calls = {
            "stop": source.stop,
            "close": source.close,
            "serve_forever": source.serve_forever,
            "__exit__": lambda: source.__exit__(None, None, None),
            "__next__": lambda: next(iter(source)),
        }
        assert isinstance(in_thread(calls[name]), InvalidThreadUseError)
        assert not source.closed
        assert source.started


def test_another_threads_hub_is_turned_away_too(context):
    with contextlib.closing(Source.open(zmq.DEALER, context=context)) as source:

        def use():
            hub = get_hub()
            try:
                source.recv(timeout=1)
            finally:
                hub.destroy(destroy_loop=True)

        assert isinstance(in_thread(use), InvalidThreadUseError)


# Plain or green


@pytest.mark.parametrize("kind", [zmq.PULL, zmq.DEALER], ids=lambda kind: kind.name)
def test_a_green_socket_can_be_owned(kind):
    context = zmq.green.Context()
    endpoint = f"inproc://{uuid.uuid4()}"
    peer_kind = zmq.PUSH if kind is zmq.PULL else zmq.DEALER
    raw, peer = context.socket(kind), context.socket(peer_kind)
    with closing(Source(raw), Source(peer)) as (source, other):
        source.socket.bind(endpoint)
        other.socket.connect(endpoint)
        assert endpoint_of(source) == endpoint
        waiting = gevent.spawn(source.recv)
        all_blocked()
        other.send(b"message")
        assert waiting.get(timeout=10) == [b"message"]
        waiting = gevent.spawn(source.recv)
        all_blocked()
        other.send(b"second")
        source.socket.get(zmq.EVENTS)
        assert waiting.get(timeout=10) == [b"second"]
    assert raw.closed
    context.term()


def test_a_dropped_source_of_a_green_socket_is_collected():
    context = zmq.green.Context()
    source = Source(context.socket(zmq.PULL))
    gone = weakref.ref(source)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del source
    assert gone() is None
    gc.collect()
    context.term()
