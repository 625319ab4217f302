"""A responder that stops tells its askers, and closes when nothing more is on its way."""

import time

import gevent
import pytest
import zmq
from asking import Asker, Detail, Flag, Header, Kind, key_of, responder_of
from gevent.event import Event
from gevent.monkey import get_original
from gevent.pool import Pool
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource._base.deadline import Deadline
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Responder, _farewell
from gzmqsource.workers._connection import Connection
from gzmqsource.workers._farewell import Farewell

hold_up_hub = get_original("time", "sleep")


class Held:
    """A handler that waits until it is let go, but for ``quick``."""

    def __init__(self):
        self.go_on = Event()

    def __call__(self, payload):
        if payload != [b"quick"]:
            self.go_on.wait()
        return payload


class Polite(Asker):
    """One that answers LEAVING with NOMORE."""

    def _read(self, message):
        super()._read(message)
        if self.heard[-1][0].kind == Kind.LEAVING:
            self.say(Kind.NOMORE)


def test_askers_are_told_and_refused_and_what_was_accepted_is_answered(context):
    held = Held()
    with (
        responder_of(context, held, spawn=1, dead_after=30) as responder,
        Asker(context, responder) as asker,
        Polite(context, responder) as idle,
    ):
        idle.say(Kind.PING, left=1000)
        idle.until_heard(Kind.PONG)
        accepted = [asker.ask(b"%d" % number, flags=Flag.KEEP) for number in range(3)]
        wait_until(lambda: responder.stats().requests == 3)
        stopping = gevent.spawn(responder.stop, 20)
        asker.until_heard(Kind.LEAVING)
        idle.until_heard(Kind.LEAVING)
        for _ in range(3):
            assert asker.wait_for(asker.ask(), Kind.REFUSED) == Detail.LEAVING
        with Polite(context, responder) as late:
            assert late.wait_for(late.ask(), Kind.REFUSED) == Detail.LEAVING
            assert late.count(Kind.LEAVING) == 1
            asker.ask(key=accepted[2])  # it is accepted already, and only asked for again
            wait_until(lambda: responder.stats().duplicates)
            held.go_on.set()
            for number, key in enumerate(accepted):
                assert asker.wait_for(key) == [b"%d" % number]
            all_blocked()
            assert not responder.closed
            asker.say(Kind.NOMORE)
            assert stopping.get(timeout=10) == 0
        stats = responder.stats()
        assert (stats.requests, stats.replies, stats.leaving, stats.duplicates) == (7, 3, 4, 1)
        assert responder.closed


@pytest.mark.parametrize("pings", [True, False])
def test_one_that_is_silent_is_not_waited_for_longer_than_it_may_be_alive(context, pings):
    with (
        responder_of(context, Held(), dead_after=0.2) as responder,
        Asker(context, responder) as asker,
    ):
        asker.wait_for(asker.ask(b"quick"))
        if pings:
            asker.say(Kind.PING, left=100)
            asker.until_heard(Kind.PONG, 2)
        began = time.monotonic()
        assert responder.stop(20) == 0
        assert 0.9 * (0.1 if pings else 0.2) < time.monotonic() - began < 5


def test_one_that_is_heard_is_waited_for(context):
    with (
        responder_of(context, Held(), dead_after=0.2) as responder,
        Asker(context, responder) as asker,
    ):
        asker.wait_for(asker.ask(b"quick"))
        stopping = gevent.spawn(responder.stop, 20)
        for _ in range(20):
            asker.say(Kind.PING, left=200)
            gevent.sleep(0.05)
        assert not stopping.ready()
        asker.say(Kind.NOMORE)
        assert stopping.get(timeout=10) == 0


def test_a_stop_ends_with_a_close_and_counts_what_was_not_answered(context):
    with (
        responder_of(context, Held()) as responder,
        Asker(context, responder) as asker,
    ):
        asker.ask()
        wait_until(lambda: responder.stats().running)
        stopping = gevent.spawn(responder.stop, 60)
        asker.until_heard(Kind.LEAVING)
        responder.close()
        assert stopping.get(timeout=10) == 1


