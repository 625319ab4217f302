"""A process of many clients that read slowly, never, or leave: plain pyzmq.

Each has asked when the process says where they are connected; those that never read ask again and
again. What one receives is said by its number, after the numbers of all clients before it.
"""

import sys
import threading
import time

import zmq

from chaos.peer import BUFFER, message_of, number_of, say

#: How many numbers each client has.
NUMBERS = 1000

#: Seconds between two messages that a client reads slowly, and for which one stays that leaves, or
#: until it asks again: so long that their requests do not keep a server busy.
PAUSE, STAY = 0.001, 0.25


def client(context, address, requests):
    """Connect a client with little room, and let it ask."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.rcvhwm = 1
    socket.rcvbuf = BUFFER
    socket.connect(address)
    for number in range(requests):
        socket.send_multipart([b"", *message_of(number)])
    return socket


def read_slowly(sockets):
    """Read a message of each client, if there is one."""
    for index, socket in enumerate(sockets):
        if socket.get(zmq.EVENTS) & zmq.POLLIN:
            number = number_of(socket.recv_multipart()[1:])
            say(number if number < 0 else index * NUMBERS + number)
    time.sleep(PAUSE)


def run(how, many, address, requests):
    context = zmq.Context()
    sockets = [client(context, address, requests) for _ in range(many)]
    say(address)
    input_ends = threading.Thread(target=sys.stdin.read, daemon=True)
    input_ends.start()
    while input_ends.is_alive():
        if how == "slowly":
            read_slowly(sockets)
            continue
        time.sleep(STAY)
        if how == "never":
            # What was queued when its last request came may have been sent since.
            for socket in sockets:
                socket.send_multipart([b"", *message_of(0)])
        if how == "leaving":
            for socket in sockets:
                socket.close()
            sockets = [client(context, address, requests) for _ in range(many)]


if __name__ == "__main__":
    how, many, address, requests = sys.argv[1:]
    run(how, int(many), address, int(requests))
