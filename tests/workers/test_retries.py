"""Requests that are sent again: because a server was lost, or has refused them."""

import itertools
import time

import gevent
import pytest
from gevent.event import Event
from gevent.server import StreamServer
from gevent.socket import create_connection
from helpers import free_ports
from requesting import requester_of
from scripted import Ask, Scripted, echo

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, RequestTimeout, _losses
from gzmqsource.workers._dispatcher import Dispatcher
from gzmqsource.workers._header import Detail, Kind
from gzmqsource.workers._retries import RetryBudget, back_off


class Cuttable:
    """A TCP proxy whose connections can be cut."""

    def __init__(self, endpoint):
        host, _, port = endpoint.removeprefix("tcp://").partition(":")
        self._target = host, int(port)
        self._sockets = []
        self._server = StreamServer(("127.0.0.1", 0), self._connected)
        self._server.start()
        self.endpoint = f"tcp://127.0.0.1:{self._server.server_port}"

    def cut(self):
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    def close(self):
        self._server.stop()
        self.cut()

    def _connected(self, client, _address):
        server = create_connection(self._target)
        self._sockets += client, server
        back = gevent.spawn(self._copy, server, client)
        self._copy(client, server)
        back.join()  # with the end of this the connection ends

    def _copy(self, one, other):
        try:
            while data := one.recv(1 << 16):
                other.sendall(data)
        except OSError:
            pass


class Deduplicating:
    """Executes each key once, which takes as long as a function waits, and replies the same."""

    def __init__(self, wait):
        self.executions = 0
        self._wait = wait
        self._last: dict[bytes, Ask] = {}
        self._replies: dict[bytes, list[bytes]] = {}

    def __call__(self, server, ask):
        key = ask.header.key
        is_new = key not in self._last
        self._last[key] = ask
        if key in self._replies:
            server.reply(ask, self._replies[key])
        elif is_new:
            self.executions += 1
            gevent.spawn(self._finish, server, key)

    def _finish(self, server, key):
        self._wait()
        ask = self._last[key]
        self._replies[key] = ask.payload
        server.reply(ask)


def test_time_is_no_reason_to_send_again_while_the_server_lives(context):
    answers = Deduplicating(lambda: gevent.sleep(0.3))
    with Scripted(context, answers) as one, Scripted(context, answers) as other:
        endpoints = [one.endpoint, other.endpoint]
        with requester_of(endpoints, context, dead_after=0.1) as requester:
            results = [requester.submit(b"x", timeout=10, retries=5) for _ in range(50)]
            gevent.wait(results, timeout=10)
            assert [each.get() for each in results] == [[b"x"]] * 50
            assert answers.executions == len(one.asks) + len(other.asks) == 50


def test_after_a_cut_a_request_goes_back_to_the_server_that_has_it(context):
    go_on = Event()
    first, second = Deduplicating(go_on.wait), Deduplicating(go_on.wait)
    with Scripted(context, first, session=1) as one, Scripted(context, second, session=2) as other:
        proxy = Cuttable(one.endpoint)
        with requester_of([proxy.endpoint, other.endpoint], context) as requester:
            wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
            results = [requester.submit(b"x", timeout=10, retries=2) for _ in range(50)]
            wait_until(lambda: len(one.asks) == len(other.asks) == 25)
            proxy.cut()
            wait_until(lambda: requester.stats().retries == 25)
            go_on.set()
            gevent.wait(results, timeout=10)
            assert [each.get() for each in results] == [[b"x"]] * 50
            assert first.executions + second.executions == 50
            assert requester.stats().retries == 25
        proxy.close()


