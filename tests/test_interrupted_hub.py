"""An exception that a signal handler raises in the hub, at each instruction of its callbacks."""

import contextlib
import functools
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.queue import Empty, Full
from helpers import endpoint_of, unique_inproc
from striking import Strikes, strike_each

import gzmqsource
import gzmqsource.green as green
from gzmqsource import Source
from gzmqsource._base import waiters
from gzmqsource._base.repairs import Repairs
from gzmqsource.workers import Requester, Responder

if "libuv" in type(get_hub().loop).__module__:
    pytest.skip(
        "gevent aborts if a callback raises that has closed its watcher", allow_module_level=True
    )
pytestmark = pytest.mark.once

PACKAGE = Path(gzmqsource.__file__).parent
TRACED = (str(PACKAGE / "_socket"), str(PACKAGE / "_base"))


@pytest.fixture
def strikes(monkeypatch):
    strikes = Strikes(monkeypatch, TRACED)
    tracing = sys.gettrace()
    if tracing is not None:
        pytest.skip("tracing is in use")
    yield strikes
    strikes.disarm()


@contextlib.contextmanager
def pushing_to(context, **options):
    """A plain socket that sends to a source."""
    endpoint = unique_inproc()
    source = Source.open(zmq.PULL, bind=endpoint, context=context, **options)
    with context.socket(zmq.PUSH) as sender:
        sender.connect(endpoint)
        try:
            yield source, sender
        finally:
            source.close()


def growing(got, start):
    """Return what starts a form, and whether there is more in a list since."""

    def begin():
        start()
        return len(got)

    return begin, lambda before: len(got) > before


@contextlib.contextmanager
def handled(context, count=1, **options):
    got = []

    def handle(message):
        if "spawn" in options:
            gevent.sleep(0)
        got.append(message)

    with pushing_to(context, handle=handle, **options) as (source, sender):
        source.start()

        def send():
            for _ in range(count):
                sender.send(b"")

        yield growing(got, send)


@contextlib.contextmanager
def pulled(context):
    got = []
    with pushing_to(context) as (source, sender):

        def pull():
            while True:
                got.append(source.recv())

        pulling = gevent.spawn(pull)
        yield growing(got, lambda: sender.send(b""))
        pulling.kill()


@contextlib.contextmanager
def crowded(context):
    """Three sources whose handlers use up the slice of the hub."""
    with contextlib.ExitStack() as stack:
        got: list[list[Any]] = [[], [], []]

        def handle(into, message):
            into.append(message)
            ends = time.perf_counter() + 0.0002
            while time.perf_counter() < ends:
                pass

        senders = []
        for into in got:
            source, sender = stack.enter_context(
                pushing_to(context, handle=lambda message, into=into: handle(into, message))
            )
            source.start()
            senders.append(sender)

        def begin():
            for sender in senders:
                for _ in range(4):
                    sender.send(b"")
            return [len(each) for each in got]

        yield (
            begin,
            lambda before: all(len(each) > old for each, old in zip(got, before, strict=True)),
        )


@contextlib.contextmanager
def sending(context, kind=zmq.PUSH, peer=zmq.PULL, **options):
    """A source whose flusher waits for room."""
    endpoint = unique_inproc()
    source = Source.open(
        kind, bind=endpoint, context=context, sndhwm=1, linger=0, outbox=10, **options
    )
    with context.socket(peer) as receiver:
        receiver.rcvhwm = 1
        receiver.routing_id = b"peer"
        receiver.connect(endpoint)
        got = []

        def post():
            with contextlib.suppress(Full):
                for _ in range(20):
                    source.send([b"peer", b""] if kind == zmq.ROUTER else b"", block=False)

        def receive():
            with contextlib.suppress(zmq.Again):
                while True:
                    got.append(receiver.recv(zmq.NOBLOCK))

        def begin():
            post()
            return len(got)

        def has_come(before):
            receive()
            return len(got) > before + 5  # more than libzmq holds

        try:
            yield begin, has_come
        finally:
            source.close()


