"""Sources whose messages are queued, and what they send."""

import contextlib

import zmq
from helpers import closing, endpoint_of

from gzmqsource import Source
from gzmqsource.testing import all_blocked


def numbered(number):
    return [str(number).encode(), b"tail"]


def number_of(message):
    assert message == numbered(int(message[0])), "torn"
    return int(message[0])


@contextlib.contextmanager
def blocked_pair(context, endpoint="inproc://outbox", **options):
    """A source without a peer, so that everything is queued, and the peer that it can have."""
    receiver = Source.open(zmq.PULL, bind=endpoint, context=context, rcvhwm=1)
    source = Source.open(zmq.PUSH, context=context, linger=0, sndhwm=1, **options)

    def release():
        source.socket.connect(endpoint_of(receiver))

    with closing(receiver, source):
        yield source, receiver, release


def pull(receiver, count):
    return [number_of(receiver.recv(timeout=5)) for _ in range(count)]


def pull_all(receiver, source):
    """Pull until the source has nothing queued, and all that it has sent is here."""
    got = []
    while True:
        all_blocked()
        if receiver.stats().received < source.stats().sent:
            got.append(number_of(receiver.recv(timeout=10)))
        elif source.flush(0):
            return got
