"""`Proxy`: libzmq's own, on a native thread, controlled from greenlets."""

import contextlib
import time
from collections.abc import Callable

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from gevent.socket import create_connection
from helpers import closing, endpoint_of, free_ports

from gzmqsource import Source, SourceClosed, green
from gzmqsource._base.oneshot import allocate_lock
from gzmqsource._base.threads import NativeThread
from gzmqsource._socket.linger import close_on_thread
from gzmqsource._socket.loops import pause_command
from gzmqsource.auth import Authenticator
from gzmqsource.proxy import Proxy
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Requester, Responder

sleep = get_original("time", "sleep")

IS_435 = zmq.zmq_version_info() >= (4, 3, 5)

#: What libzmq counts of a message of two frames: 4.3.4 counts messages.
COUNTED = 2 if IS_435 else 1

captures = pytest.mark.skipif(not IS_435, reason="libzmq 4.3.4 sends the capture commands, too")


@pytest.fixture
def line(context, endpoint):
    """A started proxy from a PULL to a PUSH, with a source at each end."""
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind(endpoint)
    back.bind("tcp://127.0.0.1:*")
    source = Source.open(zmq.PUSH, connect=endpoint_of(front), context=context, linger=0)
    sink = Source.open(zmq.PULL, connect=endpoint_of(back), context=context)
    proxy = Proxy(front, back)
    with closing(source, sink):
        proxy.start()
        yield proxy, source, sink
        proxy.stop(drain=False)
        assert not proxy.running


def test_it_passes_messages_and_counts_them(line):
    proxy, source, sink = line
    for number in range(1000):
        source.send([b"%d" % number, b"xx"])
    assert [sink.recv(timeout=10) for _ in range(1000)] == [
        [b"%d" % number, b"xx"] for number in range(1000)
    ]
    stats = proxy.stats()
    assert stats.frontend_frames_in == stats.backend_frames_out == 1000 * COUNTED
    assert stats.frontend_bytes_in == stats.backend_bytes_out == 2000 + 2890
    assert stats.frontend_frames_out == stats.backend_frames_in == 0


class RawPeer:
    """A PUSH that has come in by PLAIN, and sends frame by frame (ZMTP 3.0, RFC 23 and 24)."""

    def __init__(self, endpoint, name, password):
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._connection = create_connection((host, int(port)))
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"PLAIN".ljust(20, b"\0") + bytes(32)
        self._exchange(greeting, 64)
        hello = b"\x05HELLO" + bytes([len(name)]) + name + bytes([len(password)]) + password
        self._exchange(b"\x04" + bytes([len(hello)]) + hello, 2 + len(b"\x07WELCOME"))
        initiate = b"\x08INITIATE" + b"\x0bSocket-Type" + b"\x00\x00\x00\x04PUSH"
        self._exchange(b"\x04" + bytes([len(initiate)]) + initiate, 2)

    def send(self, frame, more):
        self._connection.sendall(bytes([more, len(frame)]) + frame)

    def close(self):
        self._connection.close()

    def _exchange(self, data, size):
        self._connection.sendall(data)
        while size > 0:
            size -= len(self._connection.recv(size))


@pytest.mark.parametrize("kind", ["Proxy", "green.proxy"])
def test_a_peer_that_was_let_in_by_name_does_not_end_it(kind):
    """libzmq's loop ends when there is a peer's name, and its first message not as a whole."""
    with zmq.Context() as context, Authenticator(context) as authenticator:
        authenticator.configure_plain(passwords={"ann": "secret"})
        front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        front.plain_server = True
        front.bind("tcp://127.0.0.1:*")
        back.bind("inproc://back")
        endpoint = endpoint_of(front)
        with Source.open(zmq.PULL, connect="inproc://back", context=context) as sink:
            proxy = Proxy(front, back)
            ended: Callable[..., object]
            if kind == "Proxy":
                proxy.start()
                ended = proxy.join
            else:
                ended = gevent.spawn(green.proxy, front, back).join
            with contextlib.closing(RawPeer(endpoint, b"ann", b"secret")) as peer:
                peer.send(b"first", more=True)
                ended(timeout=0.1)
                peer.send(b"last", more=False)
                assert sink.recv(timeout=10) == [b"first", b"last"]
            if kind == "Proxy":
                assert proxy.stats().backend_frames_out == COUNTED
                proxy.stop()
        authenticator.stop()
        context.destroy(0)


