"""Handlers that raise, and spawn functions that fail."""

from __future__ import annotations

import contextlib
import itertools
import random

import gevent
from gevent.pool import Pool
from helpers import endpoint_of

from chaos.counting import fault
from chaos.lines import few_lines
from chaos.peer import number_of
from chaos.traffic import COUNT, Peer, held, pull, push
from gzmqsource.testing import wait_until
from gzmqsource.workers import RemoteError, Requester, Responder

#: Peers whose messages no handler can handle, which send as fast as they are read.
MANY = 10

BAD = b"bad"


def refuse(message):
    if message == [BAD]:
        raise ValueError("this message cannot be handled")
    return message


def send_bad(endpoint):
    with held(push(connect=endpoint)) as source:
        while True:
            source.send(BAD)


def ask_bad(endpoint):
    with held(Requester.open(endpoint, linger=0)) as requester:
        while True:
            with contextlib.suppress(RemoteError):
                requester.request(BAD)


@contextlib.contextmanager
def beside(what, source):
    """Have peers do something all the time."""
    greenlets = [gevent.spawn(what, endpoint_of(source)) for _ in range(MANY)]
    try:
        wait_until(lambda: source.stats().errors > MANY)
        yield
    finally:
        gevent.killall(greenlets)


@contextlib.contextmanager
def handled(spawn, handle=refuse):
    """Give a source with a handler, and the numbers of the messages that were handled."""
    numbers = []

    def call(message):
        numbers.append(number_of(handle(message)))

    with held(pull(handle=call, spawn=spawn)) as source:
        source.start()
        yield source, numbers


def until_handled(source, numbers):
    """Have a process send good messages, and wait until all were handled."""
    with contextlib.ExitStack() as stack:
        Peer(stack, "send", "connect", endpoint_of(source))
        wait_until(lambda: len(numbers) >= COUNT, 30)


#: The ways to run a handler, one for each run.
SPAWNS = itertools.cycle([None, 2, Pool(2), gevent.spawn])


@fault("most messages make the handler of a source raise")
def _(tally):
    with few_lines(), handled(next(SPAWNS)) as (source, numbers):
        with beside(send_bad, source):
            until_handled(source, numbers)
        tally.add(COUNT, numbers)


@fault("most requests make the handler of a Responder raise")
def _(tally):
    responder = Responder.open(refuse, bind="tcp://127.0.0.1:*")
    with few_lines(), held(responder), contextlib.ExitStack() as stack:
        responder.start()
        with beside(ask_bad, responder.source):
            honest = Peer(stack, "ask", "connect", endpoint_of(responder.source))
            wait_until(lambda: honest.has_ended, 30)
        stats = responder.stats()
        assert stats.requests == stats.running + stats.replies + stats.errors + stats.undelivered
        tally.add(COUNT, honest.numbers)


def spawn_or_fail(function, *arguments):
    """Fail like one that has no memory, or no place, in one of three calls."""
    if random.random() < 1 / 3:
        raise random.choice([MemoryError, RuntimeError])("not now")
    return gevent.spawn(function, *arguments)


@fault("a spawn function fails in a third of its calls")
def _(tally):
    with few_lines(), handled(spawn_or_fail) as (source, numbers):
        until_handled(source, numbers)
        assert source.stats().errors > COUNT / 10
    tally.add(COUNT, numbers)
