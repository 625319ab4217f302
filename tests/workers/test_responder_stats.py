"""`ResponderStats` adds up, whatever becomes of requests and replies."""

import contextlib
import functools
import random
import time
from collections import Counter
from typing import Any

import asking
import gevent
import pytest
import zmq
from asking import Asker, Kind, key_of
from gevent.event import Event
from gevent.monkey import get_original
from gevent.pool import Pool
from helpers import endpoint_of

from gzmqsource import Source, SourceClosed
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import RequestCancelled, Responder, shield

BIG = b"r" * 20_000

block_hub = get_original("time", "sleep")


def adds_up(responder):
    stats = responder.stats()
    assert min(stats) >= 0, stats
    apart = stats.requests + stats.duplicates + stats.malformed + stats.askers
    assert stats.requests == sum(stats) - apart, stats
    return stats


@contextlib.contextmanager
def responder_of(context, handler, **options):
    responder = Responder.open(
        handler,
        bind="tcp://127.0.0.1:*",
        context=context,
        on_error=lambda *_: None,
        linger=0,
        **options,
    )
    responder.start()
    try:
        yield responder
    finally:
        responder.close()


def dealer_of(context, responder, **options):
    return Source.open(
        zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0, **options
    )


NARROW: Any = {"sndhwm": 1, "sndbuf": 4096}
DEAF: Any = {"rcvhwm": 1, "rcvbuf": 4096}


def test_a_reply_that_is_queued_and_then_refused_is_undelivered(context):
    with responder_of(context, lambda _: BIG, **NARROW) as responder:
        with dealer_of(context, responder, **DEAF) as dealer:
            for _ in range(300):
                dealer.send([b"", b"x"])
            wait_until(lambda: adds_up(responder).requests == 300)
            before = adds_up(responder)
            assert responder.source.stats().outbox_depth > 100
            dealer.close()
        wait_until(lambda: not responder.source.stats().outbox_depth)
        stats = adds_up(responder)
        assert stats.undelivered > before.undelivered + 100
        assert stats.replies == responder.source.stats().sent


def test_an_error_that_is_not_delivered_counts_once(context):
    def fail(_):
        raise ValueError("x" * 20_000)

    with responder_of(context, fail, **NARROW) as responder:
        with dealer_of(context, responder, **DEAF) as dealer:
            for _ in range(300):
                dealer.send([b"", b"x"])
            wait_until(lambda: adds_up(responder).requests == 300)
            dealer.close()
        wait_until(lambda: not responder.source.stats().outbox_depth)
        assert (adds_up(responder).errors, adds_up(responder).replies) == (300, 0)


def test_a_reply_without_room_is_undelivered_and_holds_up_no_other(context, caplog):
    with (
        responder_of(context, lambda _: BIG, outbox=10, **NARROW) as responder,
        dealer_of(context, responder, **DEAF) as deaf,
        dealer_of(context, responder) as dealer,
    ):
        for _ in range(300):
            deaf.send([b"", b"x"])
        wait_until(lambda: adds_up(responder).undelivered > 100)
        dealer.send([b"", b"x"])
        assert dealer.recv(timeout=10) == [b"", BIG]
        adds_up(responder)
    assert "a reply could not be delivered: the peer does not read, peer 0x" in caplog.text


def test_who_has_not_read_its_reply_learns_that_it_is_lost(context):
    with (
        asking.responder_of(
            context, lambda _: BIG, outbox=10, dead_after=0.05, **NARROW
        ) as responder,
        Asker(context, responder, **DEAF) as asker,
    ):
        asker.wait_for(asker.ask())
        asker.source.pause()
        keys = [asker.ask() for _ in range(300)]
        wait_until(lambda: adds_up(responder).requests == 301)
        wait_until(lambda: not adds_up(responder).running)
        undelivered = adds_up(responder).undelivered
        assert undelivered > 100
        asker.source.resume()
        for key in keys:
            wait_until(functools.partial(asker.of, key))
        ends = Counter(header.kind for key in keys for header, _ in asker.of(key))
        assert ends == {Kind.REPLY: 300 - undelivered, Kind.LOST: undelivered}
        assert {header.detail for header, _ in asker.heard if header.kind == Kind.LOST} == {0}


