"""A peer of servers and brokers that says what no requester or worker says."""

import os

import zmq

from gzmqsource.workers._header import Flag, Header, Kind
from simulation.libzmq import Socket
from simulation.network import Connection
from simulation.serving import receive, send


class Stranger:
    """A DEALER for each server, and each back of a broker.

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
            send(self._socket_to(address), message)

    def join(self, address, what):
        """Say something odd at the back of a broker; tell whether requests may be given to it."""
        key = os.urandom(16)
        about_none = {
            kind: [Header(kind, bytes(16), left=500, session=1).encode()] for kind in Kind
        }
        about_one = {kind: [Header(kind, key).encode()] for kind in Kind}
        nothing = [Header(Kind.JOIN, bytes(16), left=500).encode()]
        reply = [*about_one[Kind.REPLY], b"", b"?"]
        ends = [about_one[Kind.LOST], about_one[Kind.REFUSED]]
        said = (
            [[b"junk"], [b"", b""], [b""], [b"x", b"y", b""]],
            [reply, *ends, about_none[Kind.LEAVING]],
            [nothing, reply, *ends, [Header(Kind.ERROR, key).encode(), b"", b"?"]],
            [nothing, [*nothing, b"", b"?"], *about_one.values()],
            [nothing, about_none[Kind.PONG], about_none[Kind.LEAVING], nothing],
            [about_none[Kind.JOIN]],
            [about_none[Kind.JOIN], about_none[Kind.LEAVING]],
        )[what]
        for message in said:
            send(self._socket_to(address), message)
        return about_none[Kind.JOIN] in said

    def work(self):
        """Read, unless it is deaf; give how much was read."""
        if self.is_deaf:
            return 0
        return sum(self._read(socket) for socket in self._sockets.values())

    def close(self):
        while self._sockets:
            self._sockets.popitem()[1].close()

    def leave(self, address):
        """End a connection."""
        if address in self._sockets:
            self._sockets.pop(address).close()

    def _socket_to(self, address):
        socket = self._sockets.get(address)
        if socket is None:
            socket = self._sockets[address] = Socket(self.world.simulated, zmq.DEALER)
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVHWM, 1)
            socket.set(zmq.RECONNECT_IVL, Connection.never)
            socket.connect(address)
        return socket

    def _read(self, socket):
        read = 0
        while receive(socket) is not None:
            read += 1
        return read
