"""A process of many peers that have no business here: plain sockets and plain pyzmq.

``stranger.py HOW MANY ENDPOINT``: *many* peers at a time do as `HOWS` says, again and again until
the standard input ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from chaos.peer import message_of, say

#: The greeting of ZMTP 3.0 of a peer without a mechanism; and READY.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"

#: What no frame may be: with reserved bits, endless, a command that is none, half a message.
BAD_FRAMES = (
    b"\xff" * 9,
    b"\x02" + b"\x7f" + b"\xff" * 7,
    b"\x04\x05\x04JUNK",
    b"\x01\x00\x01\x05half",
)

#: Seconds between two rounds.
PAUSE = 0.02


def garbage():
    """Return bytes that are no ZMTP, or none after a while, or end in the midst."""
    whole = GREETING + READY
    return random.choice(
        [
            os.urandom(random.randint(1, 200)),
            b"GET / HTTP/1.1\r\n\r\n",
            whole[: random.randint(1, len(whole) - 1)],
            GREETING + os.urandom(random.randint(1, 200)),
            whole + random.choice(BAD_FRAMES),
        ]
    )


def connected(endpoint):
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    peer = socket.socket()
    peer.setblocking(False)
    peer.connect_ex((host, int(port)))
    return peer


def send_garbage(_, many, endpoint):
    peers = [connected(endpoint) for _ in range(many)]
    time.sleep(PAUSE)
    for peer in peers:
        with peer, contextlib.suppress(OSError):
            peer.send(garbage())


def say_nothing(_, many, endpoint):
    """Hold as many connections as there may be, whose handshakes never end."""
    peers = [connected(endpoint) for _ in range(many)]
    time.sleep(PAUSE)
    for index, peer in enumerate(peers):
        with contextlib.suppress(OSError):
            peer.send(GREETING[: index % len(GREETING)])
    time.sleep(10 * PAUSE)
    for peer in peers:
        peer.close()


def ask_and_leave(context, many, endpoint, **options):
    peers = [context.socket(zmq.DEALER) for _ in range(many)]
    for peer in peers:
        peer.linger = 0
        for name, value in options.items():
            setattr(peer, name, value)
        peer.routing_id = b"p" + os.urandom(random.randint(1, 100))
        peer.connect(endpoint)
        with contextlib.suppress(zmq.Again):  # it was refused by now, and has no pipe
            peer.send_multipart([b"", *message_of(0)], zmq.NOBLOCK)
    time.sleep(PAUSE)
    for peer in peers:
        peer.close()


def use_wrong_passwords(*arguments):
    word = os.urandom(8).hex().encode()
    ask_and_leave(*arguments, plain_username=b"user", plain_password=word)


def use_wrong_keys(*arguments):
    public, secret = zmq.curve_keypair()
    server = sys.argv[4].encode()
    ask_and_leave(
        *arguments, curve_serverkey=server, curve_publickey=public, curve_secretkey=secret
    )


HOWS: dict[str, Callable[[Any, int, str], None]] = {
    "garbage": send_garbage,
    "silent": say_nothing,
    "asking": ask_and_leave,
    "wrong passwords": use_wrong_passwords,
    "wrong keys": use_wrong_keys,
}


def main():
    how, many, endpoint, *_ = sys.argv[1:]
    context = zmq.Context()
    # libzmq may be late to release sockets, and never releases some clients that are refused.
    context.max_sockets = 10_000
    input_ends = threading.Thread(target=sys.stdin.read, daemon=True)
    input_ends.start()
    say(endpoint)
    rounds = 0
    while input_ends.is_alive():
        HOWS[how](context, int(many), endpoint)
        rounds += 1
        say(rounds)
    os._exit(0)


if __name__ == "__main__":
    main()
