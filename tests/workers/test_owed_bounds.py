"""What there is no room to say is said later, and a peer that does not read fills nothing."""

from typing import Any

import zmq
from asking import Asker, Flag, Header, Kind, key_of, responder_of
from gevent.event import Event
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.testing import wait_until
from gzmqsource.workers._voice import Voice

#: Buffers that are full at once.
NARROW: Any = {"sndhwm": 1, "sndbuf": 4096}
DEAF: Any = {"rcvhwm": 1, "rcvbuf": 4096}


def wait_for_ever(_):
    Event().wait()


def test_what_is_owed_to_one_peer_is_bounded_however_many_routes_it_has(context, monkeypatch):
    monkeypatch.setattr(Voice, "most_owed", 100)
    with (
        responder_of(
            context, wait_for_ever, spawn=1, max_waiting=0, outbox=10, dead_after=0.05, **NARROW
        ) as responder,
        Asker(context, responder) as asker,
        Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0, **DEAF
        ) as deaf,
    ):
        asker.ask()
        wait_until(lambda: responder.stats().running)
        routes = [b"%d" % number + bytes(200) for number in range(3000)]
        for route in routes:
            deaf.send([route, Header(Kind.ASK, key_of()).encode(), b"", b"x"])
        wait_until(lambda: responder.stats().full == 3000)
        # The kernel may have taken some of them by now.
        (owed,) = responder._parts.voice._owed.values()
        assert 0 < len(owed) <= 100
        # Another peer that reads is told, and this one once it reads: the last, in order.
        asker.wait_for(asker.ask(), Kind.REFUSED)
        told = []
        while routes[-1] not in told:
            route, header = deaf.recv(timeout=10)
            if header[4] == Kind.REFUSED:
                told.append(route)
        assert told[-100:] == routes[-100:]
        assert len(told) < 3000
        wait_until(lambda: not responder._parts.voice.owes)


def test_what_is_owed_is_said_in_turns(context, monkeypatch):
    """Others of the hub had to wait for 1.6 s at each tick."""
    with (
        responder_of(
            context, wait_for_ever, spawn=1, max_waiting=0, outbox=10, dead_after=3600, **NARROW
        ) as responder,
        Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0, **DEAF
        ) as deaf,
    ):
        for _ in range(3000):
            deaf.send([Header(Kind.ASK, key_of()).encode(), b"", b"x"])
        wait_until(lambda: responder.stats().full == 2999)
        voice = responder._parts.voice
        assert voice.owes
        yields: list[object] = []
        monkeypatch.setattr("gzmqsource.workers._voice.TURN", 10)
        monkeypatch.setattr("gzmqsource.workers._voice.yield_to_io", yields.append)
        deaf.close()

        def has_paid():
            voice.pay()
            return not voice.owes

        wait_until(has_paid)  # to one that is gone all is said at once
        assert len(yields) > 50


def ask_again_and_read_nothing(responder, asker):
    """Have a reply kept, ask for it 200 times more, and return its key."""
    key = asker.ask(flags=Flag.KEEP)
    asker.wait_for(key)
    asker.source.pause()
    for attempt in range(1, 201):
        asker.ask(key=key, flags=Flag.KEEP, attempt=attempt)
    wait_until(lambda: responder.stats().duplicates == 200)
    return key


def test_who_has_no_room_for_a_reply_that_is_kept_learns_that_it_is_lost(context):
    with (
        responder_of(
            context, lambda _: bytes(20_000), outbox=10, dead_after=0.05, **NARROW
        ) as responder,
        Asker(context, responder, **DEAF) as asker,
    ):
        key = ask_again_and_read_nothing(responder, asker)
        asker.source.resume()
        wait_until(lambda: len(asker.of(key)) == 201)
        assert {header.attempt for header, _ in asker.of(key)} == set(range(201))
        assert len(asker.of(key, Kind.LOST)) > 50
        stats = responder.stats()
        assert (stats.requests, stats.replies, stats.undelivered) == (1, 1, 0)


def test_a_reply_that_is_sent_again_and_lost_was_counted_once(context):
    with (
        responder_of(context, lambda _: bytes(20_000), outbox=100, **NARROW) as responder,
        Asker(context, responder, **DEAF) as asker,
    ):
        ask_again_and_read_nothing(responder, asker)
        assert responder.source.stats().outbox_peak == 100
        asker.close()
        wait_until(lambda: not responder.source.stats().outbox_depth)
        stats = responder.stats()
        assert (stats.requests, stats.replies, stats.undelivered) == (1, 1, 0)
