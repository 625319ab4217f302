"""Servers that authenticate, and peers that try to get in."""

import contextlib
from typing import Any

import zmq
from gevent import socket
from helpers import closing, endpoint_of

from gzmqsource import Source
from gzmqsource.monitor import Monitor

SERVER_KEYS = zmq.curve_keypair()

PLAIN: dict[str, Any] = {"plain_server": True, "zap_domain": b"site"}

CURVE: dict[str, Any] = {
    "curve_server": True,
    "curve_secretkey": SERVER_KEYS[1],
    "zap_domain": b"site",
}

#: After so many milliseconds a peer that does not finish, or was put off, is shown the door.
IMPATIENT: dict[str, Any] = {"handshake_ivl": 300}

#: The greeting of ZMTP 3.0 for the PLAIN mechanism, and a HELLO as https://rfc.zeromq.org/spec/24.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"PLAIN".ljust(20, b"\0") + bytes(32)

HELLO = b"\x04\x11\x05HELLO\x04user\x05wrong"


@contextlib.contextmanager
def server_of(context, **options):
    source = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context, **options)
    try:
        yield source
    finally:
        source.close()


def curve(keys):
    return {
        "curve_serverkey": SERVER_KEYS[0],
        "curve_publickey": keys[0],
        "curve_secretkey": keys[1],
    }


def plain(username, password):
    return {"plain_username": username, "plain_password": password}


def client_of(context, server, password=b"x"):
    """A client that tries until it gets in."""
    return closing(
        Source.open(
            zmq.PUSH,
            connect=endpoint_of(server),
            context=context,
            linger=0,
            **plain(b"user", password),
        )
    )


def gets_in(context, server, **options):
    """Whether a client with these options gets in at its first try."""
    return gets_in_at(context, endpoint_of(server), **options)


def gets_in_at(context, endpoint, kind=zmq.PUSH, **options):
    """As `gets_in`, of a server in any process."""
    client = Source.open(kind, context=context, linger=0, **options)
    with Monitor(client) as monitor:
        client.socket.connect(endpoint)
        came_in = shakes_hands(monitor)
        if not came_in:
            # libzmq 4.3.5 may never release a client that is closed while it is refused.
            monitor.wait_for("disconnected", timeout=10)
    client.close()
    return came_in


def shakes_hands(monitor):
    """Whether the next handshake succeeds."""
    for event in monitor:
        if event.name == "handshake_succeeded" or event.name.startswith("handshake_failed"):
            break
        assert event.name != "disconnected"
    return event.name == "handshake_succeeded"


def with_patience(server):
    """Open another door, at which a peer may take its time; the door that `endpoint_of` gives."""
    server.socket.handshake_ivl = 30_000
    server.socket.bind("tcp://127.0.0.1:*")
    return server


def knock(endpoint, *chunks):
    """Send bytes as a peer of another kind, and wait until it is shown the door."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    peer = socket.create_connection((host, int(port)))
    with peer, contextlib.suppress(ConnectionError):
        for chunk in chunks:
            peer.sendall(chunk)
            peer.recv(1000)
        while peer.recv(1000):
            pass
