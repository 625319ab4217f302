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
