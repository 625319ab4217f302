"""`Requester` against servers of plain ZeroMQ."""

import functools
import gc
import logging
import random
import threading
from typing import Any

import gevent
import pytest
import zmq
from gevent.event import AsyncResult
from gevent.monkey import get_original
from helpers import endpoint_of, free_ports
from requesting import echo, ignore, requester_of, server_of

from gzmqsource import InvalidThreadUseError, Source
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import RemoteError, Requester, RequestTimeout
from gzmqsource.workers._connection import Connection
from gzmqsource.workers._envelope import ERROR

start_thread = get_original("_thread", "start_new_thread")
get_ident = get_original("_thread", "get_ident")


def until_live(requester):
    """Wait until what is asked is sent at once."""
    wait_until(lambda: requester.endpoints()[0].state == "live")


def test_a_rep_of_any_kind_answers(context, endpoint):
    with (
        server_of(context, echo, zmq.REP, endpoint) as server,
        requester_of(server, context) as requester,
    ):
        assert requester.request(b"one") == [b"one"]
        assert requester.request([b"a", b"", b"c"]) == [b"a", b"", b"c"]
        assert requester.request(bytearray(b"x"), timeout=10) == [b"x"]


def test_each_greenlet_gets_its_own_reply_in_any_order(context):
    asked = []

    def answer_backwards(server, message):
        asked.append(message)
        if len(asked) == 100:
            for each in reversed(asked):
                server.send(each)

    with (
        server_of(context, answer_backwards) as server,
        requester_of(server, context) as requester,
    ):
        asking = [gevent.spawn(requester.request, b"%d" % n, 10) for n in range(100)]
        gevent.joinall(asking, raise_error=True)
        assert [greenlet.value for greenlet in asking] == [[b"%d" % n] for n in range(100)]
        assert requester.stats().outstanding == 0


@pytest.mark.limit(60)
@pytest.mark.once
def test_10000_requests_at_once_with_random_delays_and_drops(context):
    chance, count = random.Random(1), 10_000
    dropped = set(chance.sample(range(count), count // 10))

    def answer(server, message):
        if int(message[-1]) not in dropped:
            gevent.spawn_later(0.001 + chance.random() / 2, server.send, message)

    with (
        server_of(context, answer) as server,
        requester_of(server, context) as requester,
    ):
        results = [
            requester.submit(b"%d" % n, timeout=1 if n in dropped else None) for n in range(count)
        ]
        gevent.joinall(results)
        for n, result in enumerate(results):
            if n in dropped:
                assert isinstance(result.exception, RequestTimeout)
            else:
                assert result.value == [b"%d" % n]
        stats = requester.stats()
        assert (stats.outstanding, stats.timeouts) == (0, len(dropped))
        assert stats.unknown == stats.late == 0


def test_a_timeout_leaves_nothing_behind(context):
    with (
        server_of(context, ignore) as server,
        requester_of(server, context) as requester,
    ):
        until_live(requester)  # else it may never be sent
        try:
            requester.request(b"x", timeout=0.05)
        except RequestTimeout as error:
            assert "no reply within 0.05 s" in str(error)  # noqa: PT017 - a kept one has frames
        stats = requester.stats()
        assert (stats.requests, stats.outstanding, stats.timeouts) == (1, 0, 1)
        all_blocked()  # the hub is still in the callback that has told it
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each).__name__ == "Call"]


def test_a_request_that_no_server_has_times_out(context):
    with requester_of("tcp://127.0.0.1:1", context) as requester:
        results = [requester.submit(b"x", timeout=0.05) for _ in range(5)]
        assert requester.stats().waiting == 5
        gevent.wait(results, timeout=10)
        for result in results:
            with pytest.raises(RequestTimeout, match="never sent"):
                result.get()
        assert requester.stats().waiting == requester.stats().outstanding == 0


@pytest.mark.parametrize("bound", [{"max_outstanding": 3}, {"max_outstanding_bytes": 30}])
def test_no_more_is_outstanding_than_may_be(context, bound):
    kept = []
    with (
        server_of(context, lambda server, message: kept.append(message)) as server,
        requester_of(server, context, **bound) as requester,
    ):
        until_live(requester)
        results = [requester.submit(b"%010d" % number) for number in range(3)]
        wait_until(lambda: len(kept) == 3)
        with pytest.raises(RequestTimeout, match="no room within"):
            requester.request(b"late", timeout=0.05)
        asking = [gevent.spawn(requester.request, b"%010d" % number) for number in (3, 4)]
        submitting: gevent.Greenlet[..., Any] = gevent.spawn(requester.submit, b"%010d" % 5)
        foreign: list[Any] = []
        start_thread(lambda: foreign.append(requester.request(b"%010d" % 6)), ())
        wait_until(lambda: requester.stats().waiting == 4)
        assert len(kept) == 3
        for number in range(7):
            wait_until(functools.partial(kept.__getitem__, slice(number, None)))
            assert kept[number][-1] == b"%010d" % number
            server.send(kept[number])
        gevent.joinall([*results, *asking, submitting], timeout=10)
        assert submitting.get().get(timeout=10) == [b"%010d" % 5]
        wait_until(lambda: foreign == [[b"%010d" % 6]])
        assert requester.stats().outstanding == 0


