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
        sender.send_lanes([queue], [], 5, 5, 1 << 20)
        receiver.receive(received, 7, 1 << 20)
    frames = [message] if isinstance(message, bytes) else message
    assert received == [frames] * MESSAGES


def send_every_kind(sender, receiver):
    """Send frames of each kind and size in one message, and messages of which a frame is none."""
    for size in (0, 1, 33, 34, 1000, 70_000):
        data = b"x" * size
        kinds = [data, bytearray(data), memoryview(data), zmq.Frame(data, copy=True)]
        for count in (1, 2, 5):
            assert sender.send_one(kinds * count)
            received: list[list[bytes]] = []
            while not received:
                receiver.receive(received, 1, 1)
            assert received == [[data] * 4 * count]
            for bad in ("text", memoryview(b"x" * 2 * size)[::2] if size > 1 else None):
                try:
                    sender.send_one([*kinds * count, bad])
                except (TypeError, BufferError):
                    continue
                raise AssertionError(f"{bad!r:.40} was sent")
        assert errno_of(lambda: receiver.receive([], 1, 1)) is None


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
        exchange(sender, receiver, [b"x" * 34] * 10_000)
        send_every_kind(sender, receiver)
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
