"""The connections of a requester: made, lost, refused, and made anew."""

import logging
import time
from typing import Any

import gevent
import pytest
import zmq
from authentication import CURVE, curve
from helpers import endpoint_of, free_ports
from requesting import echo, ignore, requester_of, server_of
from scripted import NO_KEY, Scripted

from gzmqsource._source import registry
from gzmqsource.auth import Authenticator
from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester, RequestTimeout
from gzmqsource.workers._header import Header, Kind
from gzmqsource.workers._link import Link
from gzmqsource.workers._retries import Pace


def absent(count):
    return [f"tcp://127.0.0.1:{port}" for port in free_ports(count)]


def states(requester):
    return [each.state for each in requester.endpoints()]


def test_an_endpoint_that_is_absent_costs_no_request(context):
    with (
        server_of(context, echo) as server,
        requester_of([endpoint_of(server), *absent(1)], context) as requester,
    ):
        results = [requester.submit(b"x", timeout=10) for _ in range(100)]
        assert [each.get() for each in results] == [[b"x"]] * 100
        assert sorted(states(requester)) == ["connecting", "live"]


def test_a_hundred_absent_endpoints_are_attempted_seldom_beside_one_that_lives(
    context, monkeypatch
):
    """Each attempt takes 0.6 ms of a core."""
    attempts = 0
    renew = Link._renew

    def counted(link):
        nonlocal attempts
        attempts += 1
        renew(link)

    monkeypatch.setattr(Link, "_renew", counted)
    with (
        server_of(context, echo) as server,
        requester_of([endpoint_of(server), *absent(100)], context) as requester,
    ):
        assert requester.request(b"x", timeout=10) == [b"x"]
        wait_until(lambda: attempts > 400)  # four of each, in about a second
        gevent.sleep(1)
        before = attempts
        gevent.sleep(1)
        assert attempts - before < 200


def test_a_server_that_comes_later_is_found(context):
    (address,) = absent(1)
    with requester_of(address, context) as requester:
        result = requester.submit(b"x")
        gevent.sleep(0.2)
        assert states(requester) == ["connecting"]
        with server_of(context, echo, endpoint=address):
            assert result.get(timeout=10) == [b"x"]


@pytest.mark.parametrize("transport", ["ipc", "tcp", "inproc"])
def test_a_server_that_is_started_anew_gets_nothing_that_was_for_another(
    context, transport, tmp_path
):
    address = {
        "ipc": f"ipc://{tmp_path}/socket",
        "tcp": absent(1)[0],
        "inproc": "inproc://again",
    }[transport]
    with Scripted(context, endpoint=address) as first:
        requester = Requester.open(address, context=context, dead_after=0.2)
        lost = [requester.submit(b"%d" % number) for number in range(3)]
        wait_until(lambda: requester.endpoints()[0].speaks)
        wait_until(lambda: len(first.asks) == 3)
        # What is sent and not read is in the old pipe.
        first.source.pause()
        lost += [requester.submit(b"%d" % number) for number in range(3, 6)]
        wait_until(lambda: requester.endpoints()[0].outstanding == 6)
        first.close()
    for each in lost:
        with pytest.raises(PeerLost):
            each.get(timeout=10)
    with Scripted(context, Scripted.reply, address, session=8) as second:
        assert requester.request(b"new", timeout=10) == [b"new"]
        assert [ask.payload for ask in second.asks] == [[b"new"]]
        requester.close()


def test_a_server_that_speaks_before_its_link_begins_stays_live(context):
    pong = Header(Kind.PONG, NO_KEY, session=7).encode()
    with Scripted(context, endpoint="inproc://early") as server:
        requester = Requester.open(server.endpoint, context=context)
        (connection,) = requester._servers._dispatcher.connections
        connection.received([pong])
        wait_until(lambda: server.kinds)  # its link has begun by then
        assert (connection.speaks, states(requester), server.kinds) == (True, ["live"], [Kind.PING])
        requester.close()