def test_one_whose_connection_is_gone_is_not_waited_for(context):
    with responder_of(context, Held(), dead_after=10) as responder:
        with Asker(context, responder) as asker:
            asker.wait_for(asker.ask(b"quick"))
            name = next(iter(responder._parts.askers._askers))

        def is_gone():
            try:
                responder.source.socket.send_multipart([name, b"x", b""], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                return error.errno == zmq.EHOSTUNREACH
            return False

        wait_until(is_gone)
        began = time.monotonic()
        assert responder.stop(20) == 0
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("spawn", [1, Pool(1), gevent.spawn], ids=["int", "pool", "spawn"])
def test_near_the_end_of_its_time_it_kills_and_tells(context, spawn):
    ended = []

    def handler(payload):
        try:
            Event().wait()
        finally:
            ended.append(payload)

    with responder_of(context, handler, spawn=spawn) as responder:
        asker = Polite(context, responder)
        plain = Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        )
        running = asker.ask()
        wait_until(lambda: responder.stats().running == 1)
        waiting = [asker.ask(b"waits") for _ in range(2)]
        plain.send([b"", b"plain"])
        wait_until(lambda: responder.stats().requests == 4)
        assert responder.stop(0.5) == 4
        assert asker.wait_for(running, Kind.LOST) == Detail.KILLED
        if spawn is not gevent.spawn:
            for key in waiting:
                assert asker.wait_for(key, Kind.REFUSED) == Detail.LEAVING
        stats = responder.stats()
        lost = 4 if spawn is gevent.spawn else 1
        assert (stats.lost, stats.running, stats.waiting) == (lost, 0, 0)
        assert stats.leaving + stats.undelivered == 4 - lost
        assert len(ended) == lost
        asker.close()
        plain.close()


def test_plain_peers_are_answered_until_they_are_quiet(context):
    with responder_of(context, Held()) as responder:
        dealer = Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        )
        dealer.send([b"", b"quick"])
        assert dealer.recv(timeout=10)
        stopping = gevent.spawn(responder.stop, 20)
        for _ in range(10):
            gevent.sleep(0.02)
            dealer.send([b"", b"quick"])
        for _ in range(10):
            assert dealer.recv(timeout=10) == [b"", b"quick"]
        assert stopping.get(timeout=10) == 0
        dealer.close()


def test_plain_peers_that_never_stop_are_answered_for_a_while(context, monkeypatch):
    class UntilAsked(Deadline):
        def left(self):
            return float(responder.stats().requests < 40)

    def deadline(seconds):
        return (UntilAsked if seconds == 0.3 else Deadline)(seconds)

    monkeypatch.setattr(Farewell, "plain_seconds", 0.3)
    monkeypatch.setattr(_farewell, "Deadline", deadline)
    with responder_of(context, Held()) as responder:
        dealer = Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        )

        def ask():
            while True:
                dealer.send([b"", b"quick"])
                gevent.sleep(0.01)

        asking = gevent.spawn(ask)
        wait_until(lambda: responder.stats().requests)
        began = time.monotonic()
        responder.stop(20)
        assert time.monotonic() - began < 5
        stats = responder.stats()
        assert stats.replies == stats.requests >= 40  # more than come in the time of a quiet
        asking.kill()
        dealer.close()


def test_a_plain_peer_that_has_been_quiet_for_long_costs_no_time(context, monkeypatch):
    looks = []
    is_over = Farewell._is_over

    def look(farewell):
        looks.append(1)
        return is_over(farewell)

    monkeypatch.setattr(Farewell, "_is_over", look)
    with responder_of(context, Held()) as responder:
        with Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        ) as dealer:
            dealer.send([b"", b"quick"])
            assert dealer.recv(timeout=10)
        gevent.sleep(0.3)
        assert responder.stop(20) == 0
        assert len(looks) < Farewell.plain_quiet / Farewell.look / 2  # of which each counts twice