def test_paused_it_passes_nothing_until_it_is_resumed(line):
    proxy, source, sink = line
    source.send(b"one")
    sink.recv(timeout=10)
    proxy.pause()
    source.send(b"two")
    with pytest.raises(gevent.queue.Empty):
        sink.recv(timeout=0.1)
    proxy.resume()
    assert sink.recv(timeout=10) == [b"two"]


def test_two_greenlets_may_be_the_first_to_pause(line):
    proxy, source, sink = line
    pause_command.cache_clear()
    pausing = [gevent.spawn(proxy.pause) for _ in range(2)]
    for each in pausing:
        each.get(timeout=10)
    proxy.resume()
    source.send(b"x")
    assert sink.recv(timeout=10) == [b"x"]


def test_a_first_pause_whose_caller_is_killed_takes_effect(line):
    proxy, source, sink = line
    pause_command.cache_clear()
    caller = gevent.spawn(proxy.pause)
    gevent.sleep(0)
    caller.kill()
    assert repr(proxy) == "<Proxy paused>"
    proxy.resume()
    source.send(b"x")
    assert sink.recv(timeout=10) == [b"x"]


def test_it_survives_a_killed_caller(line):
    proxy, source, sink = line
    for _ in range(20):
        for command in (proxy.stats, proxy.pause, proxy.resume):
            caller = gevent.spawn(command)
            gevent.sleep(0)
            caller.kill()
    proxy.resume()
    assert proxy.stats().frontend_frames_in == 0
    source.send(b"x")
    assert sink.recv(timeout=10) == [b"x"]
    assert proxy.stats().frontend_frames_in == 1


def test_the_end_of_its_context_reaches_who_waits():
    context = zmq.Context()
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind("inproc://front")
    proxy = Proxy(front, back)
    proxy.start()
    waiting = gevent.spawn(proxy.join)
    all_blocked()
    context.destroy(linger=0)
    with pytest.raises(zmq.ContextTerminated):
        waiting.get(timeout=10)
    assert not proxy.running
    with pytest.raises((SourceClosed, zmq.ContextTerminated)):
        proxy.stats()
    proxy.stop()


@pytest.fixture
def ending(monkeypatch):
    """A proxy whose context has ended, and whose thread is about to; and a call that lets it."""
    gate = allocate_lock()
    gate.acquire()

    def close(socket, linger):
        with gate:
            close_on_thread(socket, linger)

    monkeypatch.setattr("gzmqsource.proxy.close_on_thread", close)
    context = zmq.Context()
    probe = context.socket(zmq.PAIR)
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind("inproc://front")
    proxy = Proxy(front, back)
    proxy.start()
    terminating = NativeThread(context.term)
    terminating.start()
    with contextlib.suppress(zmq.ContextTerminated):
        while True:  # without the hub, which would notice
            probe.get(zmq.EVENTS)
            sleep(0.001)
    probe.close()
    yield proxy, gate.release
    terminating.join(10)
    assert not terminating.is_alive()


@pytest.mark.parametrize("is_noticed", [True, False], ids=["noticed", "unnoticed"])
def test_a_context_that_ends_is_an_ordinary_end_for_a_stop(ending, is_noticed, told):
    proxy, go_on = ending
    if is_noticed:
        wait_until(lambda: proxy._control.closed)
    stopping = gevent.spawn(proxy.stop, 20)
    all_blocked()
    assert proxy.running
    go_on()
    assert stopping.get(timeout=20)
    all_blocked()
    assert not told


