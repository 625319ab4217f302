"""Errors in a row: pauses between them, as long as they must be and no longer."""

import itertools
import time

import gevent
import pytest
from handlers import INPROC, fed

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until


class Timed:
    """A handler that notes when it is called, and raises for a bad message."""

    def __init__(self):
        self.times = []

    def __call__(self, message):
        self.times.append(time.monotonic())
        if message == [b"bad"]:
            raise ValueError


class Slow(Source):
    min_delay = max_delay = 3600  # a test that begins such a pause does not end


def send_each(client, *texts):
    for text in texts:
        client.send(text)


def test_pauses_between_errors_in_a_row_double(context):
    class Doubling(Source):
        min_delay, max_delay = 0.02, 0.08

    handle = Timed()
    with fed(context, handle, INPROC, opened=Doubling, on_error=lambda *_: None) as (_, client):
        send_each(client, *[b"bad"] * 6)
        wait_until(lambda: len(handle.times) == 6)
    pauses = [after - before for before, after in itertools.pairwise(handle.times)]
    # libuv counts in milliseconds, from the beginning of its loop's turn.
    least = [0, 0.018, 0.038, 0.078, 0.078]
    assert all(pause >= low for low, pause in zip(least, pauses, strict=True))


def test_a_pause_after_an_error_is_never_longer_than_the_longest(context):
    class Bounded(Source):
        min_delay, max_delay = 0.001, 0.002

    handle = Timed()
    with fed(context, handle, INPROC, opened=Bounded, on_error=lambda *_: None) as (_, client):
        send_each(client, *[b"bad"] * 18)  # the last pause would be over a minute
        wait_until(lambda: len(handle.times) == 18)


def test_no_pause_follows_an_error_behind_a_success(context):
    handle = Timed()
    with fed(context, handle, INPROC, opened=Slow, on_error=lambda *_: None) as (_, client):
        send_each(client, *[b"bad", b"good"] * 5)
        wait_until(lambda: len(handle.times) == 10)


@pytest.mark.parametrize("spawn", [1, 3])
def test_errors_in_a_pool_back_off_too(context, spawn):
    class Steady(Source):
        min_delay = max_delay = 0.02

    handle, count = Timed(), 14 * spawn
    with fed(context, handle, INPROC, opened=Steady, spawn=spawn, on_error=lambda *_: None) as (
        _,
        client,
    ):
        send_each(client, *[b"bad"] * count)
        wait_until(lambda: len(handle.times) == count)
    # Between two pauses the pool is filled twice at most.
    assert handle.times[-1] - handle.times[0] >= 6 * 0.018


def test_a_message_long_after_the_errors_is_not_delayed(context):
    """The pause belongs to the error before it, and is over by then."""

    class Brief(Source):
        min_delay = max_delay = 0.01

    handle = Timed()
    with fed(context, handle, INPROC, opened=Brief, on_error=lambda *_: None) as (server, client):
        send_each(client, b"bad", b"bad")
        wait_until(lambda: len(handle.times) == 2)
        wait_until(lambda: time.monotonic() > handle.times[1] + 0.02)
        all_blocked()
        server.min_delay = server.max_delay = 3600
        client.send(b"good")
        wait_until(lambda: len(handle.times) == 3)
        assert server.stats().budget_stops == 0


@pytest.mark.parametrize("end", [Source.stop, Source.close])
def test_ending_does_not_wait_for_the_pause_after_errors(context, end):
    with fed(context, lambda _: 1 / 0, INPROC, opened=Slow, on_error=lambda *_: None) as (
        server,
        client,
    ):
        send_each(client, *[b"bad"] * 3)
        wait_until(lambda: server.stats().errors == 2)
        all_blocked()
        assert server.stats().errors == 2
        with gevent.Timeout(10):
            end(server)


def test_a_flood_of_errors_leaves_others_their_turn_and_loses_none(context):
    class Quick(Source):
        min_delay = max_delay = 0.001

    errors = []
    with fed(
        context, lambda _: 1 / 0, INPROC, opened=Quick, on_error=lambda *what: errors.append(what)
    ) as (
        server,
        client,
    ):
        for number in range(200):
            client.send(b"%d" % number)
        wait_until(lambda: len(errors) == 200)
        assert server.started
    assert [message for _, message in errors] == [[b"%d" % number] for number in range(200)]