@pytest.mark.parametrize("end", ["stop", "close"])
def test_the_end_of_a_responder_leaves_no_request_uncounted(context, end):
    go_on = Event()

    def handler(payload):
        if payload == [b"wait"]:
            go_on.wait()
        return BIG

    with (
        responder_of(context, handler, **NARROW) as responder,
        dealer_of(context, responder, **DEAF) as dealer,
    ):
        for number in range(200):
            dealer.send([b"", b"x" if number % 10 else b"wait"])
        wait_until(lambda: adds_up(responder).requests == 200)
        wait_until(lambda: adds_up(responder).running == 20)
        if end == "stop":
            responder.stop(0.05)
        else:
            responder.close()
        go_on.set()
        wait_until(lambda: not adds_up(responder).running)
        stats = adds_up(responder)
        assert stats.requests == 200
        assert stats.replies == responder.source.stats().sent
        assert stats.undelivered + stats.lost >= 20
        assert stats.lost == (20 if end == "stop" else 0)


@pytest.mark.parametrize(
    ("overflow", "outbox", "seconds"),
    [("raise", 1000, 1.86), ("block", 1000, 1.86), ("raise", 10, 1.86), ("raise", 1000, 2.1)],
    ids=["its turn", "room", "no room", "closed"],
)
def test_a_reply_that_waits_at_the_end_is_lost_once(context, overflow, outbox, seconds):
    """Its handler has ended, but others go first, or there is no room, until the time is over."""
    go_on, blocks = Event(), iter([seconds])
    errors: list[BaseException] = []

    def handler(_):
        go_on.wait()
        block_hub(next(blocks, 0))  # beyond the time in which the others could send
        return BIG

    source = Source.open(
        zmq.ROUTER,
        bind="tcp://127.0.0.1:*",
        context=context,
        on_error=lambda error, _: errors.append(error),
        linger=0,
        overflow=overflow,
        outbox=outbox,
        router_mandatory=1,
        **NARROW,
    )
    source.max_messages = 1  # before each further reply, its greenlet yields
    responder = Responder(source, handler, gevent.spawn)
    with source, dealer_of(context, responder, **DEAF) as dealer:
        responder.start()
        for _ in range(100):
            dealer.send([b"", b"x"])
        wait_until(lambda: adds_up(responder).running == 100)
        stop = gevent.spawn(responder.stop, 2)
        gevent.idle()
        go_on.set()
        stop.join()
        all_blocked()
        stats = adds_up(responder)
        assert not stats.running
        assert stats.undelivered > 50
        assert stats.lost == 0  # none was killed
        assert stats.replies <= source.stats().sent
    assert not [error for error in errors if isinstance(error, SourceClosed)]


