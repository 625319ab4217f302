"""Endpoints that stand for several addresses, looked up again and again."""

from typing import Any

import gevent
import pytest
import zmq
from gevent import socket
from helpers import endpoint_of
from requesting import echo, ignore, requester_of, server_of
from scripted import Scripted

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester, RequestTimeout
from gzmqsource.workers._header import Detail, Kind
from gzmqsource.workers._targets import Targets, addresses_of, is_name


def addresses(requester):
    return sorted(each.address for each in requester.endpoints())


@pytest.fixture
def hosts(monkeypatch):
    """The addresses of names, and how often each was looked up."""
    hosts: dict[str, list[str]] = {}

    def getaddrinfo(host, port, family=0, kind=0, *_):
        if not hosts.get(host):
            raise socket.gaierror(-2, "Name or service not known")
        return [(family, kind, 6, "", (address, port)) for address in hosts[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(Targets, "min_pause", 0.02)
    return hosts


@pytest.mark.parametrize(
    ("endpoint", "named"),
    [
        ("tcp://workers.example:5555", True),
        ("tcp://localhost:5555", True),
        ("tcp://127.0.0.1:5555", False),
        ("tcp://[::1]:5555", False),
        ("tcp://[fe80::1%eth0]:5555", False),
        ("tcp://eth0;workers.example:5555", False),
        ("tcp://10.0.0.1:0;10.0.0.2:5555", False),
        ("ipc:///tmp/socket:1", False),
        ("inproc://name:1", False),
        ("nonsense", False),
    ],
)
def test_only_the_name_of_a_host_is_looked_up(endpoint, named):
    assert is_name(endpoint) is named


def test_a_name_of_this_machine_is_found():
    assert "tcp://127.0.0.1:5555" in addresses_of("tcp://localhost:5555", ipv6=False)


def test_addresses_of_ipv6_have_brackets(monkeypatch):
    found = [
        (socket.AF_INET6, 1, 6, "", ("::1", 5, 0, 0)),
        (socket.AF_INET, 1, 6, "", ("1.2.3.4", 5)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    assert addresses_of("tcp://both:5", ipv6=True) == ["tcp://[::1]:5", "tcp://1.2.3.4:5"]


def test_all_addresses_of_a_name_are_used(context, hosts):
    hosts["workers"] = ["127.0.0.1", "127.0.0.2"]
    with server_of(context, echo, endpoint="tcp://127.0.0.1:*") as one:
        port = endpoint_of(one).rpartition(":")[2]
        with (
            server_of(context, echo, endpoint=f"tcp://127.0.0.2:{port}") as other,
            requester_of(f"tcp://workers:{port}", context) as requester,
        ):
            wait_until(lambda: [e.state for e in requester.endpoints()] == ["live"] * 2)
            results = [requester.submit(b"x", timeout=10) for _ in range(10)]
            gevent.wait(results, timeout=10)
            assert all(each.get() == [b"x"] for each in results)
            assert one.stats().received == other.stats().received == 5
            assert {each.endpoint for each in requester.endpoints()} == {f"tcp://workers:{port}"}


def test_an_address_that_is_new_is_used_and_one_that_is_gone_only_finishes(context, hosts):
    kept = []
    with (
        server_of(context, lambda _, message: kept.append(message)) as one,
        server_of(context, echo, endpoint="tcp://127.0.0.2:*") as other,
    ):
        found = [endpoint_of(one)]
        with requester_of(
            "any://thing", context, resolve=lambda endpoint: found, resolve_every=0.02
        ) as requester:
            result = requester.submit(b"x")
            wait_until(lambda: kept)
            found[:] = [endpoint_of(other)]
            wait_until(lambda: len(requester.endpoints()) == 2)
            wait_until(lambda: {e.state for e in requester.endpoints()} == {"leaving", "live"})
            assert requester.request(b"y", timeout=10) == [b"y"]
            assert len(kept) == 1
            one.send(kept[0])
            assert result.get(timeout=10) == [b"x"]
            wait_until(lambda: addresses(requester) == found)


def test_a_name_that_is_not_found_is_looked_up_again_and_its_requests_wait(context, hosts, caplog):
    with server_of(context, echo) as server:
        port = endpoint_of(server).rpartition(":")[2]
        with requester_of(f"tcp://workers:{port}", context) as requester:
            with pytest.raises(RequestTimeout, match=r"no connection.*never sent"):
                requester.request(b"x", timeout=0.1)
            waiting = requester.submit(b"y")
            hosts["workers"] = ["127.0.0.1"]
            assert waiting.get(timeout=10) == [b"y"]
    assert "an endpoint was not found" in caplog.text


def test_a_look_that_fails_changes_nothing(context, hosts):
    hosts["workers"] = ["127.0.0.1"]
    with server_of(context, echo) as server:
        port = endpoint_of(server).rpartition(":")[2]
        with requester_of(f"tcp://workers:{port}", context, resolve_every=0.02) as requester:
            assert requester.request(b"x", timeout=10) == [b"x"]
            hosts["workers"] = []
            gevent.sleep(0.1)
            assert requester.request(b"x", timeout=10) == [b"x"]


def test_a_name_is_looked_up_when_a_connection_of_it_is_lost(context, hosts):
    hosts["workers"] = ["127.0.0.1"]
    with server_of(context, ignore, endpoint="tcp://127.0.0.1:*") as server:
        port = endpoint_of(server).rpartition(":")[2]
        with requester_of(f"tcp://workers:{port}", context, resolve_every=3600) as requester:
            wait_until(lambda: [e.state for e in requester.endpoints()] == ["live"])
            hosts["workers"] = ["127.0.0.2"]
            server.close()
            wait_until(lambda: addresses(requester) == [f"tcp://127.0.0.2:{port}"])


def test_a_resolver_that_raises_or_finds_nonsense_is_reported(context, hosts, caplog):
    answers: list[Any] = [1 / 2, ["nonsense"]]

    def resolve(endpoint):
        answer = answers.pop(0) if answers else [endpoint]
        return iter(answer)

    with (
        server_of(context, echo) as server,
        requester_of(endpoint_of(server), context, resolve=resolve, resolve_every=0.02) as it,
    ):
        assert it.request(b"x", timeout=10) == [b"x"]
    assert "an endpoint was not found" in caplog.text
    assert "an address cannot be used: nonsense" in caplog.text


def test_a_resolver_whose_time_is_over_is_called_again_soon(context, caplog):
    def resolve(endpoint):
        if not caplog.messages:
            with gevent.Timeout(0.01):
                gevent.sleep(10)
        return [endpoint]

    with (
        server_of(context, echo) as server,
        requester_of(endpoint_of(server), context, resolve=resolve) as requester,
    ):
        assert requester.request(b"x", timeout=10) == [b"x"]
    assert "an endpoint was not found" in caplog.text


def test_a_name_needs_a_port(context):
    with pytest.raises(zmq.ZMQError), requester_of("tcp://workers:http", context):
        pass


def test_what_comes_back_to_an_address_that_is_given_up_meanwhile_goes_elsewhere(context):
    found: list[str] = []
    made: list[Requester] = []

    def resolve(endpoint):
        # Some of those that were lost have come back, and others are yet to.
        return found[1:] if made and made[0].stats().retries else found[:1]

    with (
        Scripted(context) as one,
        # Without it, libzmq drops replies that its thread has no time to take.
        server_of(context, echo, router_mandatory=1) as other,
    ):
        found += [one.endpoint, endpoint_of(other)]
        options = {"resolve": resolve, "resolve_every": 0.001, "retry_budget": 10}
        with requester_of("any://thing", context, **options) as requester:
            made.append(requester)
            results = [requester.submit(b"x", retries=1) for _ in range(5000)]
            wait_until(lambda: len(one.asks) == len(results))
            one.source.close()
            gevent.wait(results, timeout=20)
            assert sum(each.ready() for each in results) == len(results)


ENDS = {
    "killed": lambda asking, server: asking.kill(),
    "refused": lambda asking, server: server.refuse(server.asks[0]),
    "lost": lambda asking, server: server.end(server.asks[0], Kind.LOST, Detail.KILLED),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_address_that_was_given_up_is_closed_however_its_last_request_ends(context, end):
    with Scripted(context) as one, server_of(context, echo) as other:
        found = [one.endpoint]
        options = {"resolve": lambda endpoint: found, "resolve_every": 0.02}
        with requester_of("any://thing", context, **options) as requester:
            asking = gevent.spawn(requester.request, b"x")
            wait_until(lambda: one.asks)
            found[:] = [endpoint_of(other)]
            wait_until(lambda: {e.state for e in requester.endpoints()} == {"leaving", "live"})
            ENDS[end](asking, one)
            wait_until(lambda: addresses(requester) == found)
            gevent.wait([asking], timeout=10)
            assert asking.ready()
            if end == "killed":
                wait_until(lambda: one.keys(Kind.CANCEL) == [one.asks[0].header.key])
            elif end == "refused":
                assert asking.value == [b"x"]
            else:
                assert isinstance(asking.exception, PeerLost)
