"""What a responder has to say to askers that do not read: it says it when they do."""

import contextlib

import zmq
from asking import Asker, Flag, Header, Kind, decode, key_of, responder_of
from gevent.event import Event
from helpers import endpoint_of

from gzmqsource import Source
from gzmqsource.testing import wait_until

#: A responder with little room for what its peers do not read.
LITTLE = {"outbox": 100, "sndhwm": 100, "sndbuf": 4096, "dead_after": 0.02}


@contextlib.contextmanager
def not_reading(context, responder):
    """Yield a source that reads nothing until it is started, and the kinds that come for a key.

    The kernel's buffer for it is the usual one: it may fill one of 4 KB with a few messages at a
    time once it is read, and then wait.
    """
    ends: dict[bytes, list[int]] = {}

    def hear(message):
        header = decode(message[0])
        if any(header.key):
            ends.setdefault(header.key, []).append(header.kind)

    source = Source.open(
        zmq.DEALER,
        hear,
        connect=endpoint_of(responder.source),
        context=context,
        linger=0,
        rcvhwm=1,
    )
    with contextlib.closing(source):
        yield source, ends


def ask(source, key, flags=Flag.KEEP):
    source.send([Header(Kind.ASK, key, flags).encode(), b"", b"x"])


@contextlib.contextmanager
def having_replied(context):
    """Yield a responder that keeps its replies, and the keys of the requests."""
    keys = [key_of() for _ in range(500)]
    with responder_of(context, lambda payload: bytes(1000), **LITTLE) as responder:
        with Asker(context, responder) as first:
            for number, key in enumerate(keys, start=1):
                first.ask(key=key, flags=Flag.KEEP)
                first.until_heard(Kind.REPLY, number)
        yield responder, keys


def ask_again(responder, source, keys):
    for key in keys:
        ask(source, key)
    wait_until(lambda: responder.stats().duplicates == len(keys))


def test_a_reply_that_is_kept_and_finds_no_room_is_said_to_be_lost(context):
    with having_replied(context) as (responder, keys):
        with not_reading(context, responder) as (source, ends):
            ask_again(responder, source, keys)
            source.start()
            wait_until(lambda: len(ends) == len(keys))
        assert all(len(each) == 1 for each in ends.values())
        assert {kind for each in ends.values() for kind in each} == {Kind.REPLY, Kind.LOST}


def test_each_of_thousands_of_requests_that_are_refused_is_said_to_be(context):
    keys = [key_of() for _ in range(5000)]
    waits = Event()
    options = LITTLE | {"spawn": 1, "max_waiting": 0}
    with responder_of(context, lambda payload: waits.wait() and b"", **options) as responder:
        with not_reading(context, responder) as (source, ends):
            for key in keys:
                ask(source, key, flags=0)
            wait_until(lambda: responder.stats().full == len(keys) - 1)
            waits.set()
            wait_until(lambda: not responder.stats().running)
            source.start()
            wait_until(lambda: len(ends) == len(keys))
        assert list(ends.values()).count([Kind.REFUSED]) == len(keys) - 1


def test_a_kept_reply_that_is_lost_with_its_asker_counts_once(context):
    with having_replied(context) as (responder, keys):
        with not_reading(context, responder) as (source, _):
            ask_again(responder, source, keys)
            assert responder.source.stats().outbox_depth
        wait_until(lambda: not responder.source.stats().outbox_depth)
        stats = responder.stats()
        assert (stats.replies, stats.undelivered) == (len(keys), 0)
