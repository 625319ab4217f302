"""An exception of a signal handler in the hub while several greenlets or threads wait for it."""

import contextlib
import itertools
import os
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.threadpool import ThreadPool
from helpers import endpoint_of, unique_inproc
from striking import Strike, Strikes, Struck, moments, strike_each

import gzmqsource
import gzmqsource.green as green
from gzmqsource import Source
from gzmqsource._base.hubs import HubCalls, call_in_hub
from gzmqsource._base.lasting import Lasting
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Requester, Responder
from gzmqsource.workers._clock import Clock

if "libuv" in type(get_hub().loop).__module__:
    pytest.skip(
        "gevent aborts if a callback raises that has closed its watcher", allow_module_level=True
    )
pytestmark = pytest.mark.once

PACKAGE = str(Path(gzmqsource.__file__).parent)


@pytest.fixture
def strikes(monkeypatch):
    strikes = Strikes(monkeypatch, (PACKAGE,))
    yield strikes
    strikes.disarm()


def growing(list_of, start, count):
    """Return what starts a form, and whether *count* more are in a list for each start."""
    wanted = 0

    def begin():
        nonlocal wanted
        wanted += count
        start()
        return wanted

    return begin, lambda wanted: len(list_of()) >= wanted


@contextlib.contextmanager
def by_a_crew(context):
    """Handlers of which three have to run at a time."""
    begun: list[Any] = []
    done: list[Any] = []

    def handle(message):
        begun.append(message)
        last = -len(begun) // 3 * -3
        # A strike where Python runs no signal handler may have a message handled twice, so that
        # the last ones are less than three.
        while len(begun) < last and not source.closed:
            gevent.sleep(0.001)
        done.append(message)

    endpoint = unique_inproc()
    source = Source.open(zmq.PULL, handle, bind=endpoint, context=context, spawn=3)
    with context.socket(zmq.PUSH) as sender:
        sender.connect(endpoint)
        source.start()

        def send():
            for _ in range(3):
                sender.send(b"")

        yield growing(lambda: done, send, 3)
        source.close()


@contextlib.contextmanager
def green_senders(context):
    """Greenlets that wait one behind the other for the room of a green socket."""
    endpoint = unique_inproc()
    socket = green.Socket(green.Context(shadow=context.underlying), zmq.PUSH)
    socket.sndhwm = 1
    socket.bind(endpoint)
    sending: list[Any] = []
    with context.socket(zmq.PULL) as receiver:
        receiver.rcvhwm = 1
        receiver.connect(endpoint)

        def send():
            sending.extend(gevent.spawn(socket.send, b"") for _ in range(4))
            gevent.sleep(0.001)

        def sent():
            with contextlib.suppress(zmq.Again):
                while True:
                    receiver.recv(zmq.NOBLOCK)
            return [each for each in sending if each.dead]

        yield growing(sent, send, 4)
        gevent.killall(sending)
        socket.close(linger=0)


@contextlib.contextmanager
def polled(context, sockets=0):
    """A greenlet that polls a pipe, or so many sockets, the last of which gets messages."""
    got: list[Any] = []
    poller = green.Poller()
    with contextlib.ExitStack() as stack:
        receive, send = os.pipe()
        stack.callback(os.close, receive)
        stack.callback(os.close, send)
        if not sockets:
            poller.register(receive, zmq.POLLIN)
        for _ in range(sockets):
            socket = green.Socket(green.Context(shadow=context.underlying), zmq.PULL)
            stack.callback(socket.close, linger=0)
            socket.bind(endpoint := unique_inproc())
            poller.register(socket, zmq.POLLIN)
            sender = stack.enter_context(context.socket(zmq.PUSH))
            sender.connect(endpoint)

        def poll():
            while True:
                for each, _ in poller.poll():
                    got.append(each.recv(zmq.NOBLOCK) if sockets else os.read(receive, 1))

        polling = gevent.spawn(poll)
        all_blocked(1)
        yield growing(lambda: got, lambda: sender.send(b"") if sockets else os.write(send, b"x"), 1)
        polling.kill()


@contextlib.contextmanager
def threads(context, kind, peer, **options):
    """Native threads that wait for room in the outbox of a source."""
    endpoint = unique_inproc()
    source = Source.open(
        kind, bind=endpoint, context=context, sndhwm=1, linger=0, outbox=1, **options
    )
    sender, pool = source.sender(), ThreadPool(3)
    sending: list[Any] = []
    numbers = itertools.count()
    with context.socket(peer) as receiver:
        receiver.rcvhwm = 1
        receiver.routing_id = b"peer"
        receiver.connect(endpoint)
        got: list[Any] = []

        def send():
            for _ in range(3):
                frames = [b"peer", b"%d" % next(numbers)]
                sending.append(pool.spawn(sender.send, frames[kind != zmq.ROUTER :], timeout=20))
            time.sleep(0.001)

        def sent():
            with contextlib.suppress(zmq.Again):
                while True:
                    got.append(receiver.recv(zmq.NOBLOCK))
            return [each for each in sending if each.ready()]

        yield growing(sent, send, 3)
        assert all(each.successful() for each in sending)
        wait_until(lambda: bool(sent()) and len(got) == len(sending))
        assert sorted(got, key=int) == [b"%d" % number for number in range(len(got))]
        source.close()
        pool.kill()