@pytest.mark.parametrize("comes_during_a_turn", [False, True])
def test_what_a_server_has_when_it_leaves_after_a_cut_is_asked_of_another(
    context, monkeypatch, comes_during_a_turn
):
    if comes_during_a_turn:

        def until_it_leaves(hub):
            wait_until(lambda: requester.endpoints()[0].state == "leaving")

        monkeypatch.setattr(_losses, "yield_to_io", until_it_leaves)
    count = 2 * _losses.TURN if comes_during_a_turn else 1
    with Scripted(context) as one, Scripted(context, echo) as other:
        proxy = Cuttable(one.endpoint)
        endpoints = [proxy.endpoint, other.endpoint]
        with requester_of(endpoints, context) as requester:
            wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
            results = [requester.submit(b"x", timeout=10, retries=1) for _ in range(2 * count)]
            wait_until(lambda: len(one.asks) == len(other.asks) == count)
            one.pongs = False
            wait_until(lambda: requester.endpoints()[0].speaks)
            proxy.cut()
            wait_until(lambda: requester.endpoints()[0].state == "probing")
            wait_until(lambda: len(one._routes) == 2)
            one.tell(Kind.LEAVING)
            one.pongs = True
            assert [each.get() for each in results] == [[b"x"]] * (2 * count)
            assert (len(one.asks), len(other.asks)) == (count, 2 * count)
        proxy.close()


def test_what_does_not_come_back_is_asked_of_another(context):
    with (
        Scripted(context) as one,
        Scripted(context, echo) as other,
        requester_of([one.endpoint, other.endpoint], context) as requester,
    ):
        wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
        results = [requester.submit(b"x", retries=1) for _ in range(4)]
        wait_until(lambda: len(one.asks) == 2)
        one.close()
        gevent.wait(results, timeout=10)
        assert [each.get() for each in results] == [[b"x"]] * 4


def test_a_request_without_retries_is_lost_with_its_connection_and_no_other_is(context):
    with (
        Scripted(context) as one,
        Scripted(context) as other,
        requester_of([one.endpoint, other.endpoint], context) as requester,
    ):
        wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
        results = {requester.submit(b"%d" % number): b"%d" % number for number in range(10)}
        wait_until(lambda: len(one.asks) == len(other.asks) == 5)
        had = {ask.payload[0] for ask in one.asks}
        one.close()
        wait_until(lambda: requester.stats().lost == 5)
        for ask in other.asks:
            other.reply(ask)
        gevent.wait(list(results), timeout=10)
        for result, payload in results.items():
            if payload in had:
                with pytest.raises(PeerLost):
                    result.get()
            else:
                assert result.get() == [payload]


def test_what_was_never_connected_and_a_refused_handshake_cost_no_retries(context):
    with requester_of("tcp://127.0.0.1:1", context) as requester:
        with pytest.raises(RequestTimeout, match="never sent"):
            requester.request(b"x", timeout=0.3, retries=1)
        assert requester.stats().retries == 0


def test_a_refused_request_is_asked_elsewhere_at_once_and_costs_no_retry(context, monkeypatch):
    monkeypatch.setattr(Dispatcher, "first_hold", 60)
    monkeypatch.setattr(Dispatcher, "max_hold", 60)
    with (
        Scripted(context, Scripted.refuse) as full,
        Scripted(context, echo) as other,
        requester_of([full.endpoint, other.endpoint], context) as requester,
    ):
        wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
        results = [requester.submit(b"x") for _ in range(10)]
        gevent.wait(results, timeout=10)
        assert [each.get_nowait() for each in results] == [[b"x"]] * 10
        stats = requester.stats()
        assert (stats.refused, stats.retries) == (len(full.asks), 0)
        assert full.asks


def test_what_all_refuse_is_asked_again_later_and_later(context):
    times = []

    def refuse(server, ask):
        times.append(time.monotonic())
        if len(times) == 4:
            server.reply(ask)
        else:
            server.refuse(ask)

    with Scripted(context, refuse) as server, requester_of(server.endpoint, context) as requester:
        assert requester.request(b"x", timeout=10) == [b"x"]
        pauses = [later - sooner for sooner, later in itertools.pairwise(times)]
        for pause, most in zip(pauses, (0.15, 0.3, 0.6), strict=True):
            assert pause >= most / 2
        assert [ask.header.attempt for ask in server.asks] == [0, 1, 2, 3]
        assert requester.stats().refused == 3


