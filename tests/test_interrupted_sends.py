"""What an exception of a signal handler leaves of a send: nothing, and room for others."""

import contextlib
import itertools
from typing import Any, cast

import gevent
import pytest
import zmq
from gevent.threadpool import ThreadPool
from helpers import closing, is_native_pass
from striking import Strike, Struck, moments

from gzmqsource import Source
from gzmqsource._source.core import Core
from gzmqsource._source.flusher import Flusher
from gzmqsource._source.outbox import Outbox
from gzmqsource.testing import all_blocked

#: The moments of the hub's work are many, so they are parted. All are shown in the native pass, and
#: a quarter of them in each other: the code that is struck is the same there, and sends alike.
PARTS = 8
SHOWN = range(PARTS if is_native_pass() else PARTS // 4)

numbers = itertools.count()

kinds = pytest.mark.parametrize("kind", [zmq.PUSH, zmq.ROUTER], ids=["push", "router"])


class Blocked:
    """A source with messages that its peer has not taken, one of them in its outbox."""

    def __init__(self, context, kind, outbox):
        endpoint = f"inproc://{next(numbers)}"
        options: Any = {"router_mandatory": 1} if kind == zmq.ROUTER else {}
        self.source = Source.open(
            kind, bind=endpoint, context=context, outbox=outbox, sndhwm=1, linger=0, **options
        )
        self.prefix = [b"peer"] if kind == zmq.ROUTER else []
        self.peer = context.socket(zmq.DEALER if self.prefix else zmq.PULL)
        self.peer.setsockopt(zmq.RCVHWM, 1)
        self.peer.setsockopt(zmq.IDENTITY, b"peer")
        self.peer.connect(endpoint)
        self.filled = 0
        if self.prefix:
            self.peer.send(b"hello")
            self.source.recv(timeout=5)
        while not self.source.stats().outbox_depth:
            self.send(b"%d" % self.filled, block=False)
            self.filled += 1

    def message(self, content):
        return [*self.prefix, content]

    def send(self, content, **options):
        self.source.send(self.message(content), **options)

    def drain(self, count):
        """Receive as many messages as *count* returns, or until some time is over."""
        got: list[Any] = []
        with gevent.Timeout(10, cast(Any, False)):
            while len(got) < count():
                gevent.sleep(0.001)
                with contextlib.suppress(zmq.Again):
                    while True:
                        got.append(self.peer.recv(zmq.NOBLOCK))
        return got

    def check(self, wanted):
        """Check that the *wanted* messages come next, each once, and that nothing is left."""
        outbox = self.source._core.outbox
        sending = gevent.spawn(self.send, b"last", timeout=10)
        before = [b"%d" % number for number in range(self.filled)]
        got = self.drain(lambda: self.filled + len(wanted()) + 1)
        assert got[: self.filled] == before
        assert sorted(got[self.filled :]) == sorted([*wanted(), b"last"])
        sending.get(timeout=5)
        assert self.source.flush(5)
        assert not self.drain_now()
        assert not outbox.lanes
        assert not outbox.has_queued
        assert (outbox._bounds.all.total, outbox._bounds.arrived) == (0, 0)
        assert not outbox.lane or (outbox.lane.bytes, len(outbox.lane.waiting)) == (0, 0)

    def drain_now(self):
        with contextlib.suppress(zmq.Again):
            return [self.peer.recv(zmq.NOBLOCK)]
        return []


@contextlib.contextmanager
def blocked(context, kind, outbox):
    each = Blocked(context, kind, outbox)
    with closing(each.source), contextlib.closing(each.peer):
        yield each


@kinds
@pytest.mark.parametrize("waits", [False, True], ids=["queued", "blocked"])
@pytest.mark.parametrize("by", ["source", "sender"])
def test_a_send_that_a_signal_interrupts_has_sent_nothing_and_harms_no_other(
    context, kind, waits, by
):
    def scenario(moment):
        with blocked(context, kind, 1 if waits else 5) as pair:
            strike = Strike(moment, but=("send", "put"))
            send = pair.source.send if by == "source" else pair.source.sender().send

            def interrupted():
                with contextlib.suppress(Struck), strike:
                    send(pair.message(b"mine"), timeout=10)

            victim = gevent.spawn(interrupted)
            all_blocked(1)
            if not waits:
                victim.join(5)
            others = gevent.spawn(pair.send, b"other", timeout=10)
            pair.check(lambda: [b"other"] if strike.place else [b"mine", b"other"])
            gevent.joinall(cast(Any, [victim, others]), timeout=5, raise_error=True)
            assert victim.dead
            return strike.place

    moments(scenario, at_least=30)


@kinds
@pytest.mark.parametrize(
    ("owner", "name"),
    [(Flusher, "_run"), (Outbox, "_wake_putters"), (Core, "accept")],
    ids=["flusher", "putters", "arrivals"],
)
@pytest.mark.parametrize("part", SHOWN)
def test_what_a_signal_interrupts_is_done_later(context, kind, owner, name, part, monkeypatch):
    monkeypatch.setattr(Flusher, "pause", 0.001)
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *_: None)
    whole = getattr(owner, name)
    here = gevent.getcurrent()

    def scenario(moment):
        with blocked(context, kind, 2) as pair:
            strike = Strike(moment)
            sender, pool = pair.source.sender(), ThreadPool(2)

            def struck(*arguments):
                is_here = gevent.getcurrent() is here  # in a flush, which may raise
                return (whole if is_here else strike.around(whole))(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, struck)
                threads = [
                    pool.spawn(sender.send, pair.message(b"thread %d" % number), timeout=10)
                    for number in range(2)
                ]
                greenlets = [
                    gevent.spawn(pair.send, b"greenlet %d" % number, timeout=10)
                    for number in range(2)
                ]
                gevent.sleep(0.002)
                wanted = [b"thread 0", b"thread 1", b"greenlet 0", b"greenlet 1"]
                pair.check(lambda: wanted)
            gevent.joinall([*greenlets], timeout=5, raise_error=True)
            for thread in threads:
                thread.get(timeout=5)
            pool.kill()
            return strike.place

    moments(scenario, at_least=3, first=part, step=PARTS)


@kinds
def test_a_lane_without_messages_that_is_noted_as_queued_holds_up_no_hub(context, kind):
    with blocked(context, kind, 2) as pair:
        pair.drain(lambda: pair.filled)
        assert pair.source.flush(5)
        core = pair.source._core
        key = b"peer" if kind == zmq.ROUTER else None
        core.outbox._lane_of(key)
        core.outbox._queued.add(key)
        core.flush_soon()
        assert pair.source.flush(5)
        pair.filled = 0
        pair.check(list)