def test_one_behind_a_proxy_is_told_again_when_the_last_handler_has_returned(context):
    """It asks others meanwhile, and some of what it asks comes here."""
    held = Held()
    with (
        Source.open(zmq.DEALER, bind="inproc://back", context=context) as back,
        Responder.open(held, connect="inproc://back", context=context) as responder,
    ):
        responder.start()
        quiet_until = 0.0
        heard: list[int] = []

        def read():
            nonlocal quiet_until
            for message in back:
                heard.append(message[1][4])
                if heard[-1] == Kind.LEAVING:
                    quiet_until = time.monotonic() + Connection.hold

        def ask():
            while True:
                if time.monotonic() > quiet_until:
                    back.send([b"client", Header(Kind.ASK, key_of()).encode(), b"", b"quick"])
                gevent.sleep(0.03)

        back.send([b"client", Header(Kind.ASK, key_of()).encode(), b"", b"wait"])
        reading = gevent.spawn(read)
        wait_until(lambda: responder.stats().running)
        asking = gevent.spawn(ask)
        stopping = gevent.spawn(responder.stop, 20)
        wait_until(lambda: heard.count(Kind.REFUSED) > 5)
        assert heard.count(Kind.LEAVING) == 1
        held.go_on.set()
        assert stopping.get(timeout=5) == 0
        assert heard.count(Kind.LEAVING) >= 2
        gevent.killall([asking, reading])


@pytest.mark.parametrize("is_always_late", [False, True])
def test_one_behind_a_proxy_is_told_again_if_the_quiet_came_late(
    context, monkeypatch, is_always_late
):
    """It asks again by then, and its requests would be on their way at the end."""
    monkeypatch.setattr(Farewell, "most_late", 2)
    monkeypatch.setattr(Farewell, "plain_seconds", 3600.0)
    with (
        Source.open(zmq.DEALER, bind="inproc://back", context=context) as back,
        Responder.open(
            Held(), connect="inproc://back", context=context, dead_after=30
        ) as responder,
    ):
        responder.start()
        back.send([b"client", Header(Kind.ASK, key_of()).encode(), b"", b"quick"])
        assert back.recv(timeout=10)
        stopping = gevent.spawn(responder.stop, 25)
        told = 0
        while not stopping.ready():
            if told < 2 or is_always_late:
                hold_up_hub(0.08)  # of which a look counts a half
            gevent.sleep(0.001)
            while int(back.socket.get(zmq.EVENTS)) & zmq.POLLIN:
                told += back.recv(timeout=10)[1][4] == Kind.LEAVING
        assert stopping.get() == 0
        assert responder._farewell._late == 2 if is_always_late else told >= 2


def test_two_that_stop_it_share_the_end(context):
    held = Held()
    with responder_of(context, held) as responder, Polite(context, responder) as asker:
        key = asker.ask()
        wait_until(lambda: responder.stats().running)
        stops = [gevent.spawn(responder.stop, 0.5) for _ in range(2)]
        gevent.joinall(stops, timeout=10)
        assert {each.value for each in stops} == {0, 1}
        asker.wait_for(key, Kind.LOST)
        assert responder.stop() == 0


def test_a_kill_leaves_it_about_to_stop(context):
    held = Held()
    with responder_of(context, held) as responder, Polite(context, responder) as asker:
        key = asker.ask()
        wait_until(lambda: responder.stats().running)
        stopping = gevent.spawn(responder.stop, 20)
        asker.until_heard(Kind.LEAVING)
        stopping.kill()
        assert not responder.closed
        assert asker.wait_for(asker.ask(), Kind.REFUSED) == Detail.LEAVING
        held.go_on.set()
        assert asker.wait_for(key) == [b"x"]
        assert responder.stop(20) == 0
        assert responder.closed


