"""A green socket is released in order: watchers, greenlets that wait, the socket itself."""

import contextlib
import math
from typing import Any

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from helpers import line_of, python_process
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource import green
from gzmqsource._base.oneshot import OneShot
from gzmqsource._base.threads import start_thread
from gzmqsource._socket.hub_socket import HubSocket
from gzmqsource.green._shared import SharedSocket
from gzmqsource.testing import all_blocked, wait_until

WAITS = {
    "recv": lambda socket, others: socket.recv(),
    "poll": lambda socket, others: socket.poll(),
    "poll of many": lambda socket, others: green.zmq_poll(
        [(each, zmq.POLLIN) for each in (socket, *others)]
    ),
}


def watching(readiness):
    """The active watchers of the descriptor of a socket, and the epoll sets that hold it."""
    watchers = [readiness._watcher]
    found = [each for each in watchers if each is not None and each.active]
    for poller in readiness.pollers:
        edges = poller.poll_set._edges
        if edges is not None:
            with contextlib.suppress(FileNotFoundError):
                edges._epoll.modify(poller.fd, zmq.POLLIN)
                found.append(edges)
    return found


@pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))
def test_closing_stops_every_watcher_before_libzmq_closes_the_descriptor(
    context, wait, monkeypatch
):
    green_context: green.Context[Any] = green.Context(shadow=context)
    make = green_context.socket
    with contextlib.ExitStack() as stack:
        socket, *others = (stack.enter_context(make(zmq.PULL)) for _ in range(10))
        waiting = gevent.spawn(wait, socket, others)
        all_blocked()
        readiness = socket._shared.readiness
        assert watching(readiness)
        held = []

        def close(self, linger=None, _close=PlainSocket.close):
            held.append(watching(readiness))
            _close(self, linger)

        monkeypatch.setattr(PlainSocket, "close", close)
        socket.close()
        assert held == [[]]
        with pytest.raises(zmq.ZMQError) as raised:
            waiting.get(timeout=5)
        assert raised.value.errno == zmq.ENOTSOCK


@pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))
def test_greenlets_wait_on_when_a_close_is_refused(context, wait):
    green_context: green.Context[Any] = green.Context(shadow=context)
    make = green_context.socket
    with contextlib.ExitStack() as stack:
        socket, *others = (stack.enter_context(make(zmq.PULL)) for _ in range(10))
        plain = stack.enter_context(PlainSocket(green_context, zmq.PULL))
        waiting = gevent.spawn(wait, socket, others)
        all_blocked()
        refused: list[Any] = [("x", TypeError), (math.nan, ValueError), (2**31, OverflowError)]
        for linger, error in refused:
            for each in (plain, socket):
                with pytest.raises(error):
                    each.close(linger)
        all_blocked()
        assert not socket.closed
        assert not waiting.ready()
        socket.close(-5.5)  # as in pyzmq
        with pytest.raises(zmq.ZMQError) as raised:
            waiting.get(timeout=5)
        assert raised.value.errno == zmq.ENOTSOCK


def test_greenlets_that_poll_on_are_woken_after_another_socket_was_closed(context):
    green_context: green.Context[Any] = green.Context(shadow=context)
    make = green_context.socket
    with make(zmq.PULL) as closing, make(zmq.PULL) as staying, make(zmq.PUSH) as sender:
        staying.bind("inproc://staying")
        sender.connect("inproc://staying")
        poller = green.Poller()
        for each in (closing, staying):
            poller.register(each, zmq.POLLIN)
        polling = [gevent.spawn(poller.poll, 5000) for _ in range(3)]
        all_blocked()
        poller.unregister(closing)
        closing.close()
        all_blocked()
        sender.send(b"x")
        for each in polling:
            assert each.get(timeout=5) == [(staying, zmq.POLLIN)]


CLOSED_IN_A_THREAD = """
import sys, threading
import gevent
import gzmqsource.green as zmq

context = zmq.Context()
for number in range(300):
    socket = context.socket(zmq.PULL)
    socket.bind(f"inproc://{number}")
    ended = []

    def wait():
        try:
            getattr(socket, sys.argv[1])()
        except zmq.ZMQError as error:
            ended.append(error.errno)

    waiting = gevent.spawn(wait)
    gevent.sleep(0)
    while not waiting.dead and not socket._shared.readiness.readers:
        gevent.sleep(0.001)
    thread = threading.Thread(target=socket.close)
    thread.start()
    waiting.join()
    thread.join()
    assert ended == [zmq.ENOTSOCK], ended
print("done")
"""


# In a process of its own, which libzmq would abort.
@pytest.mark.processes
@pytest.mark.limit(120)
@pytest.mark.parametrize("call", ["recv", "recv_multipart"])
def test_a_socket_that_another_thread_closes_is_not_used_meanwhile(call):
    with python_process(CLOSED_IN_A_THREAD, call) as process:
        assert line_of(process) == "done"