def test_a_killed_greenlet_gives_up_its_place_in_the_line(context):
    with (
        server_of(context, ignore) as server,
        requester_of(server, context, max_outstanding=1) as requester,
    ):
        requester.submit(b"x")
        waiting = [gevent.spawn(requester.request, b"x"), gevent.spawn(requester.submit, b"x")]
        wait_until(lambda: requester.stats().waiting == 2)
        gevent.killall(waiting)
        assert (requester.stats().outstanding, requester.stats().cancelled) == (1, 2)


def test_late_and_duplicate_and_unknown_replies_are_counted_and_dropped(context, caplog):
    asked = []

    def answer_twice(server, message):
        asked.append(message)
        server.send(message)
        server.send(message)
        for stray in ([b"stray"], [b"", b"x"], [b""], [b"a", b"", b""], [b"z"] * 10_000):
            server.send([message[0], *stray])

    with (
        server_of(context, answer_twice) as server,
        requester_of(server, context) as requester,
        caplog.at_level(logging.WARNING),
    ):
        assert requester.request(b"x") == [b"x"]
        wait_until(lambda: requester.stats().unknown == 5)
        wait_until(lambda: requester.stats().late == 1)
        assert requester.request(b"y") == [b"y"]
        assert len([r for r in caplog.records if "answers nothing" in r.message]) == 1


def test_a_reply_to_another_requester_with_the_same_routing_id_does_not_fit(context):
    kept = []
    with server_of(
        context, lambda server, message: kept.append(message), router_handover=1
    ) as server:
        with requester_of(server, context, routing_id=b"me") as first:
            first.submit(b"old")
            wait_until(lambda: kept)
        with requester_of(server, context, routing_id=b"me") as second:
            result = second.submit(b"new")
            wait_until(lambda: len(kept) == 2)
            server.send(kept[0])
            server.send(kept[1])
            assert result.get(timeout=10) == [b"new"]
            assert second.stats().late == 1


def test_a_killed_greenlet_forgets_its_request(context):
    with (
        server_of(context, ignore) as server,
        requester_of(server, context) as requester,
    ):
        asking: gevent.Greenlet[..., Any] = gevent.spawn(requester.request, b"x", 60)
        wait_until(lambda: server.stats().received == 1)
        asking.kill()
        assert requester.stats().outstanding == 0
        asking = gevent.spawn(requester.request, b"x")
        wait_until(lambda: server.stats().received == 2)
        with gevent.Timeout(0.01, False):  # type: ignore[arg-type]  # as gevent documents
            asking.get()
        asking.kill()
        assert requester.stats().outstanding == 0


def test_native_threads_and_other_hubs_ask_through_it(context):
    with (
        server_of(context, echo) as server,
        requester_of(server, context) as requester,
    ):
        replies = []

        def ask(name):
            for number in range(100):
                body = b"%s %d" % (name, number)
                replies.append(requester.request(body, timeout=10) == [body])

        def ask_from_a_hub():
            gevent.joinall([gevent.spawn(ask, b"g%d" % n) for n in range(3)])
            gevent.get_hub().destroy(destroy_loop=True)

        for thread in range(3):
            start_thread(ask, (b"t%d" % thread,))
        start_thread(ask_from_a_hub, ())
        wait_until(lambda: len(replies) == 600)
        assert all(replies)
        assert requester.stats().outstanding == 0


@pytest.mark.usefixtures("adopting")
def test_a_native_thread_has_timeouts(context):
    with requester_of("tcp://127.0.0.1:1", context) as lonely:
        outcomes = []

        def ask():
            try:
                lonely.request(b"y", timeout=0.05)
            except RequestTimeout as error:
                outcomes.append(error)

        start_thread(ask, ())
        wait_until(lambda: outcomes)
        assert "never sent within 0.05 s" in str(outcomes[0])
        wait_until(lambda: lonely.stats().timeouts == 1)
        assert lonely.stats().outstanding == 0


