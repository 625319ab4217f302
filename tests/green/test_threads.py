"""Calls of another thread, while greenlets of a hub wait on the socket, and while none does."""

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from helpers import in_thread
from zmq.sugar.context import Context as PlainContext

from gzmqsource._base.threads import NativeThread, start_thread
from gzmqsource.errors import InvalidThreadUseError
from gzmqsource.testing import all_blocked, wait_until

REFUSED = {
    "get(EVENTS)": lambda _, socket: socket.get(zmq.EVENTS),
    "getsockopt(option=EVENTS)": lambda _, socket: socket.getsockopt(option=zmq.EVENTS),
    "events": lambda _, socket: socket.events,
    "set": lambda _, socket: socket.set(zmq.RCVTIMEO, 1),
    "setsockopt": lambda _, socket: socket.setsockopt(zmq.RCVTIMEO, 1),
    "rcvtimeo": lambda _, socket: setattr(socket, "rcvtimeo", 1),
    "subscribe": lambda _, socket: socket.subscribe(b"topic"),
    "bind": lambda _, socket: socket.bind("inproc://elsewhere"),
    "bind_to_random_port": lambda _, socket: socket.bind_to_random_port("tcp://127.0.0.1"),
    "connect": lambda _, socket: socket.connect("inproc://elsewhere"),
    "unbind": lambda _, socket: socket.unbind("inproc://here"),
    "disconnect": lambda _, socket: socket.disconnect("inproc://here"),
    "recv": lambda _, socket: socket.recv(zmq.NOBLOCK),
    "recv_multipart": lambda _, socket: socket.recv_multipart(zmq.NOBLOCK),
    "send": lambda _, socket: socket.send(b"x", zmq.NOBLOCK),
    "poll": lambda _, socket: socket.poll(0),
    "zmq_poll": lambda green, socket: green.zmq_poll([(socket, zmq.POLLIN)], 0),
    "select": lambda green, socket: green.select([socket], [], [], 0),
}

HARMLESS = {
    "closed": lambda socket: socket.closed,
    "repr": repr,
    "get(TYPE)": lambda socket: socket.get(zmq.TYPE),
    "getsockopt(FD)": lambda socket: socket.getsockopt(zmq.FD),
    "last_endpoint": lambda socket: socket.last_endpoint,
    "rcvhwm": lambda socket: socket.rcvhwm,
    "linger": lambda socket: setattr(socket, "linger", 0),
    "set(LINGER)": lambda socket: socket.set(zmq.LINGER, 0),
    "setsockopt(LINGER)": lambda socket: socket.setsockopt(zmq.LINGER, 0),
    "monitor": lambda socket: socket.monitor("inproc://events"),
    "disable_monitor": lambda socket: socket.disable_monitor(),
}


@pytest.fixture
def sub(context):
    """A SUB that is bound."""
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"")
    socket.bind("inproc://here")
    return socket


@pytest.fixture
def pub(context, sub):
    socket = context.socket(zmq.PUB)
    socket.connect("inproc://here")
    return socket


def wait_elsewhere(socket):
    """Receive in another thread, with a hub of its own; return the thread once it waits."""
    waiting = NativeThread(socket.recv)
    waiting.start()
    wait_until(lambda: socket._shared is not None and bool(socket._shared.readiness.readers))
    return waiting


waits = pytest.mark.parametrize("waits", ["recv", "poll"])


@waits
@pytest.mark.parametrize("call", REFUSED.values(), ids=list(REFUSED))
def test_another_thread_may_not_use_a_socket_on_which_greenlets_wait(green, sub, pub, call, waits):
    waiting = gevent.spawn(getattr(sub, waits))
    all_blocked()
    assert isinstance(in_thread(call, green, sub), InvalidThreadUseError)
    assert sub.rcvtimeo == -1
    assert sub.last_endpoint == b"inproc://here"
    all_blocked()
    pub.send(b"x")
    assert waiting.get(timeout=5) == {"recv": b"x", "poll": zmq.POLLIN}[waits]


@pytest.mark.parametrize("call", HARMLESS.values(), ids=list(HARMLESS))
def test_another_thread_may_make_a_call_that_is_harmless_to_the_greenlets(sub, pub, call):
    waiting = gevent.spawn(sub.recv)
    all_blocked()
    assert not isinstance(in_thread(call, sub), BaseException)
    pub.send(b"x")
    assert waiting.get(timeout=5) == b"x"