CLOSED_BESIDE_A_BLOCKED_HUB = """
import threading
import gevent
import zmq
import gzmqsource.green

context = gzmqsource.green.Context()
socket = context.socket(zmq.PULL)
socket.bind("tcp://127.0.0.1:*")
ended = []

def wait():
    try:
        socket.recv()
    except zmq.ZMQError as error:
        ended.append(error.errno)

waiting = gevent.spawn(wait)
while not (socket._shared and socket._shared.readiness.readers):
    gevent.sleep(0.001)

def close():
    socket.close()
    assert socket.closed
    zmq.Context.term(context)  # which ends once the socket is closed

thread = threading.Thread(target=close)
thread.start()
thread.join()  # threads are not patched: the hub stands still
waiting.join()
assert ended == [zmq.ENOTSOCK], ended
print("done")
"""


@pytest.mark.processes
@pytest.mark.limit(60)
def test_a_thread_that_closes_a_socket_does_not_depend_on_a_hub_that_is_held_up():
    with python_process(CLOSED_BESIDE_A_BLOCKED_HUB) as process:
        assert line_of(process) == "done"


def test_a_hub_that_is_held_up_is_waited_for_once(context, monkeypatch):
    green_context: green.Context[Any] = green.Context(shadow=context)
    sockets = [green_context.socket(zmq.PULL) for _ in range(3)]
    waiting = [gevent.spawn(each.recv) for each in sockets]
    all_blocked()
    waits: list[Any] = []
    monkeypatch.setattr(OneShot, "wait", lambda _, timeout: waits.append(timeout))
    ended = get_original("_thread", "allocate_lock")()
    ended.acquire()

    def close(sockets):
        for each in sockets:
            each.close()
        ended.release()

    start_thread(close, (sockets,))
    assert ended.acquire(timeout=10)  # the hub stands still
    assert waits == [SharedSocket.patience]
    for each in waiting:
        with pytest.raises(zmq.ZMQError):
            each.get(timeout=5)
    later = green_context.socket(zmq.PULL)
    waiting.append(gevent.spawn(later.recv))
    all_blocked()
    start_thread(close, ([later],))
    assert ended.acquire(timeout=10)
    assert waits == [SharedSocket.patience] * 2  # the hub has answered
    waiting[-1].kill()


def test_a_socket_is_closed_when_the_close_of_another_thread_returns(context):
    socket: green.Socket[bytes] = green.Context(shadow=context).socket(zmq.PULL)
    waiting = gevent.spawn(socket.recv)
    all_blocked()
    outcome: list[bool] = []

    def close():
        socket.close()
        outcome.append(socket.closed)

    start_thread(close, ())
    wait_until(lambda: outcome)
    assert outcome == [True]
    with pytest.raises(zmq.ZMQError):
        waiting.get(timeout=5)


def test_the_hub_of_the_greenlets_that_wait_closes_for_another_thread(context):
    pull = context.socket(zmq.PULL)
    owner = HubSocket(pull)
    waiting = gevent.spawn(owner.wait_readable)
    all_blocked()
    get_ident = get_original("_thread", "get_ident")
    closed_in: list[int] = []

    def close():
        closed_in.append(get_ident())
        pull.close()

    start_thread(owner.release, (close,))
    wait_until(lambda: closed_in)
    assert closed_in == [get_ident()]
    waiting.join(5)
    assert waiting.dead


@pytest.mark.parametrize("poll", [green.zmq_poll, green.select], ids=["zmq_poll", "select"])
def test_polling_a_closed_socket_is_an_error(context, poll):
    socket: green.Socket[bytes] = green.Context(shadow=context).socket(zmq.PULL)
    socket.close()
    arguments = [[(socket, zmq.POLLIN)]] if poll is green.zmq_poll else [[socket], [], []]
    with pytest.raises(zmq.ZMQError) as raised:
        poll(*arguments)
    assert raised.value.errno == zmq.ENOTSOCK


def test_a_closed_socket_is_over_before_the_hub_that_used_it_has_stopped_it():
    """libzmq may give its address to a new one, which that hub uses next."""
    allocate_lock = get_original("_thread", "allocate_lock")
    used, looked = allocate_lock(), allocate_lock()
    used.acquire()
    looked.acquire()
    with green.Context() as context:
        sockets = [context.socket(zmq.PUB)]

        def use():
            sockets[0].send(b"x")
            used.release()
            looked.acquire()  # the hub of this thread stands still

        using = gevent.get_hub().threadpool.spawn(use)
        assert used.acquire(timeout=10)
        shared: Any = sockets[0]._shared
        sockets.pop().close()
        assert shared._socket() is None
        assert not shared.readiness.closed
        assert shared.is_over
        looked.release()
        using.get(timeout=5)