@contextlib.contextmanager
def polled(context):
    """A greenlet that polls."""
    endpoint = unique_inproc()
    socket = green.Socket(green.Context(shadow=context.underlying), zmq.PULL)
    socket.bind(endpoint)
    got = []
    poller = green.Poller()
    poller.register(socket, zmq.POLLIN)

    def poll():
        while True:
            poller.poll()
            with contextlib.suppress(zmq.Again):
                while True:
                    got.append(socket.recv(zmq.NOBLOCK))

    with context.socket(zmq.PUSH) as sender:
        sender.connect(endpoint)
        polling = gevent.spawn(poll)
        yield growing(got, lambda: sender.send(b""))
        polling.kill()
        socket.close(linger=0)


@contextlib.contextmanager
def requests(context):
    endpoint = unique_inproc()
    replies = []
    responder = Responder.open(lambda body: body, bind=endpoint, context=context)
    responder.start()
    requester = Requester.open(endpoint_of(responder.source), context=context)

    def ask():
        replies.append(requester.request(b"", timeout=30))

    asking = []

    def begin():
        asking.append(gevent.spawn(ask))
        return len(replies) + sum(not each.dead for each in asking) - 1

    yield begin, lambda before: len(replies) > before
    gevent.killall(asking)
    requester.close()
    responder.close()


@contextlib.contextmanager
def timed_out(call, late):
    """A greenlet whose timeout runs out, over and over."""
    ended: list[Any] = []

    def wait():
        while True:
            with contextlib.suppress(late):
                call(timeout=0.001)
            ended.append(None)

    waiting = gevent.spawn(wait)
    yield lambda: len(ended), lambda before: len(ended) > before + 1
    waiting.kill()


@contextlib.contextmanager
def timed_out_receiving(context):
    with pushing_to(context) as (source, _), timed_out(source.recv, Empty) as made:
        yield made


@contextlib.contextmanager
def timed_out_sending(context):
    with Source.open(zmq.PUSH, bind=unique_inproc(), context=context, outbox=1, linger=0) as source:
        source.send(b"")
        with timed_out(functools.partial(source.send, b""), Full) as made:
            yield made


FORMS = {
    "in order": handled,
    "by a crew": lambda context: handled(context, count=8, spawn=5),
    "spawned": lambda context: handled(context, count=8, spawn=gevent.spawn),
    "pulled": pulled,
    "crowded": crowded,
    "sending": sending,
    "sending to any": lambda context: sending(
        context, zmq.ROUTER, zmq.DEALER, router_mandatory=True
    ),
    "polled": polled,
    "requests": requests,
    "timed out receiving": timed_out_receiving,
    "timed out sending": timed_out_sending,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_next_message_comes_after_an_exception_in_the_hub(strikes, context, form, monkeypatch):
    monkeypatch.setattr(waiters, "_AGAIN", 0.005)
    with FORMS[form](context) as made:
        assert strike_each(strikes, made) > 5


@pytest.mark.parametrize("second", [1, 10, 40])
@pytest.mark.parametrize("form", ["in order", "spawned", "pulled", "requests"])
def test_the_next_message_comes_after_another_exception_in_the_repair(
    strikes, context, form, second
):
    with FORMS[form](context) as made:
        assert strike_each(strikes, made, then=(second,)) > 5


def test_an_error_that_stays_is_not_repaired_for_ever(monkeypatch, told):
    class Broken:
        def repair(self):
            raise ZeroDivisionError

    hub, broken = get_hub(), Broken()
    repairs = Repairs(hub)
    repairs.add(broken)
    monkeypatch.setattr(hub.loop, "error_handler", repairs)
    hub.loop.run_callback(lambda: 1 / 0)
    for _ in range(50):
        gevent.sleep(0)
    assert len(told) == 1 + Repairs.patience
