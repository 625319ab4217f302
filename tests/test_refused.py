"""Messages that libzmq refuses, at the call or when they were queued."""

import contextlib

import pytest
import zmq
from gevent.event import Event
from helpers import closing, endpoint_of, until_nothing_moves

from gzmqsource import SendError, Source
from gzmqsource.testing import wait_until


def test_a_message_that_libzmq_refuses_is_raised_at_the_call(context):
    router = Source.open(zmq.ROUTER, bind="inproc://a", context=context, router_mandatory=1)
    pull = Source.open(zmq.PULL, bind="inproc://b", context=context)
    request = Source.open(zmq.REQ, connect="inproc://c", context=context)
    with closing(router, pull, request):
        with pytest.raises(SendError) as raised:
            router.send([b"nobody", b"message"])
        assert raised.value.errno == zmq.EHOSTUNREACH
        assert raised.value.message == [b"nobody", b"message"]
        with pytest.raises(SendError) as raised:
            pull.send(b"message")
        assert raised.value.errno == zmq.ENOTSUP


def test_a_second_request_before_the_reply_is_refused(context):
    server = Source.open(zmq.REP, bind="inproc://a", context=context)
    client = Source.open(zmq.REQ, connect="inproc://a", context=context)
    with closing(server, client):
        client.send(b"first")
        with pytest.raises(SendError) as raised:
            client.send(b"second")
        assert raised.value.errno == zmq.EFSM
        assert server.recv(timeout=5) == [b"first"]
        server.send(b"reply")
        assert client.recv(timeout=5) == [b"reply"]


# Queued messages that libzmq refuses


@contextlib.contextmanager
def gone_with_messages_queued(context, **options):
    """A ROUTER whose peer has gone while messages for it were queued; how many were."""
    router = Source.open(
        zmq.ROUTER,
        bind="tcp://127.0.0.1:*",
        context=context,
        router_mandatory=1,
        sndhwm=1,
        sndbuf=4096,
        linger=0,
        **options,
    )
    peer = Source.open(
        zmq.DEALER,
        connect=endpoint_of(router),
        context=context,
        routing_id=b"peer",
        rcvhwm=1,
        rcvbuf=4096,
        linger=0,
    )
    with closing(router, peer):
        peer.send(b"hello")
        router.recv(timeout=5)
        number = 0
        # Ten times more than the buffers of both ends and of the kernel still have room for.
        while router.stats().outbox_depth < 100:
            router.send([b"peer", b"%d" % number, b"x" * 10_000])
            number += 1
        until_nothing_moves(router)
        peer.close()
        yield router, number


def test_each_queued_message_that_is_refused_is_reported_with_its_frames(context):
    errors = []
    with gone_with_messages_queued(context, on_error=lambda *what: errors.append(what)) as (
        router,
        number,
    ):
        assert router.flush(10)
        stats = router.stats()
        assert stats.dropped == {"refused": len(errors)}
        assert stats.errors == len(errors)
        assert stats.sent + len(errors) == number
    assert {(type(error), error.errno) for error, _ in errors} == {(SendError, zmq.EHOSTUNREACH)}
    assert all(error.message == message for error, message in errors)
    # The last of what was sent, in order, none left out.
    assert [message[:2] for _, message in errors] == [
        [b"peer", b"%d" % index] for index in range(number - len(errors), number)
    ]


def test_messages_go_out_while_on_error_waits(context):
    """It may itself wait for that, in a send or a flush."""
    errors = []
    may_return = Event()

    def on_error(error, message):
        errors.append(error)
        may_return.wait()

    with gone_with_messages_queued(context, on_error=on_error) as (router, _):
        wait_until(lambda: errors)
        options = {"context": context, "rcvhwm": 1, "rcvbuf": 4096, "linger": 0}
        peer = Source.open(zmq.DEALER, connect=endpoint_of(router), routing_id=b"new", **options)
        with closing(peer):
            peer.send(b"hello")
            router.recv(timeout=5)
            count = 0
            while router.stats().outbox_depth < 5:
                router.send([b"new", b"x" * 10_000])
                count += 1
            assert [peer.recv(timeout=5) for _ in range(count)] == [[b"x" * 10_000]] * count
        assert len(errors) == 1
        may_return.set()
        wait_until(lambda: len(errors) == router.stats().dropped["refused"])


def test_a_raising_on_error_does_not_stop_the_flushing(context, told):
    def on_error(error, message):
        raise LookupError(message)

    with gone_with_messages_queued(context, on_error=on_error) as (router, _):
        assert router.flush(10)
        refused = router.stats().dropped["refused"]
        assert refused > 1
        assert [type(error) for _, error in told] == [LookupError] * refused
        with closing(
            Source.open(zmq.DEALER, connect=endpoint_of(router), context=context, routing_id=b"new")
        ) as (peer,):
            peer.send(b"hello")
            router.recv(timeout=5)
            router.send([b"new", b"works"])
            assert peer.recv(timeout=5) == [b"works"]


def test_without_on_error_the_hub_is_told_of_what_is_refused(context, told):
    with gone_with_messages_queued(context) as (router, _):
        assert router.flush(10)
        assert {type(error) for _, error in told} == {SendError}
        assert len(told) == router.stats().errors


def test_a_refused_message_leaves_the_source_and_its_counters_as_they_were(context):
    pull = Source.open(zmq.PULL, bind="inproc://a", context=context)
    with closing(pull):
        for send in (pull.send, pull.send_nowait, pull.sender().send):
            with pytest.raises(SendError) as raised:
                send([b"a", b"b"])
            assert raised.value.errno == zmq.ENOTSUP
            assert raised.value.message == [b"a", b"b"]
        stats = pull.stats()
        assert (stats.sent, stats.outbox_depth, stats.dropped, stats.errors) == (0, 0, {}, 0)