def test_calls_say_that_a_proxy_ends_with_its_context(ending, told):
    proxy, go_on = ending
    for call in (proxy.pause, proxy.stats):
        with pytest.raises(SourceClosed, match="Proxy running> has ended, or is about to"):
            call()
    go_on()
    with pytest.raises(zmq.ContextTerminated):
        proxy.join(20)
    for call in (proxy.pause, proxy.stats):
        with pytest.raises(zmq.ContextTerminated):
            call()
    proxy.stop()
    all_blocked()
    assert not told


def test_requests_go_through_it(context):
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    front.bind("tcp://127.0.0.1:*")
    back.bind("tcp://127.0.0.1:*")
    endpoints = endpoint_of(front), endpoint_of(back)
    with Proxy(front, back):
        responders = [
            Responder.open(lambda payload: payload, connect=endpoints[1], context=context)
            for _ in range(2)
        ]
        for responder in responders:
            responder.start()
        with Requester.open(endpoints[0], context=context) as requester:
            for number in range(100):
                assert requester.request(b"%d" % number, timeout=10) == [b"%d" % number]
        for responder in responders:
            responder.stop()


@captures
def test_a_capture_gets_a_copy_of_everything(context):
    front, back, capture = (context.socket(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.PUSH))
    for socket, endpoint in ((front, "front"), (back, "back"), (capture, "capture")):
        socket.bind(f"inproc://{endpoint}")
    sink = Source.open(zmq.PULL, connect="inproc://back", context=context)
    copies = Source.open(zmq.PULL, connect="inproc://capture", context=context)
    source = Source.open(zmq.PUSH, connect="inproc://front", context=context)
    with closing(sink, copies, source), Proxy(front, back, capture):
        source.send([b"a", b"b"])
        assert sink.recv(timeout=10) == copies.recv(timeout=10) == [b"a", b"b"]


@captures
def test_a_capture_that_takes_no_more_holds_up_a_stop_and_nothing_else(context):
    front, back, capture = (context.socket(kind) for kind in (zmq.PULL, zmq.PUB, zmq.PUSH))
    front.rcvhwm = 1
    front.bind("inproc://front")
    capture.sndhwm = 1
    capture.bind("inproc://capture")
    source = Source.open(zmq.PUSH, connect="inproc://front", context=context, sndhwm=1)
    copies = Source.open(zmq.PULL, connect="inproc://capture", context=context, rcvhwm=1)
    proxy = Proxy(front, back, capture)
    with closing(source, copies):
        proxy.start()
        for _ in range(10):
            source.send(b"x")
        # Two fit before the proxy, two into the capture, and one is in its hand.
        wait_until(lambda: source.stats().sent == 5)
        asking = gevent.spawn(proxy.stats)
        assert not gevent.wait([asking], timeout=0.1)
        assert not proxy.stop(timeout=0.1)
        assert proxy.running
        copied = [copies.recv(timeout=10)]
        assert proxy.join(timeout=0.1) is False
        # It ends by itself now, and leaves nothing open that would hold up its context.
        while not proxy.join(timeout=0.01):
            copied += copies.recv_many(10)
        control = proxy._control
        assert control is not None
        wait_until(lambda: control.closed)
    assert front.closed


def test_it_uses_no_cpu_while_it_is_paused_and_messages_wait(line):
    proxy, source, sink = line
    proxy.pause()
    for _ in range(100):
        source.send(b"x")
    before = time.process_time()
    gevent.sleep(0.3)
    assert time.process_time() - before < 0.1
    proxy.resume()
    assert [sink.recv(timeout=10) for _ in range(100)] == [[b"x"]] * 100


def test_what_passed_before_a_pause_stays_counted(line):
    proxy, source, sink = line
    for number in range(1, 6):
        source.send(b"x")
        sink.recv(timeout=10)
        assert proxy.stats().backend_frames_out == number
        proxy.pause()
        assert repr(proxy) == "<Proxy paused>"
        proxy.pause()
        assert proxy.stats().frontend_frames_in == number
        proxy.resume()
        proxy.resume()
    assert repr(proxy) == "<Proxy running>"


