"""Connections over ``tcp``: what libzmq's I/O threads do, one step at a time."""

import random
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
        connection = Connection(self._context, socket, endpoint)
        self.connections.append(connection)
        socket.endpoints[endpoint] = connection.local
        socket.process_bind(connection.local)

    def unbound(self, socket, endpoint):
        """End what was accepted at an endpoint, once the replies that libzmq has are sent."""
        for each in self.connections:
            if each.binder is socket and each.endpoint == endpoint:
                each.carry()
                each.cut()
                each.step()

    def carry(self, most=1 << 30):
        """Do so many things; give how many were done."""
        done = 0
        for connection in list(self.connections):
            if done < most:
                done += connection.step()
        self.connections = [each for each in self.connections if not each.is_done]
        self._context.reap()
        for socket in self._context.sockets:
            if socket.is_closed and not socket.pipes and socket.end_report is not None:
                socket.end_report.close()
                socket.end_report = None
                done += 1
        return done

    def next_due(self):
        """Give the time of the next attempt to connect once more, or None."""
        times = [each.due for each in self.connections if each.binder is None and each.due]
        return min((time for time in times if time > self._context.clock()), default=None)

    def between(self, socket, endpoint):
        """Give the connections of a socket with whoever is bound to an endpoint."""
        return [
            each for each in self.connections if each.socket is socket and each.endpoint == endpoint
        ]

    def of(self, socket):
        """Give the connections of a socket, whichever side has made them."""
        return [each for each in self.connections if socket in (each.socket, each.binder)]


class Connection:
    """A connection, or an attempt at one: the ends of two pipes, one in each process.

    When it ends, the pipe of the socket that has connected stays. Whatever is written to it waits
    there until the connection is made once more, or is lost if that never happens.
    """

    #: A `RECONNECT_IVL` of so many milliseconds is never over.
    never = 86_400_000

    #: What a `Pipe` asks of its owner: there is no mailbox, what it is told is done at once.
    mailbox = types.SimpleNamespace(commands=())
    pattern = types.SimpleNamespace(
        read_activated=lambda pipe: None, write_activated=lambda pipe: None
    )

    def __init__(self, context, socket, endpoint):
        self._context = context
        self.socket = socket
        self.endpoint = endpoint
        self.binder: Any = None
        self.is_over = False
        #: When it is attempted.
        self.due = 0.0
        self.local, self._near = _pipe(socket, self)
        # A socket names one of its peers itself.
        self.local.routing_id = socket.options[zmq.CONNECT_ROUTING_ID] or None
        socket.options[zmq.CONNECT_ROUTING_ID] = b""
        self._near._delay = False
        self._far: Any = None
        #: The other pipe of one that is cut: whoever is bound is told of the end before it sees it.
        self._cut_off: Any = None

    @property
    def is_done(self):
        """Whether nothing more comes of it."""
        return self.is_over and self._cut_off is None

    def step(self):
        """Be established, or carry what there is; give how many things were done."""
        if self._cut_off is not None:
            cut_off, self._cut_off = self._cut_off, None
            cut_off.terminate(False)
            return 1
        if self.is_over or self.due > self._context.clock():
            return self._end_attempts()
        if self.binder is not None:
            return self.carry()
        binder = self._context.bound.get(self.endpoint)
        if binder is not None and self._near.state == "active":
            self._establish(binder)
        elif not self._put_off():
            self.is_over = True
            self._tell("connect_retried")
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

    def cut(self, lost=1 << 30):
        """End; so many messages were on their way to whoever is bound, and are lost."""
        if self.is_over:
            return
        if self.binder is not None and self.binder.report is not None:
            self.binder.report("disconnected")
        if self._far is not None:
            self._cut_off, self._far, self.binder = self._far, None, None
        self._near._delay = False
        if self._near.state == "waiting_for_delimiter":
            self._near.terminate(False)
        if self._put_off():
            _lose(self._near, lost)
        else:
            self.is_over = True
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

    def _put_off(self):
        """Attempt it once more, later; False if it never will."""
        interval = self.socket.options[zmq.RECONNECT_IVL]
        if interval >= self.never or self._near.state != "active":
            return False
        # libzmq's is random, from one interval to two.
        self.due = self._context.clock() + interval / 1000 * random.uniform(1, 2)
        return True

    def _end_attempts(self):
        """Attempt it no more if its socket does not want it."""
        if self.is_over or self._near.state == "active":
            return 0
        self.is_over = True
        return 1

    def _establish(self, binder):
        self.binder = binder
        self._near._delay = True
        if self.socket.pattern.receives_routing_ids:
            self._near.write(binder.options[zmq.ROUTING_ID], None)
            self._near.flush()
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


def _lose(source, most):
    """Read so many messages of a pipe, which come nowhere."""
    while most and (read := source.read()) is not None:
        most -= not read[1]


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