def test_a_cancelled_request_whose_reply_is_dropped_counts_once(context):
    go_on = Event()

    def handler(_):
        with contextlib.suppress(RequestCancelled), shield():
            go_on.wait()
        return BIG

    with asking.responder_of(
        context, handler, spawn=gevent.spawn, dead_after=0.05, **NARROW
    ) as responder:
        with Asker(context, responder, **DEAF) as asker:
            asker.say(Kind.PING, left=50)
            asker.source.pause()
            for _ in range(100):
                asker.ask()
            wait_until(lambda: adds_up(responder).running == 100)
            wait_until(lambda: all(job.is_cancelled for job in responder._handling.running))
            go_on.set()
            wait_until(lambda: not adds_up(responder).running)
            assert adds_up(responder).cancelled == 100
            wait_until(lambda: responder.source.stats().outbox_depth > 50)
        wait_until(lambda: not responder.source.stats().outbox_depth)
        assert adds_up(responder).cancelled == 100


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spawn", [1, 5, "pool", gevent.spawn], ids=["1", "5", "pool", "spawn"])
def test_requests_add_up_in_every_moment(context, spawn, seed):
    """Peers that come, ask, do not read and go; handlers that wait, raise and are killed."""
    chance = random.Random(seed)
    handlers: set[Any] = set()

    def handler(payload):
        what = payload[0]
        adds_up(responder)
        handlers.add(gevent.getcurrent())
        try:
            if what == b"wait":
                gevent.sleep(0.001 + chance.random() / 200)  # what libuv can count
            elif what == b"raise":
                raise ValueError("x" * 10_000)
            elif what == b"exit":
                raise gevent.GreenletExit
            elif what == b"late":
                with gevent.Timeout(0.001):
                    gevent.sleep(60)
            elif what == b"none":
                return None
            elif what == b"yield":
                return (BIG for _ in range(3))
        finally:
            handlers.discard(gevent.getcurrent())
        return BIG

    asked = [b"now", b"wait", b"raise", b"exit", b"late", b"none", b"yield"]
    options = NARROW | {"spawn": Pool(4) if spawn == "pool" else spawn, "outbox": 20}
    dealers: list[Source] = []
    with zmq.Context() as own, responder_of(own, handler, **options) as responder:
        for _ in range(300):
            step = chance.random()
            if step < 0.1 or not dealers:
                deaf = DEAF if chance.random() < 0.5 else {}
                dealers.append(dealer_of(context, responder, **deaf))
            elif step < 0.15:
                dealers.pop(chance.randrange(len(dealers))).close()
            elif step < 0.2 and handlers:
                chance.choice([*handlers]).kill(block=False)
            else:
                with contextlib.suppress(gevent.queue.Full):
                    chance.choice(dealers).send([b"", chance.choice(asked)], block=False)
            gevent.sleep(0)
            adds_up(responder)
        responder.stop(chance.choice([0, 0.01, 0.3]))
        all_blocked()
        wait_until(lambda: not adds_up(responder).running)
    # Once its context has ended: libzmq may abort if both ends are released in one moment.
    for dealer in dealers:
        dealer.close()


def test_what_is_counted_is_collected(context, registry, collector):
    go_on = Event()

    def handler(payload):
        if payload == [b"wait"]:
            go_on.wait()
        return payload

    with (
        asking.responder_of(context, handler, spawn=1, max_waiting=1) as responder,
        Asker(context, responder) as asker,
    ):
        asker.wait_for(asker.ask())
        running, waiting = asker.ask(b"wait"), asker.ask(b"wait")
        asker.wait_for(asker.ask(), Kind.REFUSED)
        asker.ask(key=waiting)
        asker.say(Kind.CANCEL, key_of(99))
        wait_until(lambda: responder.stats().duplicates)

        def collected():
            return {
                sample.name.removeprefix("gzmqsource_responder_"): sample.value
                for family in registry.collect()
                for sample in family.samples
                if "responder" in sample.name and sample.value
            }

        assert collected() == {
            "requests_total": 4,
            "replies_total": 1,
            "running": 1,
            "waiting": 1,
            "refused_full_total": 1,
            "duplicates_total": 1,
            "askers": 1,
        }
        asker.say(Kind.CANCEL, running)
        wait_until(lambda: responder.stats().cancelled)
        assert collected()["cancelled_total"] == 1
        go_on.set()
        asker.wait_for(waiting)


def test_the_time_of_a_handler_is_without_that_of_the_line_after_it(context, registry, collector):
    slept = []

    def handler(payload):
        begun = time.monotonic()
        gevent.sleep(0.01)  # over libuv it may be somewhat less
        slept.append(time.monotonic() - begun)
        return payload

    with (
        asking.responder_of(context, handler, spawn=1) as responder,
        Asker(context, responder) as asker,
    ):
        began = time.monotonic()
        for key in [asker.ask() for _ in range(20)]:
            asker.wait_for(key)
        took = time.monotonic() - began
        (times,) = (family for family in registry.collect() if "handler_sec" in family.name)
        sums = {
            sample.name.rpartition("_")[2]: sample.value
            for sample in times.samples
            if sample.labels["type"] == "ROUTER"
        }
        assert sums["count"] == 20
        assert sum(slept) <= sums["sum"] <= took  # with the line it would be ten times as long
