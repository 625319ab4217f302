"""How a request ends that a worker has lost, and that no other one finishes."""

import pytest
from brokering import ScriptedWorker, asking, broker_of

from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost
from gzmqsource.workers._header import Detail, Kind

#: Long enough that only the end of a connection shows that a worker is gone.
LONG = 30.0


@pytest.fixture
def ends(context):
    """Yield a broker, a requester, and a request that the broker is to give to a second worker."""
    with (
        broker_of(context, dead_after=LONG, redeliver=True) as broker,
        asking(broker, dead_after=LONG) as requester,
    ):
        asked = requester.submit(b"x")
        with ScriptedWorker(broker) as gone:
            gone.next_request()
        wait_until(lambda: broker.stats().redelivered == 1)
        yield broker, requester, asked


def check_lost(broker, requester, asked):
    """Check that a request has ended, and counts as lost, and as nothing else, at both ends."""
    with pytest.raises(PeerLost):
        asked.get(timeout=10)
    mine, theirs = requester.stats(), broker.stats()
    assert (mine.requests, mine.lost) == (theirs.requests, theirs.lost) == (1, 1)


def test_one_that_has_no_time_left_for_the_next_worker_counts_as_lost(ends):
    broker, *_ = ends
    with ScriptedWorker(broker) as other:
        key, _ = other.next_request()
        other.say(Kind.REFUSED, key, detail=Detail.EXPIRED)
        check_lost(*ends)


def test_one_that_waits_for_a_worker_at_the_stop_counts_as_lost(ends):
    broker, *_ = ends
    assert broker.stop(0.5) == 1
    check_lost(*ends)


def given_again_to_one_that_was_silent(broker, worker):
    """Have a worker given a request again that it was given; return both keys."""
    first, _ = worker.next_request()
    wait_until(lambda: broker.stats().redelivered == 1)
    worker.join(2, left=60_000)
    again, _ = worker.next_request(2)
    return first, again


def given_again_over_a_new_connection(broker, worker):
    """The same, for a worker with a new connection."""
    first, _ = worker.next_request()
    session = worker.session
    worker.say(Kind.JOIN, left=60_000)
    wait_until(lambda: worker.session != session)
    worker.join(2, left=60_000)
    again, _ = worker.next_request(2)
    return first, again


@pytest.mark.parametrize(
    "given_again", [given_again_to_one_that_was_silent, given_again_over_a_new_connection]
)
def test_one_that_its_worker_was_given_again_does_not_end_as_it_was_given_first(
    context, given_again
):
    with (
        broker_of(context, redeliver=True) as broker,
        asking(broker, dead_after=LONG) as requester,
        ScriptedWorker(broker) as worker,
    ):
        asked = requester.submit(b"x")
        first, again = given_again(broker, worker)
        assert first != again
        worker.say(Kind.LOST, first)
        worker.say(Kind.REPLY, again, [b"reply"])
        assert asked.get(timeout=10) == [b"reply"]
        assert broker.stats().redelivered == 1
        assert [each.outstanding for each in broker.workers()] == [0]


@pytest.mark.parametrize("most", [1, 2])
def test_one_that_its_worker_was_given_again_is_lost_once_if_that_goes(context, most):
    with (
        broker_of(context, redeliver=True) as broker,
        asking(broker, dead_after=LONG) as requester,
    ):
        broker._back.max_redeliveries = most
        asked = requester.submit(b"x")
        with ScriptedWorker(broker) as worker:
            given_again_to_one_that_was_silent(broker, worker)
        if most > 1:
            with ScriptedWorker(broker) as other:
                other.next_request()
        check_lost(broker, requester, asked)
        assert broker.stats().redelivered == most
