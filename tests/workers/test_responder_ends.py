"""A responder whose source ends in another way: closed, lost, or left to the parent process."""

import gevent
import pytest
from asking import Asker, Kind, responder_of
from gevent.event import Event
from gevent.exceptions import BlockingSwitchOutError
from gevent.pool import Pool
from helpers import in_the_hub

from gzmqsource import SourceBroken, SourceClosed
from gzmqsource.testing import all_blocked, in_forked_child, no_leaks, wait_until
from gzmqsource.workers import Requester, Responder

SPAWNS = pytest.mark.parametrize("spawn", [1, Pool(1), gevent.spawn], ids=["int", "pool", "spawn"])


class Held:
    """A handler that waits until it is let go."""

    def __init__(self):
        self.begun = []
        self.go_on = Event()

    def __call__(self, payload):
        self.begun.append(payload)
        self.go_on.wait()
        return payload


@SPAWNS
@pytest.mark.parametrize("end", ["close", "stop the source", "lose the socket"])
def test_what_waits_ends_with_the_source_and_what_runs_goes_on(context, spawn, end):
    held = Held()
    with responder_of(context, held, spawn=spawn) as responder, Asker(context, responder) as asker:
        for _ in range(3):
            asker.ask()
        wait_until(lambda: responder.stats().requests == 3)
        all_blocked()
        running = responder.stats().running
        if end == "close":
            responder.close()
        elif end == "stop the source":
            responder.source.stop(0.01)
        else:
            responder.source._core.raw.close(0)
        wait_until(lambda: responder.closed)
        all_blocked()
        assert responder.stats().waiting == 0
        held.go_on.set()
        wait_until(lambda: not responder.stats().running)
        all_blocked()
        assert len(held.begun) == running
        stats = responder.stats()
        assert stats.undelivered + stats.lost + stats.leaving == 3
        assert not responder._reception.is_watched


@SPAWNS
def test_it_leaves_nothing_behind(context, spawn):
    def once():
        with (
            responder_of(context, lambda payload: payload, spawn=spawn) as responder,
            Asker(context, responder) as asker,
        ):
            asker.wait_for(asker.ask())
        all_blocked()

    once()
    with no_leaks():
        once()


@pytest.mark.parametrize("is_started", [True, False], ids=["started", "not started"])
def test_a_stop_in_a_callback_of_the_hub_changes_nothing(context, is_started):
    with (
        Responder.open(lambda payload: payload, bind="inproc://a", context=context) as responder,
        Requester.open("inproc://a", context=context) as requester,
    ):
        if is_started:
            responder.start()
        with pytest.raises(BlockingSwitchOutError, match=r"gevent\.spawn\(responder\.stop\)"):
            in_the_hub(responder.stop)
        responder.start()
        assert requester.request(b"x", timeout=10) == [b"x"]


def test_a_lost_socket_is_raised_to_who_serves_for_ever(context):
    responder = Responder.open(Held(), bind="inproc://lost", context=context)
    serving = gevent.spawn(responder.serve_forever)
    wait_until(lambda: responder.source.started)
    responder.source._core.raw.close(0)
    with pytest.raises(SourceBroken):
        serving.get(timeout=10)
    with pytest.raises(SourceClosed):
        responder.start()
    assert responder.stop() == 0


def test_a_forked_child_neither_answers_nor_speaks(context):
    held = Held()
    with (
        responder_of(context, held, dead_after=0.04) as responder,
        Asker(context, responder) as asker,
    ):
        key = asker.ask()
        wait_until(lambda: held.begun)

        def child():
            gevent.reinit()
            gevent.sleep(0.1)
            assert responder.closed
            assert responder.stop() == 0

        in_forked_child(child)
        before = asker.count(Kind.PONG)
        asker.until_heard(Kind.PONG, before + 5)
        held.go_on.set()
        assert asker.wait_for(key) == [b"x"]
