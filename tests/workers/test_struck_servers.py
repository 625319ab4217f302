"""A signal handler raises anywhere in what a server does: each request ends, and it goes on."""

import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import gevent
import pytest
import zmq
from asking import Asker, Kind, responder_of
from brokering import broker_of, worker_of
from gevent.hub import get_hub
from gevent.pool import Pool
from helpers import endpoint_of, unique_inproc
from requesting import in_python
from striking import StrikeAnywhere, Struck, moments

import gzmqsource
from gzmqsource import Source
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester, Responder

if "libuv" in type(get_hub().loop).__module__:
    pytest.skip(
        "gevent aborts if a callback raises that has closed its watcher", allow_module_level=True
    )
pytestmark = pytest.mark.once

#: The parts of a server; those of the client are struck in another test.
PARTS = {
    "broker": ("_back", "_forwarding", "_roster"),
    "workers": (
        *("_askers", "_calling", "_cancelling", "_envelope", "_handling", "_jobs", "_kept"),
        *("_places", "_pulse", "_reception", "_voice"),
    ),
}
HOME = Path(gzmqsource.__file__).parent
FILES = {str(HOME / folder / f"{part}.py") for folder, parts in PARTS.items() for part in parts}


def handle(payload):
    if payload[0] == b"raise":
        raise ValueError
    if payload[0] == b"kill":
        gevent.kill(gevent.getcurrent())
    gevent.sleep(0.001)
    return payload


def struck_at(moment, requester, server):
    """Ask eight times while the server is struck; all must end, and be counted."""
    results = [requester.submit(each) for each in (b"x", b"raise", b"kill", b"x") * 2]
    with StrikeAnywhere(moment, FILES) as strike, contextlib.suppress(Struck):
        gevent.wait(results, timeout=5)
    place = strike.place
    assert len(gevent.wait(results, timeout=5)) == len(results), place
    for result in results:
        assert result.value or not isinstance(result.exception, Struck), place
    stats = server.stats()
    ends = (stats.replies, stats.errors, stats.undelivered, stats.full, stats.leaving)
    assert sum((*ends, stats.expired, stats.cancelled, stats.lost)) == stats.requests, place
    assert (stats.waiting, stats.running) == (0, 0), place
    assert requester.request(b"x", timeout=5) == [b"x"], place
    return place


SPAWN = {
    "one": lambda: 1,
    "four": lambda: 4,
    "None": lambda: None,
    "Pool": lambda: Pool(2),
    "spawn": lambda: gevent.spawn,
}


@pytest.mark.parametrize("where", ["steps in C", "steps in Python"])
@pytest.mark.parametrize("spawn", SPAWN.values(), ids=SPAWN)
def test_a_responder_loses_no_request_and_no_place(spawn, where, monkeypatch):
    monkeypatch.setattr(get_hub(), "handle_error", lambda *_: None)

    def scenario(moment):
        endpoint = unique_inproc()
        with (
            zmq.Context() as context,
            in_python() if where == "steps in Python" else contextlib.nullcontext(),
            Responder.open(
                handle,
                bind=endpoint,
                context=context,
                spawn=spawn(),
                on_error=lambda *_: None,
                dead_after=0.4,
            ) as responder,
            Requester.open(endpoint, context=context) as requester,
        ):
            responder.start()
            assert requester.request(b"x", timeout=5) == [b"x"]
            place = struck_at(moment, requester, responder)
            places = responder._places
            assert getattr(places, "idle", places.size) == places.size, place
            assert responder.stop(5) == 0
        return place

    moments(scenario, at_least=50, step=7)


@pytest.mark.parametrize("where", ["steps in C", "steps in Python"])
def test_a_broker_loses_no_request_and_no_place(where, monkeypatch):
    monkeypatch.setattr(get_hub(), "handle_error", lambda *_: None)

    def scenario(moment):
        with (
            zmq.Context() as context,
            in_python() if where == "steps in Python" else contextlib.nullcontext(),
            broker_of(context) as broker,
            worker_of(broker, handle, 2),
            Requester.open(endpoint_of(broker.front), context=context) as requester,
        ):
            wait_until(lambda: broker.stats().slots == 2)
            assert requester.request(b"x", timeout=5) == [b"x"]
            return struck_at(moment, requester, broker)

    moments(scenario, at_least=50, step=7)


def test_a_timeout_that_was_left_running_takes_no_reply(context):
    # It strikes in a reply that waits for its turn, after the handler has returned.
    def send(message, block=True):
        if block and not struck:
            struck.append(gevent.Timeout())
            raise struck[0]
        Source.send(source, message, block)

    struck: list[gevent.Timeout] = []
    errors: list[BaseException] = []
    source: Any = Source.open(
        zmq.ROUTER,
        bind=unique_inproc(),
        context=context,
        overflow="raise",
        on_error=lambda error, _: errors.append(error),
    )
    source._shortcut_send = lambda message: False
    source.send = send
    with (
        Responder(source, handle, 2) as responder,
        Requester.open(endpoint_of(source), context=context) as requester,
    ):
        responder.start()
        assert requester.request(b"x", timeout=5) == [b"x"]
        assert errors == struck != []
        assert responder.stats().replies == 1


def test_a_worker_in_the_place_of_one_that_was_killed_reports_and_goes_on(context):
    errors: list[BaseException] = []
    with Responder.open(
        handle,
        bind=unique_inproc(),
        context=context,
        spawn=2,
        on_error=lambda error, _: errors.append(error),
    ) as responder:
        workers: Any = responder._places
        workers.go_on = Mock(side_effect=gevent.Timeout())
        gevent.spawn(workers._replace).join(5)
        assert errors == [workers.go_on.side_effect]
        assert workers.idle == 2


def test_a_tick_begins_what_was_left_waiting(context):
    def hold(payload):
        if not held:
            held.append(gevent.getcurrent())
            gevent.sleep(60)
        return payload

    def struck():
        if workers.idle and not strikes:
            strikes.append(workers.idle)
            raise Struck
        resume()

    held: list[Any] = []
    strikes: list[int] = []
    with (
        Responder.open(
            hold,
            bind=unique_inproc(),
            context=context,
            spawn=1,
            on_error=lambda *_: None,
            dead_after=0.4,
        ) as responder,
        Requester.open(endpoint_of(responder.source), context=context) as requester,
    ):
        workers: Any = responder._places
        resume, workers.resume = workers.resume, struck
        responder.start()
        requester.submit(b"x")
        wait_until(lambda: held)
        waiting = requester.submit(b"y")
        wait_until(lambda: responder.stats().waiting)
        gevent.kill(held[0])
        assert waiting.get(timeout=5) == [b"y"]
        assert strikes == [1]


def test_a_kill_of_a_handler_costs_no_look_at_all_that_run(context):
    with Responder.open(handle, bind=unique_inproc(), context=context) as responder:
        running = responder._handling.running = Mock()
        responder._reception.salvage([b"asker", b"", b"x"], gevent.GreenletExit())
        assert running.mock_calls == []
        responder._handling.running = {}


def test_a_request_that_is_lost_before_it_has_begun_ends_with_the_attempt_that_was_made(context):
    with responder_of(context, handle) as responder, Asker(context, responder) as asker:
        responder._reception._ask = Mock(side_effect=Struck)
        key = asker.ask(attempt=2)
        asker.wait_for(key, Kind.LOST)
        assert [header.attempt for header, _ in asker.of(key)] == [2]
