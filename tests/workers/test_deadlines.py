"""What cannot be finished in time does not begin; and nothing else is refused."""

import random
from typing import Any

import gevent
import pytest
from asking import Asker, Detail, Kind, responder_of
from gevent.event import Event
from gevent.pool import Pool

from gzmqsource.testing import wait_until
from gzmqsource.workers import current_request
from gzmqsource.workers._jobs import Usual


@pytest.mark.parametrize("spawn", [1, Pool(1)], ids=["int", "pool"])
def test_one_whose_time_is_over_does_not_begin(context, spawn):
    begun, go_on = [], Event()

    def handler(payload):
        begun.append(payload[0])
        go_on.wait()
        return payload

    with (
        responder_of(context, handler, spawn=spawn) as responder,
        Asker(context, responder) as asker,
    ):
        first = asker.ask(b"first")
        wait_until(lambda: responder.stats().running)
        long, short = asker.ask(b"long", left=60_000), asker.ask(b"short", left=10)
        wait_until(lambda: responder.stats().waiting == 2)
        gevent.sleep(0.02)
        go_on.set()
        assert asker.wait_for(short, Kind.REFUSED) == Detail.EXPIRED
        assert asker.wait_for(first) == [b"first"]
        assert asker.wait_for(long) == [b"long"]
        assert begun == [b"first", b"long"]
        stats = responder.stats()
        assert (stats.expired, stats.replies, stats.requests) == (1, 2, 3)


def test_one_that_takes_longer_than_is_left_makes_room_for_another(context):
    begun, go_on = [], Event()

    def handler(payload):
        begun.append(payload)
        if payload == [b"first"]:
            go_on.wait()
        else:
            gevent.sleep(0.05)
        return payload

    with responder_of(context, handler, spawn=1) as responder, Asker(context, responder) as asker:
        for _ in range(3):
            asker.wait_for(asker.ask(left=60_000))
        asker.ask(b"first")
        wait_until(lambda: responder.stats().running)
        keys = [asker.ask(b"%d" % left, left=left) for left in (50, 60_000)]
        wait_until(lambda: responder.stats().waiting == 2)
        go_on.set()
        assert asker.wait_for(keys[0], Kind.REFUSED) == Detail.EXPIRED
        assert asker.wait_for(keys[1]) == [b"60000"]
        assert [b"50"] not in begun


def test_an_idle_one_refuses_nothing_however_long_its_handler_took_before(context):
    go_on = Event()

    def handler(payload):
        if payload == [b"slow"]:
            go_on.wait()
        return payload

    with responder_of(context, handler, spawn=1) as responder, Asker(context, responder) as asker:
        responder._handling.usual.note(60)
        for _ in range(3):
            assert asker.wait_for(asker.ask(left=20_000)) == [b"x"]
        # One that waits begins, too, if no other does.
        asker.ask(b"slow")
        wait_until(lambda: responder.stats().running)
        alone = asker.ask(left=20_000)
        wait_until(lambda: responder.stats().waiting)
        assert responder._handling.usual.needed > 20
        go_on.set()
        assert asker.wait_for(alone) == [b"x"]
        assert responder.stats().expired == 0


def test_a_few_slow_ones_do_not_have_the_quick_ones_refused():
    usual = Usual()
    chance = random.Random(1)
    most = 0.0
    for number in range(5000):
        usual.note(1.0 if chance.random() < 0.2 else 0.002)
        if number > 500:
            most = max(most, usual.needed)
    assert most < 0.03


def test_what_a_handler_usually_takes_is_followed_up_and_down():
    usual = Usual()
    for seconds in (0.001, 0.5, 0.001):
        for _ in range(200):
            usual.note(seconds)
        assert seconds < usual.needed < 1.5 * seconds + 0.01


def test_under_steady_overload_most_of_the_work_is_for_who_still_waits(context):
    """Four times as many as are served ask, each for half a second."""
    done = useful = 0

    def handler(payload):
        nonlocal done, useful
        request: Any = current_request()
        gevent.sleep(0.02)
        done += 1
        useful += request.left > 0.001
        return payload

    with responder_of(context, handler, spawn=4) as responder, Asker(context, responder) as asker:
        asked = 0
        while done < 400:
            for _ in range(asked, 4 * done + 100):
                asker.ask(left=500)
                asked += 1
            gevent.sleep(0.005)
        wait_until(lambda: not responder.stats().waiting)
        stats = responder.stats()
        assert stats.expired > stats.requests / 3
        assert useful > done / 2  # of all that begins in the order of its coming, it is a quarter
