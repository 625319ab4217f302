"""Servers whose hubs are stuck, and those that only seem to be."""

import time

import gevent
import pytest
from helpers import _sleep
from requesting import requester_of
from scripted import Scripted, echo

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester
from gzmqsource.workers._header import Kind

DEAD_AFTER = 0.2


def state_of(requester):
    (connection,) = requester.endpoints()
    return connection.state


def asked(requester, server, **options):
    """Ask a server, until it is known to speak; return the result."""
    result = requester.submit(b"x", **options)
    wait_until(lambda: requester.endpoints()[0].speaks)
    return result


def test_a_server_whose_hub_is_stuck_is_told_in_time_and_asked_no_more(context):
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context, dead_after=DEAD_AFTER) as requester,
    ):
        result = asked(requester, server)
        server.pongs = False
        server.source.pause()
        began = time.monotonic()
        with pytest.raises(PeerLost, match="nothing came from"):
            result.get(timeout=10)
        assert time.monotonic() - began >= DEAD_AFTER * 0.9
        assert state_of(requester) == "probing"
        later = requester.submit(b"y")
        gevent.sleep(DEAD_AFTER)
        assert requester.stats().waiting == 1
        server.pongs = True
        server.source.resume()
        wait_until(lambda: len(server.asks) == 2)
        assert state_of(requester) == "live"
        server.reply(server.asks[0])
        server.reply(server.asks[1])
        assert later.get(timeout=10) == [b"y"]
        assert requester.stats().late == 1


@pytest.mark.parametrize(
    "ask", [Requester.request, lambda *arguments: Requester.submit(*arguments).get()]
)
def test_a_server_that_is_stuck_after_a_pause_is_told_as_well(context, ask):
    with (
        Scripted(context, echo) as server,
        requester_of(server.endpoint, context, dead_after=DEAD_AFTER) as requester,
    ):
        asked(requester, server).get(timeout=10)
        (connection,) = requester._dispatcher.connections
        wait_until(lambda: not connection.is_watched)
        server.pongs = False
        server.source.pause()
        with pytest.raises(PeerLost, match="nothing came from"):
            ask(requester, b"x", 10)


def test_what_a_stuck_server_had_is_asked_of_another(context):
    with Scripted(context) as stuck, Scripted(context, echo) as other:
        endpoints = [stuck.endpoint, other.endpoint]
        with requester_of(endpoints, context, dead_after=DEAD_AFTER) as requester:
            wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
            results = [requester.submit(b"x", retries=1) for _ in range(10)]
            wait_until(lambda: requester.stats().outstanding == 5)
            stuck.pongs = False
            gevent.wait(results, timeout=10)
            assert [each.get() for each in results] == [[b"x"]] * 10
            assert len(stuck.asks) == 5
            assert requester.stats().retries == 5


def test_a_server_that_only_works_for_long_is_pinged_and_not_lost(context):
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context, dead_after=DEAD_AFTER) as requester,
    ):
        result = asked(requester, server)
        liveness = requester._dispatcher.liveness
        looks = liveness._round + 3 * liveness.looks
        wait_until(lambda: liveness._round >= looks)
        assert 5 <= server.kinds.count(Kind.PING) <= 15
        assert server.controls[0].left == 200
        server.reply(server.asks[0])
        assert result.get(timeout=10) == [b"x"]


def test_a_late_pong_is_early_enough(context):
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context, dead_after=1.0) as requester,
    ):
        result = asked(requester, server)
        server.pongs = False
        for _ in range(3):
            gevent.sleep(0.7)
            server.tell(Kind.PONG)
        server.reply(server.asks[0])
        assert result.get(timeout=10) == [b"x"]


def test_a_hub_that_was_held_up_accuses_no_server(context):
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context, dead_after=DEAD_AFTER) as requester,
    ):
        result = asked(requester, server)
        for _ in range(5):
            _sleep(2 * DEAD_AFTER)
            gevent.sleep(0.001)
        server.reply(server.asks[0])
        assert result.get(timeout=10) == [b"x"]


