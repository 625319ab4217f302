"""A responder says that its hub lives, and notices askers that do not."""

import time

import gevent
import pytest
import zmq
from asking import Asker, Detail, Flag, Header, Kind, key_of, responder_of
from gevent.event import Event
from gevent.monkey import get_original
from helpers import endpoint_of, python_process

from gzmqsource import Source
from gzmqsource.errors import RequestCancelled
from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder
from gzmqsource.workers._voice import TURN

_sleep = get_original("time", "sleep")

DEAD_AFTER = 0.2


def block(seconds):
    """Hold up the hub."""
    _sleep(seconds)


def wait_for_ever(payload):
    Event().wait()


def test_the_first_header_and_each_ping_are_answered(context):
    with (
        responder_of(context, lambda payload: payload, dead_after=1.5) as responder,
        Asker(context, responder) as asker,
    ):
        asker.say(Kind.PING, left=1000)
        asker.until_heard(Kind.PONG)
        for count in range(2, 6):
            asker.say(Kind.PING, left=1000)
            asker.until_heard(Kind.PONG, count)
        pongs = {header for header, _ in asker.heard}
        (pong,) = pongs
        assert (pong.left, pong.key, pong.flags) == (1500, bytes(16), 0)
        assert 0 < pong.session < 1 << 32
        asker.wait_for(asker.ask())
        assert {header.session for header, _ in asker.heard} == {pong.session}
    with (
        responder_of(context, lambda payload: payload) as responder,
        Asker(context, responder) as asker,
    ):
        key = asker.ask()
        asker.wait_for(key)
        assert [header.kind for header, _ in asker.heard] == [Kind.PONG, Kind.REPLY]
        assert asker.heard[0][0].session != pong.session


@pytest.mark.parametrize("kind", [0, Kind.REPLY, Kind.JOIN, Kind.BYE, Kind.ITEM, 255])
def test_a_header_of_a_kind_that_no_asker_sends_is_ignored(context, kind):
    with (
        responder_of(context, lambda payload: payload) as responder,
        Asker(context, responder) as asker,
    ):
        asker.say(kind)
        asker.ask(kind=kind)
        wait_until(lambda: responder.stats().malformed == 2)
        assert responder.stats().askers == 0
        asker.wait_for(asker.ask())
        assert [header.kind for header, _ in asker.heard] == [Kind.PONG, Kind.REPLY]


@pytest.mark.parametrize("wait", ["running", "waiting"])
def test_who_has_requests_here_hears_that_the_hub_lives_and_nobody_else(context, wait):
    with (
        responder_of(context, wait_for_ever, spawn=1, dead_after=DEAD_AFTER) as responder,
        Asker(context, responder) as asker,
        Asker(context, responder) as other,
        Asker(context, responder) as idle,
    ):
        idle.say(Kind.PING, left=1000)
        idle.until_heard(Kind.PONG)
        if wait == "waiting":
            other.ask()
            wait_until(lambda: responder.stats().running)
        asker.ask()
        began = time.monotonic()
        asker.until_heard(Kind.PONG, 9)
        assert time.monotonic() - began > DEAD_AFTER
        assert idle.count(Kind.PONG) == 1


def test_it_says_nothing_once_nothing_is_outstanding(context):
    with (
        responder_of(context, lambda payload: payload, dead_after=0.02) as responder,
        Asker(context, responder) as asker,
    ):
        for _ in range(3):
            asker.wait_for(asker.ask())
            wait_until(lambda: not responder._reception.is_watched)
        assert asker.count(Kind.PONG) <= 1 + 3 * 2


@pytest.mark.parametrize("wait", ["running", "waiting"])
def test_an_asker_that_has_pinged_and_falls_silent_has_its_requests_cancelled(context, wait):
    with (
        responder_of(context, wait_for_ever, spawn=1, dead_after=DEAD_AFTER) as responder,
        Asker(context, responder) as asker,
        Asker(context, responder) as other,
    ):
        if wait == "waiting":
            other.ask()
            wait_until(lambda: responder.stats().running)
        asker.ask()
        began = time.monotonic()
        asker.say(Kind.PING, left=int(1000 * DEAD_AFTER))
        asker.until_heard(Kind.PONG)
        wait_until(lambda: responder.stats().cancelled == 1)
        assert time.monotonic() - began > 0.9 * DEAD_AFTER
        # The other one has never said that it pings.
        assert responder.stats().running == (wait == "waiting")


def test_an_asker_whose_connection_has_ended_has_its_requests_cancelled(context):
    with (
        responder_of(context, wait_for_ever, spawn=1, dead_after=DEAD_AFTER) as responder,
        Asker(context, responder) as other,
    ):
        with Asker(context, responder) as asker:
            asker.ask()
            asker.ask()
            asker.until_heard(Kind.PONG, 2)
        began = time.monotonic()
        wait_until(lambda: responder.stats().cancelled == 2)
        assert time.monotonic() - began > 0.9 * DEAD_AFTER
        # This one is connected, and need not say anything.
        other.ask()
        other.until_heard(Kind.PONG, 12)
        assert responder.stats().running == 1


