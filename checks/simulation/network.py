"""Connections over ``tcp``: what libzmq's I/O threads do, one step at a time."""

import types
from typing import Any

import zmq

from simulation.pipes import Pipe, Stream


class Network:
    """All connections of a context, and those that are attempted.

    Whoever drives the simulation carries their messages; until then they are on their way.
    """

    def __init__(self, context):
        self._context = context
        self.connections = []

    def connect(self, socket, endpoint):
        connection = Connection(socket, endpoint)
        self.connections.append(connection)
        socket.endpoints[endpoint] = connection.local
        socket.process_bind(connection.local)

    def unbound(self, socket, endpoint):
        """End what was accepted at an endpoint, once the replies that libzmq has are sent."""
        for each in self.connections:
            if each.binder is socket and each.endpoint == endpoint:
                each.carry()
                each.cut()

    def carry(self, most=1 << 30):
        """Do so many things; give how many were done."""
        done = 0
        for connection in list(self.connections):
            if done < most:
                done += connection.step(self._context)
        self.connections = [each for each in self.connections if not each.is_over]
        self._context.reap()
        for socket in self._context.sockets:
            if socket.is_closed and not socket.pipes and socket.end_report is not None:
                socket.end_report.close()
                socket.end_report = None
                done += 1
        return done

    def between(self, socket, endpoint):
        """Give the connections of a socket with whoever is bound to an endpoint."""
        return [
            each for each in self.connections if each.socket is socket and each.endpoint == endpoint
        ]


class Connection:
    """A connection, or an attempt at one: the ends of two pipes, one in each process.

    When it ends, the pipe of the socket that has connected stays, and whatever is written to it is
    lost.
    """

    #: What a `Pipe` asks of its owner: there is no mailbox, what it is told is done at once.
    mailbox = types.SimpleNamespace(commands=())
    pattern = types.SimpleNamespace(
        read_activated=lambda pipe: None, write_activated=lambda pipe: None
    )

    def __init__(self, socket, endpoint):
        self.socket = socket
        self.endpoint = endpoint
        self.binder: Any = None
        self.is_over = False
        self.local, self._near = _pipe(socket, self)
        self._near._delay = False
        self._far: Any = None

    def step(self, context):
        """Be established, or carry what there is; give how many things were done."""
        if self.is_over:
            return 0
        if self.binder is not None:
            return self.carry()
        binder = context.bound.get(self.endpoint)
        if self._near.state != "active" or binder is None:
            self.is_over = True
            self._tell("connect_retried")
        else:
            self._establish(binder)
        return 1

    def carry(self):
        """Carry all messages both ways, and end with one of the sockets."""
        if self.is_over or self.binder is None:
            return 0
        done = _pass(self._near, self._far) + _pass(self._far, self._near)
        ends = self._near.state, self._far.state
        if "term_ack_sent" in ends or "active" not in ends:  # one is closed, or both are
            self.cut()
            done += 1
        return done

    def cut(self):
        """End; what was not carried is lost."""
        if self.is_over:
            return
        self.is_over = True
        if self._far is not None:
            self._far.terminate(False)
        self._near._delay = False
        if self._near.state == "waiting_for_delimiter":
            self._near.terminate(False)
        self._tell("disconnected")

    # What a `Pipe` asks of its owner.

    def command(self, process, pipe, *arguments):
        process(pipe, *arguments)
        socket = pipe.peer.owner
        if (
            process is Pipe.process_pipe_term
            and socket.is_closed
            and not socket.options[zmq.LINGER]
        ):
            self.cut()

    def pipe_terminated(self, pipe):
        """Take no note."""

    def _establish(self, binder):
        self.binder = binder
        self._near._delay = True
        remote, self._far = _pipe(binder, self)
        self._far.write(self.socket.options[zmq.ROUTING_ID], None)
        self._far.flush()
        binder.command(type(binder).process_bind, binder, remote)
        self._tell("handshake_succeeded")

    def _tell(self, event):
        if self.socket.report is not None:
            self.socket.report(event)


def _pipe(socket, connection):
    """Give the two ends of a pipe between a socket and a connection."""
    there, here = Stream(), Stream()
    mine, theirs = Pipe(socket, here, there), Pipe(connection, there, here)
    mine.peer, theirs.peer = theirs, mine
    marks = socket.options[zmq.RCVHWM], socket.options[zmq.SNDHWM]
    mine.set_hwms(*marks)
    theirs.set_hwms(*reversed(marks))
    return mine, theirs


def _pass(source, sink):
    """Pass on what one pipe holds while the other has room; give how many messages."""
    passed = 0
    while sink.check_write() and (read := source.read()) is not None:
        while True:
            sink.write(*read)
            if not read[1]:
                break
            read = source.read()
        sink.flush()
        passed += 1
    return passed