def test_nothing_is_said_and_no_timer_runs_while_nothing_is_outstanding(context):
    with (
        Scripted(context, echo) as server,
        requester_of(server.endpoint, context, dead_after=DEAD_AFTER) as requester,
    ):
        for _ in range(10):
            assert requester.request(b"x") == [b"x"]
        liveness = requester._dispatcher.liveness
        wait_until(lambda: not liveness._runs.is_running)
        (connection,) = requester._dispatcher.connections
        said = connection.link.source.stats().sent
        wait_until(lambda: len(server.kinds) == said)
        gevent.sleep(2 * DEAD_AFTER)
        assert len(server.kinds) == said
        assert not liveness._watched


def test_a_server_that_was_known_to_speak_must_do_so_again_over_a_new_connection(context):
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context, dead_after=DEAD_AFTER) as requester,
    ):
        asked(requester, server)
        server.close()
        with Scripted(context, echo, server.endpoint) as anew:
            anew.pongs = False
            wait_until(lambda: Kind.PING in anew.kinds)
            assert state_of(requester) == "probing"
            waiting = requester.submit(b"x")
            gevent.sleep(0.05)
            assert not anew.asks
            anew.tell(Kind.PONG)
            assert waiting.get(timeout=10) == [b"x"]


def test_a_plain_server_that_takes_the_place_of_a_speaker_is_asked_in_the_end(context):
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context, dead_after=0.02) as requester,
    ):
        asked(requester, server)
        server.close()
        with Scripted(context, echo, server.endpoint) as plain:
            plain.pongs = False
            wait_until(lambda: state_of(requester) == "probing")
            result = requester.submit(b"x")
            wait_until(lambda: plain.asks)
            assert result.get(timeout=10) == [b"x"]


def test_a_connection_over_which_nothing_comes_any_more_is_made_anew(context):
    with (
        Scripted(context) as server,
        requester_of(server.endpoint, context, dead_after=0.02) as requester,
    ):
        asked(requester, server, retries=5)
        routes = len(server._routes)
        server.pongs = False
        wait_until(lambda: len(server._routes) > routes)
        server.pongs = True
        wait_until(lambda: len(server.asks) == 2)
        assert server.asks[0].header.key == server.asks[1].header.key


def test_a_server_that_leaves_and_is_heard_no_more_is_asked_over_a_new_connection(context):
    """A path may fail without a FIN, and nothing else would show that."""
    with (
        Scripted(context, echo) as server,
        requester_of(server.endpoint, context, dead_after=0.02) as requester,
    ):
        asked(requester, server).get(timeout=10)
        (connection,) = requester._dispatcher.connections
        wait_until(lambda: not connection.is_watched)
        routes = len(server._routes)
        server.pongs = False
        server.tell(Kind.LEAVING)
        wait_until(lambda: Kind.NOMORE in server.kinds)
        waiting = requester.submit(b"y")
        wait_until(lambda: len(server._routes) > routes)
        server.pongs = True
        assert waiting.get(timeout=10) == [b"y"]


def test_a_server_that_was_stuck_in_its_stop_is_asked_no_more(context):
    """It may close at any moment: nothing is to come after the answer to its farewell."""
    with (
        Scripted(context, echo) as server,
        requester_of(server.endpoint, context, dead_after=DEAD_AFTER) as requester,
    ):
        asked(requester, server).get(timeout=10)
        server.pongs = False
        server.tell(Kind.LEAVING)
        wait_until(lambda: state_of(requester) == "probing")
        server.tell(Kind.PONG)
        wait_until(lambda: state_of(requester) == "leaving")
        requester.submit(b"y")
        server.pongs = True
        pings = server.kinds.count(Kind.PING)
        wait_until(lambda: server.kinds.count(Kind.PING) > pings + 1)
        assert len(server.asks) == 1


def test_one_that_is_stuck_takes_no_living_one_with_it(context):
    with (
        Scripted(context) as stuck,
        Scripted(context) as living,
        requester_of(
            [stuck.endpoint, living.endpoint], context, dead_after=DEAD_AFTER
        ) as requester,
    ):
        wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
        results = [requester.submit(b"x") for _ in range(20)]
        wait_until(lambda: len(stuck.asks) == len(living.asks) == 10)
        stuck.pongs = False
        wait_until(lambda: requester.stats().lost == 10)
        gevent.sleep(3 * DEAD_AFTER)
        for ask in living.asks:
            living.reply(ask)
        gevent.wait(results, timeout=10)
        assert sum(each.exception is None for each in results) == 10