def test_a_native_thread_never_touches_the_socket(context, monkeypatch):
    asked = []
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        this = get_ident()
        get = zmq.Socket.get

        def noted(socket, option):
            if get_ident() != this:
                asked.append(option)
            return get(socket, option)

        monkeypatch.setattr(zmq.Socket, "get", noted)
        done = []

        def ask():
            requester.request(b"x", timeout=10)
            try:
                requester.submit(b"x")
            except InvalidThreadUseError:
                done.append(True)

        start_thread(ask, ())
        wait_until(lambda: done)
        assert asked == []


def test_submit_belongs_to_its_hub(context):
    with (
        server_of(context, ignore) as server,
        requester_of(server, context) as requester,
    ):
        assert isinstance(requester.submit(b"x"), AsyncResult)
        outcome = []

        def submit():
            try:
                requester.submit(b"x")
            except InvalidThreadUseError as error:
                outcome.append(error)

        start_thread(submit, ())
        wait_until(lambda: outcome)


def test_a_remote_error_is_raised(context):
    def fail(server, message):
        server.send([*message[:3], ERROR, b"KeyError", b"'\xff'", b"somewhere"])

    with (
        server_of(context, fail) as server,
        requester_of(server, context) as requester,
        pytest.raises(RemoteError, match="KeyError: '\N{REPLACEMENT CHARACTER}'") as caught,
    ):
        requester.request(b"x")
    assert caught.value.traceback == "somewhere"


def test_bad_input_is_refused_and_costs_nothing(context):
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        for arguments, error in [
            (("text",), TypeError),
            (([],), ValueError),
            (([b"x", 5],), TypeError),
            ((b"x", -1), ValueError),
            ((b"x", 1, -1), ValueError),
            ((b"x", 1, 1.5), ValueError),
        ]:
            with pytest.raises(error):
                requester.request(*arguments)
        assert set(requester.stats()) == {0}
    for options in (
        {"dead_after": 0},
        {"max_outstanding": 0},
        {"max_outstanding_bytes": 1.5},
        {"retry_budget": -1},
        {"resolve_every": 0},
        {"immediate": 1},
        {"sndhwm": 10},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            Requester.open("tcp://127.0.0.1:1", context=context, linger=0, **options)
    with pytest.raises(ValueError, match="needs an endpoint"):
        Requester.open(context=context)
    with pytest.raises(zmq.ZMQError):
        Requester.open(["tcp://127.0.0.1:1", "nonsense"], context=context)


@pytest.mark.parametrize("make", [Requester.request, Requester.submit])
def test_a_payload_that_its_server_would_discard_is_refused(context, make):
    most = Source.max_frames - 18
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        with pytest.raises(
            ValueError, match=rf"at most {most} frames, got {most + 1}: .* up to 18"
        ):
            make(requester, [b""] * (most + 1))
        assert set(requester.stats()) == {0}
        assert requester.request([b""] * most, timeout=60) == [b""] * most


def test_the_bound_of_a_payload_is_that_of_sources(context, monkeypatch):
    monkeypatch.setattr(Source, "max_frames", 100)
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        with pytest.raises(ValueError, match="at most 82 frames, got 83"):
            requester.request(iter([b"x"] * 83))
        assert requester.request([b"x"] * 82, timeout=10) == [b"x"] * 82


def test_a_thread_of_the_threading_module_may_ask(context):
    with server_of(context, echo) as server, requester_of(server, context) as requester:
        replies = []
        thread = threading.Thread(target=lambda: replies.append(requester.request(b"x", 10)))
        thread.start()
        wait_until(lambda: replies == [[b"x"]])
        thread.join()


def test_its_repr_tells_what_it_waits_for(context):
    with server_of(context, ignore) as server, requester_of(server, context) as requester:
        requester.submit(b"x")
        wait_until(lambda: server.stats().received)
        assert repr(requester) == f"<Requester 1 outstanding, {endpoint_of(server)} live>"


def test_its_repr_looks_at_no_more_connections_than_it_shows(context, monkeypatch):
    looks, snapshot = [], Connection.snapshot

    def look(connection):
        looks.append(connection)
        return snapshot(connection)

    monkeypatch.setattr(Connection, "snapshot", look)
    endpoints = [f"tcp://127.0.0.1:{port}" for port in free_ports(8)]
    with requester_of(endpoints, context) as requester:
        shown = ", ".join(f"{endpoint} connecting" for endpoint in endpoints[:3])
        assert repr(requester) == f"<Requester 0 outstanding, {shown}, 5 more>"
        assert len(looks) == 3
