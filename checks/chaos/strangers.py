"""Peers that have no business here, beside one that has."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import resource
from typing import Any

import zmq
from helpers import endpoint_of

from chaos.counting import fault
from chaos.lines import few_lines
from chaos.peer import PATIENCE, message_of, number_of
from chaos.traffic import COUNT, Peer, held
from gzmqsource.auth import Authenticator
from gzmqsource.monitor import Monitor
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester, Responder

PROGRAM = pathlib.Path(__file__).parent / "stranger.py"

#: Strangers at a time, and how often they come and go.
MANY, ROUNDS = 100, 5

#: Milliseconds that a peer has to introduce itself.
PATIENCE_WITH_HANDSHAKES = 300

#: Descriptors that are left for peers, where there are fewer than strangers.
LEFT = 40

SERVER, CLIENT = zmq.curve_keypair(), zmq.curve_keypair()

#: The options of a server and of a client that is known to it.
KNOWN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": (
        {"plain_server": True},
        {"plain_username": b"user", "plain_password": b"secret"},
    ),
    "curve": (
        {"curve_server": True, "curve_secretkey": SERVER[1]},
        {
            "curve_serverkey": SERVER[0],
            "curve_publickey": CLIENT[0],
            "curve_secretkey": CLIENT[1],
        },
    ),
    "": ({}, {}),
}


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def serving(options):
    responder = Responder.open(
        lambda payload: payload,
        bind="tcp://127.0.0.1:*",
        handshake_ivl=PATIENCE_WITH_HANDSHAKES,
        **options,
    )
    with held(responder):
        responder.start()
        yield responder.source


@contextlib.contextmanager
def authenticating():
    with Authenticator() as authenticator:
        authenticator.configure_plain(passwords={"user": "secret"})
        authenticator.configure_curve(location=lambda _, key: key == CLIENT[0])
        yield


@contextlib.contextmanager
def asking(source, **options):
    """Give a requester that is connected."""
    with held(Requester.open(endpoint_of(source), linger=0, **options)) as requester:
        ask(requester, [0])
        yield requester


@contextlib.contextmanager
def strangers(source, how, many=MANY):
    with contextlib.ExitStack() as stack:
        yield Peer(stack, how, many, endpoint_of(source), SERVER[0].decode(), program=PROGRAM)


def ask(requester, numbers=range(COUNT)):
    """Return the numbers of the replies; each comes in time."""
    return [
        number_of(requester.request(message_of(number), timeout=PATIENCE)) for number in numbers
    ]


def among(tally, how, mechanism=""):
    """Ask among strangers that come and go; see that nothing is left of them."""
    of_server, of_client = KNOWN[mechanism]
    with few_lines(), authenticating(), serving(of_server) as source:
        with asking(source, **of_client) as requester:
            before = descriptors()
            with strangers(source, how) as peer:
                while len(peer.numbers) < ROUNDS:
                    tally.add(COUNT, ask(requester))
            wait_until(lambda: descriptors() <= before)
        # One that comes later gets in, too.
        with asking(source, **of_client) as requester:
            tally.add(COUNT, ask(requester))


def add_faults():
    for how, mechanism, what in (
        ("garbage", "", "send what is no ZMTP, or break off"),
        ("silent", "", "never end their handshakes"),
        ("asking", "", "have random routing ids, ask and leave"),
        ("wrong passwords", "plain", "do not know the password"),
        ("wrong keys", "curve", "have keys that nobody knows"),
    ):

        def run(tally, arguments=(how, mechanism)):
            among(tally, *arguments)

        fault(f"{MANY} peers at a time {what}")(run)


add_faults()


@contextlib.contextmanager
def few_descriptors(most):
    """Bound the descriptors of this process, and not of those that run already."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@fault("connections take all descriptors, and give them back")
def _(tally):
    with few_lines(), serving({}) as source, Monitor(source, zmq.EVENT_ACCEPT_FAILED) as monitor:
        before = descriptors()
        lowest = os.dup(0)
        os.close(lowest)
        with (
            asking(source) as requester,
            strangers(source, "silent") as peer,
            few_descriptors(lowest + LEFT),
        ):
            assert monitor.recv(timeout=30).errno == errno.EMFILE
            monitor.close()  # libzmq reports that some 100,000 times a second
            while len(peer.numbers) < ROUNDS:
                tally.add(COUNT, ask(requester))
        wait_until(lambda: descriptors() <= before)
        with asking(source) as requester:
            tally.add(COUNT, ask(requester))
