"""How a broker is made, ends, and starts anew."""

import contextlib

import gevent
import pytest
import zmq
from brokering import SOON, Sleeper, asking, broker_of, worker_of
from helpers import endpoint_of, in_thread, unique_inproc

from gzmqsource import Source
from gzmqsource.broker import Broker
from gzmqsource.errors import InvalidThreadUseError
from gzmqsource.testing import wait_until
from gzmqsource.workers import RequestCancelled, Requester, Responder


def echo(payload):
    return payload


@contextlib.contextmanager
def worker_at(context, endpoint):
    """Run a worker of a broker that may not be there."""
    worker = Responder.join(endpoint, echo, context=context, dead_after=SOON, linger=0)
    worker.start()
    try:
        yield worker
    finally:
        worker.close()


def test_a_stop_finishes_what_was_accepted(context):
    sleeper = Sleeper()
    with (
        broker_of(context) as broker,
        worker_of(broker, sleeper),
        asking(broker) as requester,
    ):
        asked = [requester.submit(b"x") for _ in range(3)]
        wait_until(lambda: broker.stats().running == 1 and broker.stats().waiting == 2)
        stopping = gevent.spawn(broker.stop, 10)
        wait_until(lambda: broker._reception.is_leaving)
        sleeper.go_on.set()
        assert stopping.get(timeout=10) == 0
        assert [each.get(timeout=10) for each in asked] == [[b"x"]] * 3
        assert broker.closed
        assert broker.back.closed


def test_a_stop_finishes_what_waits_for_a_worker(context):
    with broker_of(context) as broker, asking(broker) as requester:
        asked = requester.submit(b"x")
        wait_until(lambda: broker.stats().waiting == 1)
        stopping = gevent.spawn(broker.stop, 10)
        stopping.join(0.5)  # it would have ended by now if it did not wait for a worker
        with worker_of(broker, echo):
            assert stopping.get(timeout=10) == 0
            assert asked.get(timeout=10) == [b"x"]


def test_a_stop_gives_up_in_time_and_the_worker_is_told(context):
    sleeper = Sleeper()
    with (
        broker_of(context) as broker,
        worker_of(broker, sleeper),
        asking(broker) as requester,
    ):
        requester.submit(b"x")
        requester.submit(b"y")
        wait_until(lambda: broker.stats().running == 1 and broker.stats().waiting == 1)
        assert broker.stop(0.3) == 2
        wait_until(lambda: sleeper.ended == [RequestCancelled])


def test_several_brokers_share_what_a_worker_takes(context):
    with (
        broker_of(context) as one,
        broker_of(context) as two,
        worker_of([one, two], echo, 4),
        asking([one, two]) as requester,
    ):
        wait_until(lambda: one.stats().slots == two.stats().slots == 2)
        for _ in range(10):
            assert requester.request(b"x", timeout=10) == [b"x"]
        assert one.stats().replies
        assert two.stats().replies
        two.close()
        wait_until(lambda: one.stats().slots == 4)
        assert requester.request(b"x", timeout=10, retries=3) == [b"x"]


def test_a_broker_that_starts_anew_has_its_workers_again(context):
    with broker_of(context) as broker:
        back, front = endpoint_of(broker.back), endpoint_of(broker.front)
        with worker_of(broker, echo) as worker, Requester.open(front, context=context) as requester:
            assert requester.request(b"x", timeout=10) == [b"x"]
            broker.stop(5)
            anew = Broker.open(front, back, context=context, dead_after=SOON)
            anew.start()
            assert requester.request(b"y", timeout=10) == [b"y"]
            anew.close()
            assert not worker.closed


def test_both_ends_are_routers_without_handlers(context):
    with Source.open(zmq.ROUTER, context=context) as router:
        with (
            Source.open(zmq.DEALER, context=context) as dealer,
            pytest.raises(ValueError, match="a ROUTER at each end"),
        ):
            Broker(router, dealer)
        with (
            Source.open(zmq.ROUTER, print, context=context) as handled,
            pytest.raises(ValueError, match="open it without one for a Broker"),
        ):
            Broker(router, handled)
        assert router.handle is None, "it was taken by a broker that was not made"
        assert router.started


def test_it_needs_endpoints_and_leaves_no_socket_open(context):
    with pytest.raises(ValueError, match="endpoints to bind"):
        Broker.open("tcp://127.0.0.1:*", (), context=context)
    with pytest.raises(zmq.ZMQError):
        Broker.open("tcp://127.0.0.1:*", "odd://", context=context)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_the_end_of_its_thread_closes_both_ends_and_nothing_raises(context, capfd):
    made: list[Broker] = []

    def own():
        broker = Broker.open("inproc://front", "inproc://back", context=context)
        broker.start()
        worker = Responder.join("inproc://back", echo, context=context, linger=0)
        worker.start()
        wait_until(broker.workers)
        made.append(broker)

    in_thread(own)
    wait_until(lambda: made and made[0].closed and made[0].back.closed)
    assert capfd.readouterr().err == ""


def test_it_belongs_to_its_hub(context):
    with broker_of(context) as broker:
        assert isinstance(in_thread(broker.stop, 0), InvalidThreadUseError)


def test_a_worker_at_the_front_and_a_client_at_the_back_are_named(context, caplog):
    with broker_of(context) as broker:
        with Responder.join(endpoint_of(broker.front), list, context=context, linger=0) as worker:
            worker.start()
            wait_until(lambda: "joins the back of a broker" in caplog.text)
        with Requester.open(endpoint_of(broker.back), context=context, linger=0) as requester:
            requester.submit(b"x")
            wait_until(lambda: "it asks the front" in caplog.text)


@pytest.mark.parametrize("ending", ["close", "stop"])
def test_a_worker_joins_a_broker_again_that_starts_again_in_the_process(context, ending):
    front, back = unique_inproc(), unique_inproc()
    with worker_at(context, back) as worker, Requester.open(front, context=context) as requester:
        for number in range(3):
            broker = Broker.open(front, back, context=context, dead_after=SOON)
            broker.start()
            wait_until(lambda: worker.is_member)
            assert requester.request(b"%d" % number, timeout=10) == [b"%d" % number]
            getattr(broker, ending)()
            wait_until(lambda: not worker.is_member)
        assert worker.leave(10) == 0


def test_a_worker_leaves_although_its_broker_has_gone_before_they_spoke(context):
    for _ in range(10):
        endpoint = unique_inproc()
        broker = Broker.open(unique_inproc(), endpoint, context=context)
        broker.start()
        with worker_at(context, endpoint) as worker:
            broker.close()
            assert worker.leave(10) == 0
            assert worker.closed


def test_a_worker_that_leaves_finishes_what_takes_longer_than_its_broker_is_silent(context):
    sleeper = Sleeper()
    with (
        broker_of(context) as broker,
        asking(broker) as requester,
        worker_of(broker, sleeper) as worker,
    ):
        asked = requester.submit(b"x")
        wait_until(lambda: sleeper.begun)
        leaving = gevent.spawn(worker.leave, 20)
        leaving.join(3 * SOON)
        assert not asked.ready()
        sleeper.go_on.set()
        assert asked.get(timeout=10) == [b"x"]
        assert leaving.get(timeout=10) == 0
