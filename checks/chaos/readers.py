"""Many peers of one ROUTER that read slowly, never, or leave, beside one that is honest."""

from __future__ import annotations

import contextlib
import itertools
import pathlib

import gevent
import zmq
from helpers import endpoint_of

from chaos.clients import NUMBERS
from chaos.counting import fault
from chaos.peer import BUFFER, message_of
from chaos.traffic import COUNT, Peer, held
from gzmqsource import SendError, Source, SourceClosed
from gzmqsource.testing import wait_until
from gzmqsource.workers import Responder

CLIENTS = pathlib.Path(__file__).parent / "clients.py"

#: Clients that never read; and those that read slowly, or leave and come again.
MANY, FEW = 30, 10

#: Requests of each: more replies than libzmq, the kernel and a lane have room for.
REQUESTS = 200

#: The most messages that wait for a peer that never reads.
LANE = 10


def options(outbox):
    return {"bind": "tcp://127.0.0.1:*", "sndhwm": 10, "sndbuf": BUFFER, "outbox": outbox}


def refuse(error, message):
    """Take what was queued for a peer that has left."""
    assert isinstance(error, SendError), error


@contextlib.contextmanager
def streaming(outbox):
    """Send messages to each peer that has asked, as fast as it reads: each has a greenlet."""
    source = Source.open(zmq.ROUTER, router_mandatory=1, on_error=refuse, **options(outbox))

    def stream(name):
        with contextlib.suppress(SendError, SourceClosed):
            for number in range(COUNT):
                source.send([name, b"", *message_of(number)])

    def serve():
        asked = set()
        for name, *_ in source:
            if name not in asked:
                asked.add(name)
                gevent.spawn(stream, name)

    with held(source):
        gevent.spawn(serve)
        yield source


@contextlib.contextmanager
def responding(outbox):
    """Reply to each request with what came, in order: in a pool, a reply may overtake another."""
    responder = Responder.open(
        lambda payload: payload, spawn=None, on_error=refuse, **options(outbox)
    )
    with held(responder):
        responder.start()
        yield responder.source


def among(tally, serving, role, how, many, requests, outbox, replies):
    """Have an honest peer among others, and see that each of its messages comes, and soon.

    Parameters
    ----------
    role : str
        What the honest one does; it gives up if it has to wait too long for a message.
    how : str
        What the others do.
    replies : int
        How many messages each of the others reads in the end.
    """
    with serving(outbox) as source, contextlib.ExitStack() as stack:
        others = Peer(stack, how, many, endpoint_of(source), requests, program=CLIENTS)
        if how == "never":
            wait_until(lambda: source.stats().outbox_depth > many * outbox / 2, 30)
        honest = Peer(stack, role, "connect", endpoint_of(source))
        wait_until(lambda: honest.has_ended, 30)
        tally.add(COUNT, honest.numbers)
        if how == "slowly":
            others.wait_for(many * replies)
            for index in range(many):
                mine = [each % NUMBERS for each in others.numbers if each // NUMBERS == index]
                tally.add(replies, mine)
        # Of peers that are gone nothing is kept.
        others.kill()
        wait_until(lambda: source.stats().outbox_depth == 0, 30)


def add_faults():
    servers = (
        ("a ROUTER that sends to all peers", streaming, "listen", 1, COUNT),
        ("a Responder that all peers ask", responding, "ask", REQUESTS, REQUESTS),
    )
    others = (
        ("never", MANY, "which never read"),
        ("slowly", FEW, "which read slowly"),
        ("leaving", FEW, "which fill up, leave and come again"),
    )
    for (server, serving, role, requests, replies), (how, many, what) in itertools.product(
        servers, others
    ):
        # A Responder drops what a client does not read, beyond the bound of its lane.
        outbox = LANE if how == "never" else REQUESTS

        def run(tally, arguments=(serving, role, how, many, requests, outbox, replies)):
            among(tally, *arguments)

        fault(f"{server}, {what}")(run)


add_faults()