def test_it_stops_while_it_is_paused(line):
    proxy, *_ = line
    proxy.pause()
    assert proxy.stop()
    with pytest.raises(SourceClosed, match="has ended"):
        proxy.resume()


def test_it_is_started_once_and_stopped_often(context):
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    proxy = Proxy(front, back)
    proxy.stop()
    with pytest.raises(SourceClosed, match="start it first"):
        proxy.stats()
    proxy.start()
    with pytest.raises(SourceClosed, match="started before"):
        proxy.start()
    proxy.stop()
    proxy.stop()
    assert front.closed
    assert back.closed
    with pytest.raises(SourceClosed):
        proxy.pause()
    with pytest.raises(TypeError, match="between zmq sockets"):
        Proxy("back", front)  # type: ignore[arg-type]
    owner = Source(context.socket(zmq.PULL))
    with closing(owner), pytest.raises(ValueError, match="belongs to a source"):
        Proxy(owner.socket, front)


def start_new_thread(*_):
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("lacks", ["thread", "socket"])
def test_one_that_cannot_be_started_leaves_its_sockets_to_the_caller(monkeypatch, lacks):
    with zmq.Context() as context:
        if lacks == "socket":
            context.set(zmq.MAX_SOCKETS, 3)
        front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        proxy = Proxy(front, back)
        with monkeypatch.context() as failing:
            if lacks == "thread":
                failing.setattr("gzmqsource._base.threads.start_thread", start_new_thread)
            with pytest.raises((RuntimeError, zmq.ZMQError)):
                proxy.start()
        assert repr(proxy) == "<Proxy not started>"
        for socket in front, back:
            socket.close()
            assert socket.closed
        context.term()  # nothing else is left open


def test_other_greenlets_run_meanwhile(line):
    _, source, sink = line
    pulled: list[list[list[bytes]]] = []
    pulling = gevent.spawn(lambda: pulled.extend(sink.recv_many(1000) for _ in range(3)))
    wait_until(lambda: source.send(b"x") or pulling.ready())
    assert pulled


def test_what_is_on_its_way_passes_before_it_stops(context, monkeypatch):
    monkeypatch.setattr(Source, "quiet", 1.0)  # libzmq's thread may have no time for shorter ones
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind("tcp://127.0.0.1:*")
    back.bind("tcp://127.0.0.1:*")
    source = Source.open(zmq.PUSH, connect=endpoint_of(front), context=context, linger=0)
    sink = Source.open(zmq.PULL, connect=endpoint_of(back), context=context)
    with closing(source, sink):
        proxy = Proxy(front, back)
        proxy.start()
        for number in range(100):  # more than the kernel holds
            source.send([b"%d" % number, bytes(300_000)])
        assert proxy.stop(20)
        assert [int(sink.recv(timeout=5)[0]) for _ in range(100)] == list(range(100))


def test_what_it_cannot_pass_on_is_counted_and_logged(context, caplog):
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind("inproc://front")
    back.bind("inproc://back")
    with closing(Source.open(zmq.PUSH, connect="inproc://front", context=context)) as (source,):
        proxy = Proxy(front, back)
        proxy.start()
        for _ in range(5):
            source.send(b"x")
        assert proxy.stop(5)
        all_blocked()
        assert "5 messages unread, which are lost" in caplog.text


@pytest.mark.usefixtures("long_release")
def test_its_endpoints_are_free_when_it_has_stopped(context, tmp_path):
    ports = free_ports(1)
    for _ in range(10):
        front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        front.bind(f"tcp://127.0.0.1:{ports[0]}")
        back.bind(f"ipc://{tmp_path}/back")
        proxy = Proxy(front, back)
        proxy.start()
        assert proxy.stop(5, drain=False)


def test_a_stop_that_is_killed_while_messages_pass_takes_effect(context):
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.bind("tcp://127.0.0.1:*")
    proxy = Proxy(front, back)
    proxy.start()
    stopping = gevent.spawn(proxy.stop, 3600)
    all_blocked()
    stopping.kill()
    assert proxy.join(timeout=20)
    assert proxy.stop()