ASKING = """
import sys
import gevent
from gzmqsource.workers import Requester
requester = Requester.open(sys.argv[1])
results = [requester.submit(b"x") for _ in range(3)]
gevent.sleep(60)
"""


@pytest.mark.processes
def test_a_process_that_dies_just_after_it_has_asked_has_its_requests_cancelled(context):
    with responder_of(context, wait_for_ever, spawn=2, dead_after=DEAD_AFTER) as responder:
        with python_process(ASKING, endpoint_of(responder.source)):
            wait_until(lambda: responder.stats().requests == 3)
        wait_until(lambda: responder.stats().cancelled == 3)
        assert responder.stats().running == 0


def test_an_asker_that_does_not_ping_and_connects_again_in_time_is_alive(context):
    with responder_of(context, wait_for_ever, dead_after=2) as responder:
        with Asker(context, responder, routing_id=b"me") as asker:
            asker.ask()
            asker.until_heard(Kind.PONG)
        (known,) = responder._parts.askers.all()
        wait_until(lambda: known.silence > 1)
        wait_until(lambda: known.is_unreachable)
        assert known.silence == 0
        with Asker(context, responder, routing_id=b"me") as again:
            again.until_heard(Kind.PONG, 10)
            assert not known.is_unreachable
            assert responder.stats().running == 1


def test_an_asker_that_comes_back_hears_how_each_of_its_requests_has_ended(context):
    with (
        responder_of(context, wait_for_ever, spawn=1, dead_after=DEAD_AFTER) as responder,
        Asker(context, responder) as asker,
    ):
        runs, waits = asker.ask(), asker.ask()
        asker.say(Kind.PING, left=int(1000 * DEAD_AFTER))
        assert asker.wait_for(waits, Kind.REFUSED) == Detail.NONE
        assert asker.wait_for(runs, Kind.LOST) == Detail.KILLED
        assert responder.stats().cancelled == 2


def test_a_reply_that_is_made_nonetheless_goes_to_an_asker_that_comes_back(context):
    def handle(payload):
        try:
            Event().wait()
        except RequestCancelled:
            return b"made"

    with (
        responder_of(context, handle, dead_after=DEAD_AFTER) as responder,
        Asker(context, responder) as asker,
    ):
        key = asker.ask()
        asker.say(Kind.PING, left=int(1000 * DEAD_AFTER))
        assert asker.wait_for(key) == [b"made"]
        assert responder.stats().cancelled == 1


def test_an_asker_that_goes_on_to_ping_is_alive(context):
    with (
        responder_of(context, wait_for_ever, dead_after=DEAD_AFTER) as responder,
        Asker(context, responder) as asker,
    ):
        asker.ask()
        for _ in range(20):
            asker.say(Kind.PING, left=int(1000 * DEAD_AFTER))
            gevent.sleep(DEAD_AFTER / 4)
        assert responder.stats().running == 1
        assert responder.stats().cancelled == 0


def test_a_hub_that_was_held_up_accuses_nobody(context):
    with (
        responder_of(context, wait_for_ever, dead_after=DEAD_AFTER) as responder,
        Asker(context, responder) as asker,
    ):
        asker.ask()
        asker.say(Kind.PING, left=int(1000 * DEAD_AFTER))
        asker.until_heard(Kind.PONG)
        for _ in range(5):
            block(3 * DEAD_AFTER)
            # It has been heard by when the hub has had a turn or two.
            asker.say(Kind.PING, left=int(1000 * DEAD_AFTER))
            before = asker.count(Kind.PONG)
            asker.until_heard(Kind.PONG, before + 1)
        assert responder.stats().cancelled == 0


def test_silence_counts_only_while_all_that_is_there_is_read(context):
    """What an asker says lies in libzmq while 100 others have their turn, for 200 ms."""

    def handler(payload):
        if payload == [b"wait"]:
            Event().wait()
        block(0.002)
        return payload

    with (
        responder_of(context, handler, dead_after=0.08) as responder,
        Asker(context, responder) as asker,
    ):
        asker.ask(b"wait")
        asker.say(Kind.PING, left=80)
        asker.until_heard(Kind.PONG)
        others = [context.socket(zmq.DEALER) for _ in range(100)]
        for other in others:
            other.linger = 0
            other.connect(endpoint_of(responder.source))
            for _ in range(4):
                other.send_multipart([b"", b"x"])
        while responder.stats().requests < 1 + 100 * 4:
            asker.say(Kind.PING, left=80)
            gevent.sleep(0.005)
        assert responder.stats().cancelled == 0
        for other in others:
            other.close()


