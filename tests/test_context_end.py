"""A context that ends under its sources."""

import contextlib
from collections.abc import Callable

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from helpers import in_thread, pair_of
from uses import USES

from gzmqsource import Source, SourceBroken
from gzmqsource.testing import all_blocked, wait_until

_start_thread = get_original("_thread", "start_new_thread")


@contextlib.contextmanager
def own_context():
    """A context that a test destroys itself."""
    context = zmq.Context()
    try:
        yield context
    except BaseException:
        context.destroy(0)
        raise
    # A thread that ends it may be about to.
    wait_until(lambda: context.closed)


def _destroy(context):
    context.destroy(0)


def _destroy_in_thread(context):
    in_thread(context.destroy, 0)


def _term_in_thread(context):
    # zmq_ctx_term waits until the sockets are closed, so it must not be in the hub.
    _start_thread(context.term, ())


ENDS = {
    "destroy": _destroy,
    "destroy in a thread": _destroy_in_thread,
    "term in a thread": _term_in_thread,
}

ends = pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))


@ends
@pytest.mark.parametrize("waiters", ["recv", "recv(timeout)", "send", "flush", "all"])
def test_a_context_that_ends_underneath_tells_everybody_who_waits(end, waiters):
    with own_context() as context:
        source = Source.open(zmq.DEALER, bind="tcp://127.0.0.1:*", context=context, outbox=1)
        source.send(b"queued")
        all_blocked()
        calls: dict[str, Callable[[], object]] = {
            "recv": source.recv,
            "recv(timeout)": lambda: source.recv(timeout=60),
            "send": lambda: source.send(b"full"),
            "flush": source.flush,
        }
        chosen = list(calls.values()) if waiters == "all" else [calls[waiters]]
        waiting = [gevent.spawn(call) for call in chosen]
        all_blocked()
        end(context)
        gevent.joinall(waiting, timeout=10)
        for greenlet in waiting:
            assert isinstance(greenlet.exception, SourceBroken)
            assert isinstance(greenlet.exception.__cause__, zmq.ZMQError)
            assert "DEALER tcp://127.0.0.1:" in str(greenlet.exception)
        assert source.closed
        with pytest.raises(SourceBroken):
            source.recv()


@ends
def test_a_context_that_ends_underneath_ends_serve_forever(end):
    errors = []
    with own_context() as context:
        source = Source.open(
            zmq.PULL,
            print,
            bind="tcp://127.0.0.1:*",
            context=context,
            on_error=lambda error, message: errors.append((error, message)),
        )
        serving = gevent.spawn(source.serve_forever)
        all_blocked()
        end(context)
        with pytest.raises(SourceBroken):
            serving.get(timeout=10)
        ((error, message),) = errors
        assert isinstance(error, zmq.ZMQError)
        assert message is None


@ends
def test_a_context_that_ends_under_an_idle_source_is_told_at_its_next_use(end):
    with own_context() as context:
        source = Source.open(zmq.DEALER, bind="tcp://127.0.0.1:*", context=context)
        end(context)
        all_blocked()
        with pytest.raises(SourceBroken):
            source.recv()
        for use in USES.values():
            with pytest.raises(SourceBroken):
                use(source)
        with pytest.raises(SourceBroken):
            next(iter(source))


@ends
def test_the_socket_of_a_broken_source_raises_instead_of_crashing(end):
    with own_context() as context:
        source = Source.open(zmq.DEALER, bind="tcp://127.0.0.1:*", context=context)
        owned = source.socket
        waiting = gevent.spawn(source.recv)
        all_blocked()
        end(context)
        with pytest.raises(SourceBroken):
            waiting.get(timeout=10)
        for use in (
            lambda: owned.send(b"message", zmq.NOBLOCK),
            lambda: owned.recv(zmq.NOBLOCK),
            lambda: owned.get(zmq.EVENTS),
            lambda: owned.bind("inproc://late"),
            lambda: zmq.zmq_poll([(owned, zmq.POLLIN)], 0),
        ):
            with pytest.raises(zmq.ZMQError):
                use()


@ends
def test_a_context_that_ends_in_the_middle_of_traffic_is_told_to_both_sides(end):
    with own_context() as context:
        # With the default linger, the end of the context waits for a peer to take what was sent
        # and not read, and here no peer comes back.
        receiver, sender = pair_of(context, "tcp://127.0.0.1:*", linger=0)

        def send():
            while True:
                sender.send(b"message")
                gevent.sleep(0)

        def receive():
            for _ in receiver:
                pass

        both = [gevent.spawn(send), gevent.spawn(receive)]
        wait_until(lambda: receiver.stats().received > 100)
        end(context)
        gevent.joinall(both, timeout=10)
        assert [type(greenlet.exception) for greenlet in both] == [SourceBroken] * 2
