"""A peer of servers that says what no requester says."""

import os

import zmq

from gzmqsource.workers._header import Flag, Header, Kind
from simulation.libzmq import Socket
from simulation.serving import receive, send


class Stranger:
    """A DEALER for each server.

    Parameters
    ----------
    deaf : bool
        Whether it reads nothing.
    """

    def __init__(self, world, deaf):
        self.world = world
        self.is_deaf = deaf
        self._sockets = {}

    def say(self, address, what):
        """Say something odd, or ask."""
        socket = self._sockets.get(address)
        if socket is None:
            socket = self._sockets[address] = Socket(self.world.simulated, zmq.DEALER)
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVHWM, 1)
            socket.connect(address)
        key = os.urandom(16)
        request = [b"", b"%d" % next(self.world.asked), b"answer"]
        ask = [Header(Kind.ASK, key, Flag.KEEP, left=5000).encode(), *request]
        cancel = [Header(Kind.CANCEL, key).encode()]
        said = (
            [[b"junk"], [b"", b""], [b""], [b"x", b"y", b""]],
            [request],
            [ask, ask],
            [cancel, [Header(Kind.CANCEL, bytes(16)).encode()]],
            [[Header(kind, key).encode()] for kind in (0, 32, 255)],
            [[Header(Kind.PING, bytes(16), left=100).encode()]],
            [[Header(Kind.NOMORE, bytes(16)).encode()]],
            [ask[:1], ask[:2], [Header(Kind.REPLY, key).encode(), *request]],
            [ask, cancel, ask],
        )[what]
        for message in said:
            send(socket, message)

    def work(self):
        """Read, unless it is deaf; give how much was read."""
        if self.is_deaf:
            return 0
        return sum(self._read(socket) for socket in self._sockets.values())

    def close(self):
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _read(self, socket):
        read = 0
        while receive(socket) is not None:
            read += 1
        return read