def test_a_refused_handshake_costs_no_retry_and_little_of_the_log(context, caplog):
    client = zmq.curve_keypair()
    with Authenticator(context) as auth:
        allowed: list[bytes] = []
        auth.configure_curve(domain="site", location=lambda domain, key: key in allowed)
        with (
            server_of(context, echo, **CURVE) as server,
            requester_of(server, context, **curve(client)) as requester,
            caplog.at_level(logging.WARNING, "gzmqsource.workers"),
        ):
            with pytest.raises(RequestTimeout, match="never sent"):
                requester.request(b"x", timeout=1.5, retries=3)
            assert requester.stats().retries == 0
            lines = [each for each in caplog.records if "no connection" in each.message]
            assert 1 <= len(lines) <= 4
            assert "handshake_failed" in lines[0].message
            allowed.append(client[0])
            assert requester.request(b"x", timeout=20) == [b"x"]


def test_many_connections_that_are_lost_come_back(context):
    (address,) = absent(1)
    with requester_of(address, context) as requester:
        for _ in range(5):
            with server_of(context, echo, endpoint=address) as server:
                assert requester.request(b"x", timeout=10) == [b"x"]
            del server
            wait_until(lambda: states(requester) == ["connecting"])


def test_a_closed_requester_leaves_no_source_and_no_greenlet_behind(context):
    with server_of(context, ignore) as server:
        addresses = [endpoint_of(server), *absent(3), "inproc://nobody"]
        requester = Requester.open(addresses, bind="tcp://127.0.0.1:*", context=context)
        requester.submit(b"x")
        wait_until(lambda: "live" in states(requester))
        sources: Any = [each.link.source for each in requester._dispatcher.connections]
        links = [each.link for each in requester._dispatcher.connections]
        running = [link._runs for link in links if hasattr(link, "_runs")]
        requester.close()
        assert requester.endpoints() == []
        wait_until(lambda: not any(each.is_running for each in running))
        assert all(source.closed for source in sources)


def test_the_only_server_is_found_soon_after_each_restart(context, monkeypatch):
    monkeypatch.setattr(Pace, "first", Pace.most_urgent)  # as long as the pauses grow
    (address,) = absent(1)
    with requester_of(address, context) as requester:
        for session in range(1, 5):
            began = time.monotonic()
            with Scripted(context, Scripted.reply, address, session=session):
                assert requester.request(b"x", timeout=10) == [b"x"]
                assert time.monotonic() - began < 2
            wait_until(lambda: states(requester) != ["live"])


def test_an_absent_endpoint_is_attempted_soon_when_the_last_live_one_is_gone(context, monkeypatch):
    monkeypatch.setattr(Pace, "most_calm", 3600.0)
    monkeypatch.setattr(Pace, "most_crowded", 3600.0)
    monkeypatch.setattr(Pace, "most_urgent", 0.01)
    monkeypatch.setattr(Pace, "first", 3600.0)
    (address,) = absent(1)
    with (
        Scripted(context, Scripted.reply) as server,
        requester_of([server.endpoint, address], context) as requester,
    ):
        assert requester.request(b"x", timeout=10) == [b"x"]
        wait_until(lambda: requester._servers._opening.pace.attempted == 1)
        gevent.sleep(0.1)
        with Scripted(context, Scripted.reply, address):
            monkeypatch.undo()
            server.close()
            assert requester.request(b"y", timeout=10, retries=1) == [b"y"]


def test_a_requester_that_is_closed_just_before_a_pause_ends_opens_nothing(context, monkeypatch):
    opened = []
    requester = Requester.open(absent(1), context=context)

    def pause(pace, failures):
        requester.close()  # the kill of this very greenlet arrives when it waits next
        opened.append(sources_of(context))

    monkeypatch.setattr(Pace, "pause", pause)
    wait_until(lambda: opened)
    gevent.sleep(0.01)
    assert sources_of(context) == opened[0] == 0


def sources_of(context):
    """Return how many sources of a context are open."""
    open_ones = [each for each in registry.live.values() if not each.closed]
    return sum(each.raw.context is context for each in open_ones)  # type: ignore[attr-defined]
