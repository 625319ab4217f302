"""The end of a source: dropped, closed, broken underneath, or touched from elsewhere."""

import contextlib
import gc
import uuid
import warnings
import weakref

import gevent
import pytest
import zmq
import zmq.green
from gevent.exceptions import InvalidThreadUseError
from gevent.hub import get_hub
from gevent.monkey import get_original
from gevent.queue import Empty
from helpers import closing, endpoint_of, pair_of

from gzmqsource import Source, SourceBroken, SourceClosed
from gzmqsource.testing import all_blocked, wait_until

_start_thread = get_original("_thread", "start_new_thread")

PROMPT = 10


def in_thread(function, *arguments):
    """What *function* returned or raised, called in a native thread without a hub."""
    result = []

    def run():
        try:
            result.append(function(*arguments))
        except BaseException as error:
            result.append(error)

    _start_thread(run, ())
    return wait_until(lambda: result)[0]


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
        assert held[0]._core.readiness.wait_readable(0.01) is False
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


def test_a_source_that_failed_to_open_leaves_nothing(context):
    with pytest.raises(TypeError, match="spawn"):
        Source.open(zmq.PULL, print, spawn="nonsense", context=context)
    with pytest.raises(ValueError, match="outbox"):
        Source.open(zmq.PULL, outbox=0, context=context)
    gc.collect()


# Released in order


def test_closing_stops_the_watcher_then_wakes_who_waits_then_closes_the_socket(context):
    source = Source.open(zmq.PULL, context=context)
    readiness, raw = source._core.readiness, source._core.raw
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
    readiness.wake_all = lambda: (order.append("wake"), wake_all())
    readiness._watcher = Spy()
    closing_socket = type(raw).close

    class Spied(type(raw)):
        def close(self, linger=None):
            order.append("close socket")
            closing_socket(self, linger)

    raw.__class__ = Spied
    source.close()
    assert order[:4] == ["stop", "close watcher", "wake", "close socket"]
    assert raw.closed
    with pytest.raises(SourceClosed):
        waiting.get(timeout=PROMPT)


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
    called = []
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
    called = []
    source.rawlink(called.append)
    wait_until(lambda: called == [source])


def test_an_unlinked_callback_is_not_called(context):
    source = Source.open(zmq.PULL, context=context)
    called = []
    source.rawlink(called.append)
    source.unlink(called.append)
    source.unlink(print)
    source.close()
    all_blocked()
    assert called == []


def test_closing_wakes_everybody_who_waits_at_once(context):
    source = Source.open(zmq.DEALER, context=context, outbox=1)
    source.send(b"queued")
    waiting = [gevent.spawn(source.recv) for _ in range(3)]
    waiting += [gevent.spawn(source.send, b"full"), gevent.spawn(source.flush)]
    all_blocked()
    source.close()
    gevent.joinall(waiting, timeout=PROMPT)
    assert [type(greenlet.exception) for greenlet in waiting] == [SourceClosed] * 5


USES = {
    "recv": lambda source: source.recv(),
    "recv(block=False)": lambda source: source.recv(block=False),
    "recv_many": lambda source: source.recv_many(3),
    "send": lambda source: source.send(b"message"),
    "send_nowait": lambda source: source.send_nowait(b"message"),
    "flush": lambda source: source.flush(),
    "sender": lambda source: source.sender(),
    "socket": lambda source: source.socket,
    "pause": lambda source: source.pause(),
    "resume": lambda source: source.resume(),
    "start": lambda source: source.start(),
}
uses = pytest.mark.parametrize("use", USES.values(), ids=list(USES))


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


# Taken away underneath


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
        calls = {
            "recv": source.recv,
            "recv(timeout)": lambda: source.recv(timeout=60),
            "send": lambda: source.send(b"full"),
            "flush": source.flush,
        }
        chosen = list(calls.values()) if waiters == "all" else [calls[waiters]]
        waiting = [gevent.spawn(call) for call in chosen]
        all_blocked()
        end(context)
        gevent.joinall(waiting, timeout=PROMPT)
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
            serving.get(timeout=PROMPT)
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
            waiting.get(timeout=PROMPT)
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
        receiver, sender = pair_of(context, "tcp://127.0.0.1:*")

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
        gevent.joinall(both, timeout=PROMPT)
        assert [type(greenlet.exception) for greenlet in both] == [SourceBroken] * 2


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
        assert waiting.get(timeout=PROMPT) == [b"message"]
        waiting = gevent.spawn(source.recv)
        all_blocked()
        other.send(b"second")
        source.socket.get(zmq.EVENTS)
        assert waiting.get(timeout=PROMPT) == [b"second"]
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