@pytest.mark.parametrize("name", ["get(EVENTS)", "bind", "zmq_poll", "select"])
def test_neither_may_it_through_another_object_for_the_socket(green, sub, pub, name):
    shadow = green.Socket(shadow=sub.underlying)
    waiting = gevent.spawn(sub.recv)
    all_blocked()
    assert isinstance(in_thread(REFUSED[name], green, shadow), InvalidThreadUseError)
    waiting.kill()


@pytest.mark.parametrize("name", ["get(EVENTS)", "bind", "recv", "recv_multipart", "send", "poll"])
def test_neither_may_it_through_another_object_that_it_has_used_before(green, sub, pub, name):
    shadow = green.Socket(shadow=sub.underlying)
    assert not shadow.poll(1)
    waiting = wait_elsewhere(sub)
    with pytest.raises(InvalidThreadUseError):
        REFUSED[name](green, shadow)
    pub.send(b"x")
    waiting.join()
    assert waiting.value == b"x"


def test_an_object_takes_no_message_past_the_greenlets_of_the_hub_that_uses_the_socket(
    green, sub, pub
):
    shadow = green.Socket(shadow=sub.underlying)
    assert not shadow.poll(1)
    pub.send(b"x")
    assert shadow.recv() == b"x"
    waiting = wait_elsewhere(sub)
    for receive in (shadow.recv, shadow.recv_multipart, lambda: shadow.recv(copy=False)):
        with pytest.raises(InvalidThreadUseError):
            receive()
    pub.send(b"y")
    waiting.join()
    assert waiting.value == b"y"


@pytest.mark.parametrize("name", ["zmq_poll", "select"])
def test_neither_may_it_poll_a_plain_socket_that_greenlets_poll(green, name):
    with PlainContext() as context, context.socket(zmq.PULL) as socket:
        polling = gevent.spawn(green.zmq_poll, [(socket, zmq.POLLIN)])
        all_blocked()
        assert isinstance(in_thread(REFUSED[name], green, socket), InvalidThreadUseError)
        polling.kill()
        assert in_thread(REFUSED[name], green, socket) in ([], ([], [], []))


@pytest.mark.parametrize("name", ["get(EVENTS)", "events", "set", "connect", "zmq_poll", "select"])
def test_another_thread_may_use_a_socket_on_which_no_greenlet_waits(green, sub, pub, name):
    assert not sub.poll(1)
    assert not isinstance(in_thread(REFUSED[name], green, sub), BaseException)


@pytest.mark.parametrize("name", ["get(EVENTS)", "zmq_poll"])
def test_the_next_poll_sees_a_message_whose_edge_another_thread_has_consumed(
    green, context, sub, pub, name
):
    poller = green.Poller()
    for socket in (sub, *(context.socket(zmq.PULL) for _ in range(12))):
        poller.register(socket, zmq.POLLIN)
    assert poller.poll(1) == []
    pub.send(b"x")
    seen = get_original("_thread", "allocate_lock")()
    seen.acquire()

    def look():
        while REFUSED[name](green, sub) not in (zmq.POLLIN, [(sub, zmq.POLLIN)]):
            pass
        seen.release()

    start_thread(look, ())
    assert seen.acquire(timeout=10)  # the hub stands still, and sees no edge
    assert poller.poll(5000) == [(sub, zmq.POLLIN)]


@pytest.mark.parametrize("name", ["get(EVENTS)", "set", "zmq_poll", "select"])
def test_greenlets_of_a_hub_that_has_ended_do_not_count(green, sub, pub, name):
    def leave_behind():
        waiting = gevent.spawn(sub.recv)
        all_blocked()
        return gevent.get_hub(), waiting

    hub, waiting = in_thread(leave_behind)
    wait_until(lambda: hub.dead)
    assert not isinstance(in_thread(REFUSED[name], green, sub), BaseException)
    REFUSED[name](green, sub)
    sub.rcvtimeo = 5000
    pub.send(b"x")
    assert sub.recv() == b"x"
    del waiting


def test_a_socket_whose_time_to_linger_is_set_by_the_thread_that_closes_it_is_closed(sub):
    waiting = gevent.spawn(sub.recv)
    all_blocked()

    def close():
        sub.setsockopt(zmq.LINGER, 0)
        sub.close()

    closing = gevent.get_hub().threadpool.spawn(close)
    closing.get(timeout=5)
    with pytest.raises(zmq.ZMQError) as caught:
        waiting.get(timeout=5)
    assert caught.value.errno == zmq.ENOTSOCK
