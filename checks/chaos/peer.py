"""A process that sends or receives numbered messages, and can be killed, stopped, or cut off.

``receive`` and ``send`` are plain pyzmq; ``source`` sends through a source. Each prints what it has
done, a line at once for each message, so that who kills it knows.
"""

import os
import sys
import zlib

import zmq

#: Bytes that the kernel keeps for a connection: few, so that a sender feels its receiver.
BUFFER = 4096

#: Seconds that one message may take which nothing holds up, on a machine that has other work.
PATIENCE = 5


def message_of(number, size=256):
    """Make a numbered message whose frames tell when it is torn."""
    body = b"%d " % number * (size // 8)
    return [b"%d" % number, body, b"%d" % zlib.crc32(body)]


def number_of(message):
    """Give the number of a message; -1 if it is torn."""
    try:
        number, body, checksum = message
        return int(number) if zlib.crc32(body) == int(checksum) and body.startswith(number) else -1
    except (ValueError, TypeError):
        return -1


def say(text):
    # Whole lines in one call each: a process that is killed has said them, or has not.
    os.write(1, f"{text}\n".encode())


def attach(socket, how, address):
    socket.linger = -1
    socket.sndbuf = socket.rcvbuf = BUFFER
    getattr(socket, how)(address)
    say(socket.LAST_ENDPOINT.decode())


def receive(how, address, count):
    socket = zmq.Context().socket(zmq.PULL)
    socket.rcvhwm = 10
    attach(socket, how, address)
    for _ in range(count):
        say(number_of(socket.recv_multipart()))
    say("end")
    sys.stdin.read()


def send(how, address, count):
    socket = zmq.Context().socket(zmq.PUSH)
    socket.sndhwm = 10
    attach(socket, how, address)
    for number in range(count):
        socket.send_multipart(message_of(number))
        say(number)
    say("end")
    # Not closed: of a closed sender libzmq may lose what its receiver has no room for.
    sys.stdin.read()


def source(how, address, count):
    from gzmqsource import Source

    with Source.open(zmq.PUSH, sndhwm=10, outbox=10) as source:
        source.stop_timeout = 30
        attach(source.socket, how, address)
        for number in range(count):
            source.send(message_of(number))
            say(number)
        source.flush()
        say("end")
        sys.stdin.read()


def listen(how, address, count):
    """Ask once, and receive what is then sent."""
    socket = zmq.Context().socket(zmq.DEALER)
    socket.rcvtimeo = 1000 * PATIENCE
    attach(socket, how, address)
    socket.send(b"")
    for _ in range(count):
        say(number_of(socket.recv_multipart()[1:]))
    say("end")
    sys.stdin.read()


def ask(how, address, count):
    """Ask again and again, and be answered."""
    socket = zmq.Context().socket(zmq.REQ)
    socket.rcvtimeo = 1000 * PATIENCE
    attach(socket, how, address)
    for number in range(count):
        socket.send_multipart(message_of(number))
        say(number_of(socket.recv_multipart()))
    say("end")
    sys.stdin.read()


if __name__ == "__main__":
    role, how, address, count = sys.argv[1:]
    roles = {"receive": receive, "send": send, "source": source, "listen": listen, "ask": ask}
    roles[role](how, address, int(count))
