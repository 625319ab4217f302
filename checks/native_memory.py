"""Drive the native loop through its paths; to be run under AddressSanitizer, which finds the rest.

It ends with an error if the extension is not the one from the folder named on the command line.
"""

import sys
from collections import deque

import zmq

from gzmqsource.transfer import native

MESSAGES = 20


def exchange(sender, receiver, message):
    """Send one message many times, in turns that end early on both sides."""
    queue = deque([message] * MESSAGES)
    received: list[list[bytes]] = []
    while len(received) < MESSAGES:
        sender.send(queue, 5, 1 << 20)
        receiver.receive(received, 7, 1 << 20)
    frames = [message] if isinstance(message, bytes) else message
    assert received == [frames] * MESSAGES


def errno_of(call):
    try:
        call()
    except zmq.ZMQError as error:
        return error.errno
    return None


def use_closed(transfer):
    """Make every call on a closed socket."""
    calls = (
        transfer.events,
        lambda: transfer.send_one(b"x"),
        lambda: transfer.send_one([b"x", b"y"]),
        lambda: transfer.receive([], 1, 1),
    )
    for call in calls:
        assert errno_of(call) == zmq.ENOTSOCK


def main(folder):
    assert native.__file__.startswith(folder), native.__file__
    context = zmq.Context()
    for endpoint in ("inproc://memory", "tcp://127.0.0.1:*"):
        sockets = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        sockets[0].bind(endpoint)
        sockets[1].connect(sockets[0].get_string(zmq.LAST_ENDPOINT))
        sender, receiver = map(native.NativeTransfer, sockets)
        for size in (0, 1, 32, 33, 34, 1000, 70_000, 1 << 20):
            frame = b"x" * size
            exchange(sender, receiver, frame)
            exchange(sender, receiver, [frame] * 3)
        exchange(sender, receiver, [b"x"] * 10_000)
        # Until the peer is full. Of one frame: libzmq 4.3.5 may abort (session_base.cpp:233) when a
        # socket is closed without lingering while its peer has read a part of a message.
        while sender.send_one(b"x" * 70_000):
            pass
        for socket, transfer in zip(sockets, (sender, receiver), strict=True):
            socket.close(0)
            use_closed(transfer)
    context.term()
    print("no error found")


main(sys.argv[1])
