"""Many requests that end at once do so in turns: the hub polls in between."""

from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from helpers import _sleep, endpoint_of, in_thread, unique_inproc

from gzmqsource import SourceClosed
from gzmqsource.errors import PeerLost, RequestTimeout
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Requester
from gzmqsource.workers._clock import Clock
from gzmqsource.workers._turns import TURN

MANY = 5 * TURN


class Call:
    deadline: float | None = None


@pytest.fixture
def requester(context):
    with Requester.open(bind="tcp://127.0.0.1:0", context=context, linger=0) as requester:
        yield requester


def outcomes_of(requester, count, **options):
    """Ask many times; return the list that their errors come into, and their greenlets."""
    errors = []

    def ask():
        try:
            requester.request(b"x", **options)
        except Exception as error:
            errors.append(error)

    greenlets = [gevent.spawn(ask) for _ in range(count)]
    all_blocked()
    return errors, greenlets


def largest_step(errors, greenlets):
    """Return the most calls that end between two polls of the hub."""
    largest, before = 0, len(errors)
    loop: Any = get_hub().loop
    while not all(greenlet.dead for greenlet in greenlets):
        with loop.timer(0, priority=-2) as timer:
            get_hub().wait(timer)
        largest, before = max(largest, len(errors) - before), len(errors)
    return largest


def test_calls_that_expire_at_once_do_so_in_turns(requester):
    errors, greenlets = outcomes_of(requester, MANY, timeout=0.1)
    _sleep(0.2)
    assert largest_step(errors, greenlets) <= 2 * TURN
    assert [type(error) for error in errors] == [RequestTimeout] * MANY


def test_calls_of_a_requester_that_closes_end_in_turns_with_an_error_each(requester):
    errors, greenlets = outcomes_of(requester, MANY)
    requester.close()
    assert largest_step(errors, greenlets) <= 2 * TURN
    assert [type(error) for error in errors] == [SourceClosed] * MANY
    assert len(set(map(id, errors))) == MANY


def test_a_reply_that_comes_while_others_expire_counts(context):
    server = context.socket(zmq.ROUTER)
    address = unique_inproc()
    server.bind(address)
    with Requester.open(address, context=context, linger=0) as requester:
        last: Any = requester.submit(b"last", 1)
        asked = server.recv_multipart()
        requests: list[Any] = [requester.submit(b"x", 0.1) for _ in range(MANY)]
        requester._dispatcher.clock.stop(last)
        requester._dispatcher.clock.start(last, 0.1)
        requests[0].rawlink(lambda _: server.send_multipart(asked))
        _sleep(0.2)
        assert last.get(timeout=5) == [b"last"]
        gevent.joinall(requests, timeout=5)
        assert requester.stats().timeouts == MANY
    server.close(0)


def test_calls_of_another_thread_end_with_the_first_turn(requester):

    def ask():
        with pytest.raises(SourceClosed):
            requester.request(b"x")

    errors, greenlets = outcomes_of(requester, MANY)
    other = gevent.spawn(in_thread, ask)
    wait_until(lambda: requester.stats().outstanding == MANY + 1)
    foreign: Any = list(requester._dispatcher.calls())[-1]
    closing = gevent.spawn(requester.close)
    for _ in range(MANY):
        if foreign.value is None:
            gevent.sleep(0)
    assert foreign.value is not None
    assert len(errors) < MANY
    closing.join()
    other.get(timeout=5)
    gevent.joinall(greenlets, timeout=5)


def test_calls_whose_peer_is_lost_end_in_turns(context):
    server = context.socket(zmq.ROUTER)
    server.bind("tcp://127.0.0.1:*")
    with Requester.open(endpoint_of(server), context=context, linger=0) as asker:
        errors, greenlets = outcomes_of(asker, MANY)
        wait_until(lambda: asker.endpoints()[0].outstanding == MANY)
        for _ in range(MANY):
            server.recv_multipart()
        server.close(0)
        assert largest_step(errors, greenlets) <= 2 * TURN
        assert [type(error) for error in errors] == [PeerLost] * MANY


def test_cancelled_deadlines_leave_nothing_behind():
    clock = Clock(pytest.fail, lambda calls: None)
    calls = [Call() for _ in range(1000)]
    for number, call in enumerate(calls):
        clock.start(call, 60 + number)
    for call in reversed(calls):
        clock.stop(call)
    assert not clock.calls
    assert len(clock._ticks) <= clock.slack
    clock.close()
    all_blocked()
