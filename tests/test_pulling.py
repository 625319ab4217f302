"""Pulling: waiting, limits, order, and the end."""

import gevent
import pytest
import zmq
from gevent.queue import Empty
from helpers import closing, endpoint_of, pair_of

from gzmqsource import Source, SourceBroken, SourceClosed
from gzmqsource.testing import all_blocked, wait_until


def test_recv_raises_empty_when_there_is_nothing(context):
    with closing(Source.open(zmq.PULL, context=context)) as (source,):
        for call in (
            lambda: source.recv(block=False),
            lambda: source.recv(timeout=0),
            lambda: source.recv(timeout=0.01),
            lambda: source.recv_many(5, block=False),
        ):
            with pytest.raises(Empty):
                call()


def test_recv_many_gives_what_is_there_up_to_its_limit(context, endpoint):
    receiver, sender = pair_of(context, endpoint)
    with closing(receiver, sender):
        for number in range(5):
            sender.send(b"%d" % number)
        received: list[list[bytes]] = []
        while len(received) < 5:
            some = receiver.recv_many(3, timeout=5)
            assert 1 <= len(some) <= 3
            received += some
        assert received == [[b"%d" % number] for number in range(5)]


def test_recv_many_stops_at_the_bound_in_bytes(context):
    class Source1000(Source):
        max_bytes = 1000

    receiver = Source1000.open(zmq.PULL, bind="inproc://a", context=context)
    sender = Source.open(zmq.PUSH, connect="inproc://a", context=context)
    with closing(receiver, sender):
        for _ in range(10):
            sender.send(b"x" * 400)
        assert len(receiver.recv_many(10, timeout=5)) == 3


@pytest.mark.parametrize("limit", [0, -1])
def test_recv_many_needs_a_limit_of_at_least_one(context, limit):
    with (
        closing(Source.open(zmq.PULL, context=context)) as (source,),
        pytest.raises(ValueError, match="limit="),
    ):
        source.recv_many(limit)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_a_negative_timeout_is_an_error_and_nothing_is_lost(context, timeout):
    receiver, sender = pair_of(context, "inproc://a")
    with closing(receiver, sender):
        sender.send(b"message")
        calls = (
            lambda: receiver.recv(timeout=timeout),
            lambda: sender.send(b"x", timeout=timeout),
            lambda: sender.flush(timeout),
            lambda: sender.stop(timeout),
            lambda: sender.sender().send(b"x", timeout=timeout),
        )
        for call in calls:
            with pytest.raises(ValueError, match="timeout="):
                call()
        assert receiver.recv(timeout=5) == [b"message"]
        assert sender.stats().sent == 1


def test_pulling_from_a_source_with_a_handler_is_an_error(context):
    with (
        closing(Source.open(zmq.PULL, print, context=context)) as (source,),
        pytest.raises(TypeError, match="has a handler"),
    ):
        source.recv()


@pytest.mark.parametrize("end", [Source.stop, Source.close])
def test_the_iteration_ends_with_the_source(context, endpoint, end):
    receiver, sender = pair_of(context, endpoint)
    with closing(receiver, sender):
        reading = gevent.spawn(lambda: list(receiver))
        for number in range(10):
            sender.send(b"%d" % number)
        wait_until(lambda: receiver.stats().received == 10)
        end(receiver)
        assert reading.get(timeout=5) == [[b"%d" % number] for number in range(10)]
        with pytest.raises(SourceClosed):
            receiver.recv()


def test_the_iteration_raises_when_the_socket_is_taken_away():
    context = zmq.Context()
    receiver = Source.open(zmq.PULL, bind="inproc://a", context=context)

    def read():
        with pytest.raises(SourceBroken):
            list(receiver)
        return "told"

    reading = gevent.spawn(read)
    all_blocked()
    context._warn_destroy_close = False
    context.destroy(0)
    assert reading.get(timeout=5) == "told"


def test_waiting_greenlets_are_served_in_the_order_in_which_they_came(context, endpoint):
    receiver, sender = pair_of(context, endpoint)
    order = []

    def pull(number):
        order.append((number, receiver.recv()))

    with closing(receiver, sender):
        waiting = []
        for number in range(5):
            waiting.append(gevent.spawn(pull, number))
            all_blocked()
        for number in range(5):
            sender.send(b"%d" % number)
        gevent.joinall(waiting, timeout=5)
        assert order == [(number, [b"%d" % number]) for number in range(5)]


def test_a_busy_puller_does_not_overtake_those_who_wait(context):
    receiver, sender = pair_of(context, "inproc://a")
    with closing(receiver, sender):
        waiting = gevent.spawn(receiver.recv)
        all_blocked()
        sender.send(b"first")
        sender.send(b"second")
        assert receiver.recv(timeout=5) == [b"second"]
        assert waiting.get(timeout=5) == [b"first"]


@pytest.mark.parametrize("leave", ["kill", "timeout"])
def test_a_puller_that_leaves_takes_no_message_along(context, endpoint, leave):
    receiver, sender = pair_of(context, endpoint)
    with closing(receiver, sender):
        for number in range(20):
            if leave == "kill":
                leaving = gevent.spawn(receiver.recv)
                all_blocked(1)
                sender.send(b"%d" % number)
                leaving.kill(block=False)
                leaving.join()
                got = leaving.value
                message = got if isinstance(got, list) else receiver.recv(timeout=5)
            else:
                sender.send(b"%d" % number)
                try:
                    message = receiver.recv(timeout=0.001)
                except Empty:
                    message = receiver.recv(timeout=5)
            assert message == [b"%d" % number]


def test_a_paused_source_gives_nothing_and_then_everything(context):
    receiver, sender = pair_of(context, "inproc://a")
    with closing(receiver, sender):
        receiver.pause()
        sender.send(b"message")
        with pytest.raises(Empty):
            receiver.recv(timeout=0.01)
        with pytest.raises(Empty):
            receiver.recv(block=False)
        waiting = gevent.spawn(receiver.recv)
        all_blocked()
        assert not waiting.ready()
        receiver.resume()
        assert waiting.get(timeout=5) == [b"message"]


def test_stats_tell_what_happened_and_repr_shows_the_state(context):
    receiver, sender = pair_of(context, "inproc://a", outbox=5, overflow="drop_newest", sndhwm=1)
    with closing(receiver, sender):
        assert receiver.stats() == receiver.stats()
        sender.send(b"1")
        receiver.recv(timeout=5)
        assert (receiver.stats().received, sender.stats().sent) == (1, 1)
        assert repr(receiver) == "<Source PULL inproc://a started>"
        receiver.pause()
        assert repr(receiver) == "<Source PULL inproc://a started paused>"
        while not sender.stats().dropped:
            sender.send(b"x")
        stats = sender.stats()
        assert (stats.outbox_depth, stats.outbox_peak, stats.dropped) == (5, 5, {"newest": 1})
        assert stats.oldest_queued_age > 0
        with pytest.raises(AttributeError):
            stats.sent = 0
        server = Source.open(zmq.PULL, print, bind="inproc://b", context=context)
        assert repr(server) == "<Source PULL inproc://b not started>"
        server.close()
        assert repr(server) == "<Source PULL inproc://b closed>"
        assert endpoint_of(receiver) == "inproc://a"