def test_while_its_source_is_paused_it_accuses_nobody_and_lives(context):
    with (
        responder_of(context, wait_for_ever, dead_after=0.05) as responder,
        Asker(context, responder) as asker,
    ):
        asker.ask()
        asker.say(Kind.PING, left=50)
        asker.until_heard(Kind.PONG, 2)
        responder.source.pause()
        before = asker.count(Kind.PONG)
        asker.until_heard(Kind.PONG, before + 12)
        assert responder.stats().running == 1


def test_what_came_through_a_proxy_is_not_cancelled_for_silence(context):
    """What its asker says may go to another responder behind the proxy."""
    with (
        Source.open(zmq.DEALER, bind="inproc://back", context=context) as back,
        Responder.open(
            wait_for_ever, connect="inproc://back", context=context, dead_after=0.05, linger=0
        ) as responder,
    ):
        responder.start()
        back.send([b"client", Header(Kind.PING, bytes(16), left=50).encode()])
        back.send([b"client", Header(Kind.ASK, key_of(5)).encode(), b"", b"x"])
        pongs = [back.recv(timeout=10) for _ in range(40)]
        assert {message[0] for message in pongs} == {b"client"}
        assert {message[1][5] for message in pongs} == {Flag.ROUTED}
        assert responder.stats().running == 1
        responder.close()


def test_a_request_that_comes_during_the_last_tick_is_watched(context, monkeypatch):
    with (
        responder_of(context, wait_for_ever, dead_after=0.05) as responder,
        Asker(context, responder) as asker,
    ):

        def ask(hub):
            if responder.stats().cancelled and not responder.stats().running:
                asker.ask()
                wait_until(lambda: responder.stats().running)

        monkeypatch.setattr("gzmqsource.workers._pulse.TURN", 1)
        monkeypatch.setattr("gzmqsource.workers._turns.yield_to_io", ask)
        asker.say(Kind.CANCEL, asker.ask())
        wait_until(lambda: responder.stats().cancelled)
        wait_until(lambda: responder.stats().running)
        pongs = asker.count(Kind.PONG)
        asker.until_heard(Kind.PONG, pongs + 5)


def test_the_number_of_askers_that_are_remembered_is_bounded(context, monkeypatch):
    monkeypatch.setattr(Responder, "max_askers", 100)
    with (
        Source.open(zmq.DEALER, bind="inproc://back", context=context, outbox=10_000) as back,
        Responder.open(
            lambda payload: payload if payload != [b"wait"] else wait_for_ever(payload),
            connect="inproc://back",
            context=context,
            linger=0,
        ) as responder,
    ):
        responder.start()
        back.send([b"first", Header(Kind.ASK, key_of(9)).encode(), b"", b"wait"])

        def next_kind():
            while (message := back.recv(timeout=10))[0] == b"first":
                pass
            return message[len(route)][4]

        most = 0
        for number in range(1000):
            route = [b"client%d" % number] * (1 + number % 3)
            back.send([*route, Header(Kind.ASK, key_of(100 + number)).encode(), b"", b"x"])
            assert [next_kind(), next_kind()] == [Kind.PONG, Kind.REPLY]
            most = max(most, responder.stats().askers)
        assert 100 <= most <= 140
        # One that has a request here is not forgotten.
        back.send([b"first", Header(Kind.CANCEL, bytes(16)).encode()])
        wait_until(lambda: responder.stats().cancelled == 1)
        responder.close()


def test_who_has_let_a_responder_go_hears_no_more_that_its_hub_lives(context):
    go_on = Event()
    with (
        responder_of(context, lambda payload: [go_on.wait(), b""][1:], dead_after=0.2) as responder,
        Asker(context, responder) as asker,
        Asker(context, responder) as idle,
    ):
        asker.ask()
        idle.say(Kind.PING, left=60_000)
        idle.until_heard(Kind.PONG)
        stopping = gevent.spawn(responder.stop, 20)
        for each in asker, idle:
            each.until_heard(Kind.LEAVING)
            each.say(Kind.NOMORE)
        idle.wait_for(idle.ask(), Kind.REFUSED)
        told = idle.count(Kind.PONG)
        asker.until_heard(Kind.PONG, asker.count(Kind.PONG) + 3)
        assert idle.count(Kind.PONG) == told
        go_on.set()
        assert stopping.get(timeout=10) == 0


def test_after_a_kill_while_many_are_told_one_that_is_silent_is_not_waited_for_long(context):
    with (
        responder_of(context, lambda payload: payload, dead_after=0.2) as responder,
        Asker(context, responder) as asker,
    ):
        asker.say(Kind.PING, left=200)
        asker.until_heard(Kind.PONG)
        askers = responder._parts.askers
        for number in range(3 * TURN):
            askers.meet(b"%d" % number, [b"%d" % number], False)
        stopping = gevent.spawn(responder.stop, 60)
        while not responder._reception.is_leaving:
            gevent.sleep(0)  # no longer: there are three turns
        stopping.kill()
        assert not all(each.has_left for each in askers.all()[1:])
        assert gevent.spawn(responder.stop, 60).get(timeout=10) == 0
