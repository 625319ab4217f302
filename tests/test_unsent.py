"""What raises out of a send was not sent: many senders with little patience, a slow receiver."""

import itertools
import random
from typing import Any

import gevent
import pytest
import zmq
from gevent import GreenletExit
from gevent.hub import get_hub
from gevent.monkey import get_original
from gevent.queue import Full
from helpers import closing, unique_inproc

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until

_start_thread = get_original("_thread", "start_new_thread")

#: How many messages must have been sent, and how many must have raised.
ENOUGH = 200

PEERS = (b"a", b"b")

#: libuv's timers count in milliseconds, and warn below one.
SHORTEST = 0.001 if "libuv" in type(get_hub().loop).__module__ else 0.0002


class Claims:
    """What the senders say about each message."""

    def __init__(self):
        self.of = {}
        self.count = {True: 0, False: 0}
        self.over = False
        self.running = 0
        self._numbers = itertools.count()
        self._random = random.Random(16)

    @property
    def is_enough(self):
        return min(self.count.values()) >= ENOUGH

    @property
    def are_few_raised(self):
        """Whether the slow receiver is too quick: a send with its own timeout uses late room."""
        return self.count[True] > 2 * self.count[False] + ENOUGH

    def send(self, send, prefix):
        """Send again and again, each time with a little patience."""
        self.running += 1
        try:
            while not self.over:
                key = b"%d" % next(self._numbers)
                try:
                    send([*prefix, key], self._random.uniform(SHORTEST, 0.004))
                except (gevent.Timeout, GreenletExit, Full):
                    self._note(key, False)
                else:
                    self._note(key, True)
        finally:
            self.running -= 1

    def _note(self, key, was_sent):
        self.of[key] = was_sent
        self.count[was_sent] += 1

    def check(self, heard):
        assert len(set(heard)) == len(heard), "doubled"
        lies = [key for key in heard if not self.of[key]]
        assert lies == [], f"{len(lies)} raised, and were delivered"
        lost = {key for key, sent in self.of.items() if sent} - set(heard)
        assert lost == set(), f"{len(lost)} were sent, and not delivered"


def with_a_timeout(send):
    def impatient(message, patience):
        with gevent.Timeout(patience):
            send(message)

    return impatient


def with_a_kill(send):
    def killed(message, patience):
        me: Any = gevent.getcurrent()
        loop: Any = get_hub().loop
        with loop.timer(patience) as timer:
            timer.start(me.throw, GreenletExit)
            send(message)

    return killed


def with_its_own(send):
    return lambda message, patience: send(message, timeout=patience)


in_the_hub = pytest.mark.parametrize("impatient", [with_a_timeout, with_a_kill, with_its_own])


def in_other_hub(work, count):
    def run():
        gevent.joinall([gevent.spawn(work) for _ in range(count)])
        get_hub().destroy(destroy_loop=True)

    _start_thread(run, ())


def in_threads(work, count):
    for _ in range(count):
        _start_thread(work, ())


def in_greenlets(work, count):
    for _ in range(count):
        gevent.spawn(work)


def opened(context, kind):
    """A source with room for one message, and its peers, which read slowly."""
    address = unique_inproc()
    options = {"context": context, "sndhwm": 1, "rcvhwm": 1}
    if kind == "PUSH":
        peers = [Source.open(zmq.PULL, bind=address, **options)]
        source = Source.open(zmq.PUSH, connect=address, outbox=1, **options)
        return source, peers, [()]
    source = Source.open(zmq.ROUTER, bind=address, router_mandatory=1, outbox=1, **options)
    peers = [Source.open(zmq.DEALER, connect=address, routing_id=p, **options) for p in PEERS]
    for peer in peers:
        peer.send(b"here")
        source.recv(timeout=5)
    return source, peers, [(peer,) for peer in PEERS]


def stress(context, kind, impatient, handle, run, count=4):
    source, peers, prefixes = opened(context, kind)
    claims, heard = Claims(), []

    def read(peer):
        pauses = random.Random(1)
        while True:
            heard.append(peer.recv()[-1])
            if not claims.over:
                gevent.sleep(pauses.uniform(SHORTEST, 0.002))
            while claims.are_few_raised and not claims.over:
                gevent.sleep(0.002)

    with closing(source, *peers):
        readers = [gevent.spawn(read, peer) for peer in peers]
        send = impatient(handle(source))
        for prefix in prefixes:
            run(lambda prefix=prefix: claims.send(send, prefix), count)
        try:
            wait_until(lambda: claims.is_enough, 60)
        finally:
            claims.over = True
            wait_until(lambda: not claims.running, 60)
        assert source.flush(10)
        wait_until(lambda: len(heard) >= source.stats().sent)
        all_blocked()
        gevent.killall(readers)
        claims.check(heard)


kinds = pytest.mark.parametrize("kind", ["PUSH", "ROUTER"])


@kinds
@in_the_hub
def test_what_raised_out_of_a_source_was_not_sent(context, kind, impatient):
    stress(context, kind, impatient, lambda source: source.send, in_greenlets)


@in_the_hub
def test_what_raised_out_of_a_sender_was_not_sent(context, impatient):
    stress(context, "PUSH", impatient, lambda source: source.sender().send, in_greenlets)


@kinds
@in_the_hub
def test_what_raised_out_of_a_sender_of_another_hub_was_not_sent(context, kind, impatient):
    stress(context, kind, impatient, lambda source: source.sender().send, in_other_hub)


@kinds
def test_what_timed_out_in_a_native_thread_was_not_sent(context, kind):
    stress(context, kind, with_its_own, lambda source: source.sender().send, in_threads)