@pytest.mark.parametrize("spawn", [1, Pool(1), gevent.spawn], ids=["int", "pool", "spawn"])
def test_a_handler_may_stop_it(context, spawn):
    stopped = []

    def handler(payload):
        stopped.append(responder.stop(5))
        return payload

    with (
        responder_of(context, handler, spawn=spawn) as responder,
        Polite(context, responder) as asker,
    ):
        key = asker.ask(key=key_of(4))
        assert asker.wait_for(key, Kind.LOST) == Detail.KILLED
        wait_until(lambda: stopped)
        assert stopped == [1]
        assert responder.closed
        wait_until(lambda: not responder.stats().running)
        assert responder.stats().lost == 1


def test_one_that_was_never_started_just_closes(context):
    with responder_of(context, Held()) as running:
        endpoint_of(running.source)
    source = Source.open(zmq.ROUTER, bind="inproc://never", context=context)
    began = time.monotonic()
    assert Responder(source, Held()).stop(20) == 0
    assert time.monotonic() - began < 5


def test_a_kill_of_who_serves_for_ever_leaves_as_a_stop_does(context):
    held = Held()
    responder = Responder.open(held, bind="tcp://127.0.0.1:*", context=context)
    serving = gevent.spawn(responder.serve_forever, 20)
    with Polite(context, responder) as asker:
        key = asker.ask()
        wait_until(lambda: responder.stats().running)
        serving.kill(block=False)
        asker.until_heard(Kind.LEAVING)
        held.go_on.set()
        assert asker.wait_for(key) == [b"x"]
        serving.join(10)
        assert responder.closed


def test_one_whose_source_is_paused_waits_for_nothing_that_it_does_not_read(context):
    with responder_of(context, Held()) as responder, Polite(context, responder) as asker:
        asker.wait_for(asker.ask(b"quick"))
        responder.source.pause()
        began = time.monotonic()
        assert responder.stop(20) == 0
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("spawn", [2, Pool(2), gevent.spawn], ids=["int", "pool", "spawn"])
def test_handlers_that_stop_it_wait_neither_for_each_other_nor_for_what_waits(context, spawn):
    go_on = Event()
    given_up = []

    def stop(payload):
        go_on.wait()
        given_up.append(responder.stop(20))
        return payload

    with (
        responder_of(context, stop, spawn=spawn) as responder,
        Source.open(
            zmq.DEALER, connect=endpoint_of(responder.source), context=context, linger=0
        ) as peer,
    ):
        for _ in range(4):
            peer.send([b"", b"x"])
        wait_until(lambda: responder.stats().requests == 4)
        wait_until(lambda: responder.stats().running == (4 if spawn is gevent.spawn else 2))
        running = responder.stats().running
        go_on.set()
        wait_until(lambda: responder.closed)
        wait_until(lambda: len(given_up) == running)
        assert sum(given_up) == 4
        stats = responder.stats()
        assert (stats.lost, stats.undelivered) == (running, 4 - running)


def test_an_asker_that_goes_without_a_word_is_not_waited_for(context):
    with (
        responder_of(context, lambda payload: payload, dead_after=20) as responder,
        Asker(context, responder) as asker,
    ):
        assert asker.wait_for(asker.ask(b"x")) == [b"x"]
        stopping = gevent.spawn(responder.stop, 15)
        asker.until_heard(Kind.LEAVING)
        asker.close()
        assert stopping.get(timeout=10) == 0


def test_what_comes_after_the_last_look_is_refused(context, monkeypatch):
    """A busy machine may take long from there to the close."""
    with (
        responder_of(context, lambda payload: payload) as responder,
        Polite(context, responder) as asker,
    ):
        assert asker.wait_for(asker.ask(b"before")) == [b"before"]
        core, keys = responder.source._core, []
        flush = core.wait_until_flushed

        def ask_and_flush(timeout):
            keys.append(asker.ask(b"last"))
            wait_until(core.socket.is_readable)
            return flush(timeout)

        monkeypatch.setattr(core, "wait_until_flushed", ask_and_flush)
        assert responder.stop(10) == 0
        assert asker.wait_for(keys[0], Kind.REFUSED) == Detail.LEAVING
        assert not responder.source.stats().dropped
