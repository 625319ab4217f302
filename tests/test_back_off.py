"""Errors in a row, of receiving or of spawning: pauses as long as they must be and no longer."""

import itertools
import time

import gevent
import pytest
from handlers import INPROC, SPAWNS, fed

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until


class Faulty:
    """Calls a function; before that it raises as often as it was told to, and notes when."""

    def __init__(self, function, failures):
        self.function = function
        self.failures = iter(failures)
        self.times = []

    def __call__(self, *arguments):
        self.times.append(time.monotonic())
        if next(self.failures, False):
            raise MemoryError
        return self.function(*arguments)


class Slow(Source):
    min_delay = max_delay = 3600  # a test that begins such a pause does not end


def faulty(what, context, handle, limits, failures):
    """A server whose receive, or whose spawn, fails at these calls from its start on."""

    class Server(limits):  # type: ignore[misc, valid-type]
        def start(self):
            if what == "receive":
                self.fault = self._core.receive = Faulty(self._core.receive, failures)
            else:
                self.fault = self._spawn = Faulty(gevent.spawn, failures)
            super().start()

    return fed(context, handle, INPROC, opened=Server, on_error=lambda *_: None)


either = pytest.mark.parametrize("what", ["receive", "spawn"])


@either
def test_pauses_between_errors_in_a_row_double(context, what):
    class Doubling(Source):
        min_delay, max_delay = 0.02, 0.08

    with faulty(what, context, print, Doubling, [True] * 5) as (server, client):
        client.send(b"x")
        wait_until(lambda: len(server.fault.times) > 5)
    pauses = [after - before for before, after in itertools.pairwise(server.fault.times)]
    # libuv counts in milliseconds, from the beginning of its loop's turn.
    least = [0, 0.018, 0.038, 0.078, 0.078]
    assert all(pause >= low for low, pause in zip(least, pauses[:5], strict=True))


@either
def test_a_pause_after_an_error_is_never_longer_than_the_longest(context, what):
    class Bounded(Source):
        min_delay, max_delay = 0.001, 0.002

    got: list[list[bytes]] = []
    # The last pause would be over a minute.
    with faulty(what, context, got.append, Bounded, [True] * 18) as (_, client):
        client.send(b"x")
        wait_until(lambda: got)


@either
def test_no_pause_follows_an_error_behind_a_success(context, what):
    got: list[list[bytes]] = []
    with faulty(what, context, got.append, Slow, [True, False] * 20) as (server, client):
        for number in range(10):
            client.send(b"%d" % number)
            wait_until(lambda: len(got) > number)  # noqa: B023
    assert server.stats().errors >= 10


@either
def test_a_message_long_after_the_errors_is_not_delayed(context, what):
    """The pause belongs to the error before it, and is over by then."""

    class Brief(Source):
        min_delay = max_delay = 0.01

    got: list[list[bytes]] = []
    with faulty(what, context, got.append, Brief, [True] * 2) as (server, client):
        client.send(b"x")
        wait_until(lambda: got)
        server.min_delay = server.max_delay = 3600
        client.send(b"y")
        wait_until(lambda: len(got) == 2)


@pytest.mark.parametrize("end", [Source.stop, Source.close])
def test_ending_does_not_wait_for_the_pause_after_errors_of_receive(context, end):
    with faulty("receive", context, print, Slow, [True] * 3) as (server, _):
        wait_until(lambda: server.stats().errors == 2)
        all_blocked()
        assert server.stats().errors == 2
        with gevent.Timeout(10):
            end(server)


@pytest.mark.parametrize(
    "end", [lambda server: server.stop(0.05), Source.close], ids=["stop", "close"]
)
def test_a_message_that_could_not_be_spawned_is_counted_when_the_source_ends(context, end):
    got: list[list[bytes]] = []
    with faulty("spawn", context, got.append, Slow, [True] * 3) as (server, client):
        client.send(b"x")
        wait_until(lambda: server.stats().errors == 2)
        all_blocked()
        assert server.stats().in_hand == 1
        with gevent.Timeout(10):
            end(server)
        all_blocked()
        stats = server.stats()
        assert (stats.dropped, stats.in_hand, got) == ({"unhandled": 1}, 0, [])


def test_spawning_that_fails_loses_no_message_and_keeps_their_order(context):
    class Brief(Source):
        min_delay = max_delay = 0.001

    got: list[list[bytes]] = []
    failures = [True, False, True, True, False, False, True] * 10
    with faulty("spawn", context, got.append, Brief, failures) as (server, client):
        for number in range(40):
            client.send(b"%d" % number)
        wait_until(lambda: len(got) == 40)
        assert server.started
    assert got == [[b"%d" % number] for number in range(40)]


@pytest.mark.parametrize("spawn", SPAWNS.values(), ids=list(SPAWNS))
def test_a_handler_that_raises_never_pauses_the_intake(context, spawn):
    errors = []
    with fed(
        context,
        lambda _: 1 / 0,
        INPROC,
        opened=Slow,
        spawn=spawn(),
        on_error=lambda *what: errors.append(what),
    ) as (server, client):
        for number in range(200):
            client.send(b"%d" % number)
        wait_until(lambda: len(errors) == 200)
        assert server.started
    assert [message for _, message in errors] == [[b"%d" % number] for number in range(200)]
    assert {type(error) for error, _ in errors} == {ZeroDivisionError}
