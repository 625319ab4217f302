"""Sources with handlers, for the tests of them."""

import contextlib

import gevent
import pytest
import zmq
from gevent import getcurrent
from gevent.event import Event
from gevent.pool import Group, Pool
from helpers import closing, endpoint_of

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until

#: Over it messages are there at once.
INPROC = "inproc://fed"

NUMBERS = [b"%d" % number for number in range(300)]

SPAWNS = {
    "None": lambda: None,
    "int": lambda: 4,
    "Pool": lambda: Pool(4),
    "Group": Group,
    "gevent.spawn": lambda: gevent.spawn,
    "gevent.spawn_raw": lambda: gevent.spawn_raw,
}

every_spawn = pytest.mark.parametrize("spawn", SPAWNS.values(), ids=list(SPAWNS))


@contextlib.contextmanager
def fed(
    context,
    handle,
    endpoint="tcp://127.0.0.1:*",
    kind=zmq.PULL,
    peer=zmq.PUSH,
    opened=Source,
    **options,
):
    """A started source with a handler, and a source that sends to it."""
    source = opened.open(kind, handle, bind=endpoint, context=context, linger=0, **options)
    sender = Source.open(peer, connect=endpoint_of(source), context=context, linger=0)
    with closing(source, sender):
        source.start()
        yield source, sender


class Gate:
    """A handler that waits until it is opened, and counts who is in it."""

    def __init__(self):
        self.opened = Event()
        self.begun = []
        self.done = []
        self.running = self.most = 0

    def __call__(self, message):
        self.begun.append(message)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self.opened.wait()
        finally:
            self.running -= 1
        self.done.append(message)


class Recorder:
    """A handler that notes the greenlet of each message, and does what the message says."""

    def __init__(self, **actions):
        self.actions = actions
        self.begun = []
        self.greenlets = []

    def __call__(self, message):
        self.begun.append(message[0])
        self.greenlets.append(getcurrent())
        action = self.actions.get(message[0].decode())
        if action is not None:
            action()


def send_each(client, *texts):
    for text in texts:
        client.send(text)


def fill_hand(server, client, begun):
    """Have a worker begin with messages of which others are already in hand."""
    server.pause()
    send_each(client, *[b"x"] * 20)
    all_blocked()
    server.resume()
    wait_until(lambda: len(begun) == 20)
    server.pause()