@contextlib.contextmanager
def asking_threads(context):
    """Native threads that ask over a requester of this hub."""
    asked: list[Any] = []

    def answer(body):
        asked.append(b"".join(body))
        return body

    replies: list[Any] = []
    with (
        Responder.open(answer, bind=unique_inproc(), context=context) as responder,
        Requester.open(endpoint_of(responder.source), context=context) as requester,
    ):
        responder.start()
        pool = ThreadPool(1)

        def ask(number):
            try:
                replies.append(requester.request(b"%d" % number, timeout=20))
            except Struck as error:  # it is the requester's error, too
                replies.append(error)

        numbers = itertools.count()
        yield growing(lambda: replies, lambda: pool.spawn(ask, next(numbers)), 1)
        assert len(asked) == len(set(asked))
        pool.kill()


FORMS = {
    "by a crew": (by_a_crew, 1),
    "green senders": (green_senders, 1),
    "polled pipe": (polled, 1),
    "polled sockets": (lambda context: polled(context, 6), 1),
    "threads": (lambda context: threads(context, zmq.PUSH, zmq.PULL), 2),
    "threads, many peers": (
        lambda context: threads(context, zmq.ROUTER, zmq.DEALER, router_mandatory=True),
        2,
    ),
    "asking threads": (asking_threads, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_that_wait_go_on_after_an_exception_in_the_hub(strikes, context, form):
    make, step = FORMS[form]
    with make(context) as made:
        assert strike_each(strikes, made, step=step) > 5


def test_a_call_of_another_thread_is_made_after_an_exception_in_the_hub(strikes, context):
    made: list[Any] = []
    with Source.open(zmq.PULL, bind=unique_inproc(), context=context):  # the hub takes over calls
        pool = ThreadPool(1)

        hub = get_hub()
        begin, has_come = growing(
            lambda: list(dict.fromkeys(made)),
            lambda: pool.spawn(call_in_hub, hub, made.append, time.monotonic()),
            1,
        )
        assert strike_each(strikes, (begin, has_come)) > 5
        assert vars(hub)["gzmqsource_calls"]._begun == {}
        pool.kill()


def test_a_call_that_always_fails_is_made_twice(monkeypatch, told, context):
    with Source.open(zmq.PULL, bind=unique_inproc(), context=context):
        calls: HubCalls = vars(get_hub())["gzmqsource_calls"]
        made: list[Any] = []

        def fail():
            made.append(None)
            raise ZeroDivisionError

        assert calls.add(get_hub().loop, fail, ())
        wait_until(lambda: len(made) == 2)
        all_blocked()
        assert (len(made), len(told)) == (2, 2)


def test_each_deadline_comes_although_a_signal_interrupts_the_clock(monkeypatch):
    monkeypatch.setattr(get_hub(), "handle_error", lambda *_: None)
    monkeypatch.setattr(Lasting, "pause", 0.001)
    whole = Clock._run

    class Call:
        deadline: float | None = None

    def scenario(moment):
        strike = Strike(moment, packages=("/workers/_clock",))
        with monkeypatch.context() as patch:
            patch.setattr(Clock, "_run", lambda clock: strike.around(whole)(clock))
            calls = [Call() for _ in range(4)]
            expired: set[Call] = set()
            clock = Clock(expired.add, lambda calls: None)
            for number, call in enumerate(calls):
                clock.start(call, 0.001 * (number // 2))
            wait_until(lambda: expired == set(calls))
            wait_until(lambda: not clock._runs.is_running)
            assert not clock.calls
        return strike.place

    moments(scenario, at_least=20)


def test_a_lasting_greenlet_goes_on_after_each_exception_until_it_is_killed(monkeypatch):
    monkeypatch.setattr(get_hub(), "handle_error", lambda *_: None)
    monkeypatch.setattr(Lasting, "pause", 0.001)
    runs: list[Any] = []

    def run():
        runs.append(None)
        if len(runs) < 3:
            raise Struck
        gevent.sleep(60)

    lasting = Lasting(run)
    lasting.start()
    wait_until(lambda: len(runs) == 3)
    lasting.start()
    lasting.kill()
    wait_until(lambda: not lasting.is_running)
    gevent.sleep(0.01)
    assert len(runs) == 3