def test_a_storm_of_refusals_keeps_no_hub_busy_and_ends_with_the_timeout(context, monkeypatch):
    # The time ends while all are held back, also on a busy machine.
    monkeypatch.setattr(Dispatcher, "first_hold", 60)
    monkeypatch.setattr(Dispatcher, "max_hold", 60)
    with (
        Scripted(context, Scripted.refuse) as one,
        Scripted(context, Scripted.refuse) as other,
        requester_of([one.endpoint, other.endpoint], context) as requester,
    ):
        wait_until(lambda: all(each.state == "live" for each in requester.endpoints()))
        results = [requester.submit(b"x", timeout=2) for _ in range(20)]
        gevent.wait(results, timeout=10)
        for each in results:
            with pytest.raises(RequestTimeout, match="refused by each peer"):
                each.get_nowait()
        assert len(one.asks) + len(other.asks) <= 20 * 2
        held = requester._dispatcher.held
        assert not held
        assert not held._holds
        assert not held._clock.calls
        assert requester.stats().outstanding == 0


def test_a_refusal_of_one_who_leaves_is_asked_of_the_next_in_order(context):
    def refuse(server, ask):
        server.refuse(ask, Detail.LEAVING)

    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with (
        Scripted(context, refuse, address) as leaving,
        requester_of(address, context) as requester,
    ):
        results = [requester.submit(b"%d" % number) for number in range(20)]
        # One refusal may come before the last of them is sent.
        wait_until(lambda: requester.stats().refused and requester.stats().waiting == 20)
        leaving.close()
        with Scripted(context, echo, address, session=8) as anew:
            gevent.wait(results, timeout=10)
            assert [each.get() for each in results] == [[b"%d" % n] for n in range(20)]
            assert [ask.payload[0] for ask in anew.asks] == [b"%d" % n for n in range(20)]
            assert requester.stats().retries == 0


def test_an_outage_is_not_multiplied(context):
    def lose(server, ask):
        server.end(ask, Kind.LOST)

    with (
        Scripted(context, lose) as server,
        requester_of(server.endpoint, context, retry_budget=0.5) as requester,
    ):
        results = [requester.submit(b"x", retries=10) for _ in range(300)]
        gevent.wait(results, timeout=20)
        for each in results:
            with pytest.raises(PeerLost, match=r"too many were sent again|has none"):
                each.get()
        assert requester.stats().retries == len(server.asks) - 300 == 100 + 150


def test_a_budget_counts_the_requests_of_a_window():
    budget = RetryBudget(0.1)
    budget.floor = 2
    assert [budget.take(1000, 10) for _ in range(4)] == [True] * 3 + [False]
    assert budget.take(1010, 10)
    budget._ends = 0.0
    assert [budget.take(5000, 0) for _ in range(3)] == [True, True, False]


def test_pauses_grow_to_a_bound_with_some_chance():
    assert all(0.05 <= back_off(0, 0.1, 5) <= 0.1 for _ in range(100))
    assert all(2.5 <= back_off(1000, 0.1, 5) <= 5 for _ in range(100))
    assert len({back_off(3, 0.1, 5) for _ in range(10)}) > 1


def test_a_timeout_is_for_all_attempts_together(context):
    def lose_later(server, ask):
        gevent.spawn_later(0.1, server.end, ask, Kind.LOST)

    with (
        Scripted(context, lose_later) as server,
        requester_of(server.endpoint, context) as requester,
    ):
        began = time.monotonic()
        with pytest.raises(RequestTimeout, match=r"within 1\.05 s"):
            requester.request(b"x", timeout=1.05, retries=100)
        assert time.monotonic() - began < 5
        left = [ask.header.left for ask in server.asks]
        assert left == sorted(left, reverse=True)
        assert len(set(left)) == len(left) > 1
