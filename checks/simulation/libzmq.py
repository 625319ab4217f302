"""libzmq's contexts and sockets over ``inproc``, in memory.

It follows libzmq 4.3.5 in what can be seen from outside: which calls read the mailbox and which do
so at most once a millisecond, when a descriptor becomes readable and when it falls silent, where a
high-water mark strikes, what becomes of a message whose pipe dies, and which error is given.
``tests/test_simulation.py`` makes the same random calls on it and on libzmq.

Over ``tcp`` a `network.Network` carries the messages.

There are no threads. What another thread would do is done by whoever drives the simulation, between
two calls, or in the middle of a burst of calls by way of `Context.before_call`.
"""

import errno
import types

import zmq

from simulation import patterns, publishing
from simulation.network import Network
from simulation.pipes import DROPPED, TAKEN, Mailbox, Pipe, Stream

#: By the name of the type: this module is loaded before pyzmq has its constants.
_PATTERNS: dict[str, type[patterns.Pattern]] = {
    each.__name__.upper(): each
    for each in (
        *(patterns.Push, patterns.Pull, patterns.Dealer, patterns.Router, patterns.Pair),
        *(patterns.Req, patterns.Rep, publishing.Pub, publishing.Xpub, publishing.Sub),
    )
}

#: Receives between two looks into the mailbox, while there are messages.
_INBOUND_POLL_RATE = 100


class Context:
    """Sockets that can reach each other.

    Parameters
    ----------
    clock : callable
        Gives the time in seconds.
    max_command_delay : float
        Seconds for which a send does not look into the mailbox again; it depends on the machine.
    """

    def __init__(self, clock, max_command_delay=0.001):
        self.clock = clock
        self.max_command_delay = max_command_delay
        self.sockets = []
        self.is_ended = False
        self.bound = {}
        self.awaited = {}
        self.network = Network(self)

    def before_call(self, socket):
        """Do what other threads do just before a call on a socket; to be replaced."""

    def end(self):
        """Do what ``zmq_ctx_shutdown`` does."""
        self.is_ended = True
        for socket in self.sockets:
            if not socket.is_closed:
                socket.command(Socket.process_stop, socket)

    def reap(self):
        """Do what libzmq's reaper thread does with the mailboxes of closed sockets."""
        while busy := [each for each in self.sockets if each.is_closed and each.mailbox.commands]:
            for socket in busy:
                socket.process_commands()


class Socket:
    """One socket. Errors are raised as `zmq.ZMQError`."""

    def __init__(self, context, kind):
        if context.is_ended:
            raise zmq.ZMQError(zmq.ETERM)
        self.context = context
        self.kind = kind
        self.mailbox = Mailbox()
        self.pattern = _PATTERNS[zmq.SocketType(kind).name](self)
        self.pipes = []
        self.is_closed = False
        #: The messages that it took, and those of them that it dropped without a word.
        self.taken = []
        self.swallowed = []
        #: The pipes of what it has connected to.
        self.endpoints = {}
        #: Called with the name of each event of a monitor.
        self.report = None
        #: The socket that ends when nothing is left of this one.
        self.end_report = None
        self.options = {
            zmq.SNDHWM: 1000,
            zmq.RCVHWM: 1000,
            zmq.LINGER: -1,
            zmq.RCVTIMEO: -1,
            zmq.SNDTIMEO: -1,
            zmq.ROUTING_ID: b"",
            zmq.CONNECT_ROUTING_ID: b"",
            zmq.RECONNECT_IVL: 100,
            zmq.LAST_ENDPOINT: b"",
        }
        self._is_terminated = False
        self._ticks = 0
        self._last_look = None
        self._more = False
        self._sending = []
        context.sockets.append(self)

    # What libzmq's other objects ask of it.

    def command(self, command, *arguments):
        self.mailbox.send(command, *arguments)

    def process_stop(self):
        self._is_terminated = True

    def process_bind(self, pipe):
        self.pipes.append(pipe)
        self.pattern.attach(pipe)
        if self.is_closed:
            pipe.terminate(False)

    def process_inproc_connected(self):
        """Take no note: libzmq counts commands by it."""

    def pipe_terminated(self, pipe):
        self.pattern.terminated(pipe)
        self.pipes.remove(pipe)
        for endpoint in [key for key, each in self.endpoints.items() if each is pipe]:
            del self.endpoints[endpoint]

    # Its calls.

    def bind(self, endpoint):
        self._enter()
        self.process_commands()
        if endpoint in self.context.bound:
            raise zmq.ZMQError(zmq.EADDRINUSE)
        self.context.bound[endpoint] = self
        self.options[zmq.LAST_ENDPOINT] = endpoint.encode()
        for socket, mine, theirs in self.context.awaited.pop(endpoint, []):
            if socket.is_closed:
                continue
            mine.owner = self
            if not self.pattern.receives_routing_ids:
                mine.read()
            _set_hwms(socket, theirs, self, mine)
            self.process_bind(mine)
            socket.command(Socket.process_inproc_connected, socket)
            if socket.pattern.receives_routing_ids:
                _introduce(self, mine)

    def unbind(self, endpoint):
        self._enter()
        self.process_commands()
        if self.context.bound.get(endpoint) is not self:
            raise zmq.ZMQError(errno.ENOENT)
        del self.context.bound[endpoint]
        self.context.network.unbound(self, endpoint)

    def connect(self, endpoint):
        self._enter()
        self.process_commands()
        if not endpoint.startswith("inproc:"):
            self.context.network.connect(self, endpoint)
            self.options[zmq.LAST_ENDPOINT] = endpoint.encode()
            return
        binder = self.context.bound.get(endpoint)
        there, here = Stream(), Stream()
        mine = Pipe(self, here, there)
        theirs = Pipe(binder, there, here)
        mine.peer, theirs.peer = theirs, mine
        if binder is None:
            mine.set_hwms(self.options[zmq.RCVHWM], self.options[zmq.SNDHWM])
            theirs.set_hwms(self.options[zmq.SNDHWM], self.options[zmq.RCVHWM])
            _introduce(self, mine)
            # What is told to the other end is kept for whoever binds.
            theirs.owner = _Nobody(self, theirs)
            self.context.awaited.setdefault(endpoint, []).append((self, theirs, mine))
        else:
            _set_hwms(self, mine, binder, theirs)
            if binder.pattern.receives_routing_ids:
                _introduce(self, mine)
            if self.pattern.receives_routing_ids:
                _introduce(binder, theirs)
            binder.command(Socket.process_bind, binder, theirs)
        self.process_bind(mine)
        self.endpoints[endpoint] = mine
        self.options[zmq.LAST_ENDPOINT] = endpoint.encode()

    def disconnect(self, endpoint):
        self._enter()
        self.process_commands()
        if endpoint not in self.endpoints:
            raise zmq.ZMQError(errno.ENOENT)
        self.endpoints.pop(endpoint).terminate(True)

    def send(self, frame, flags):
        self._enter()
        self.process_commands(throttled=True)
        more = bool(flags & zmq.SNDMORE)
        sent = self.pattern.send(frame, more)
        if sent not in (TAKEN, DROPPED):
            self._sending = []
            raise _error(sent)
        self._sending.append(frame)
        if not more:
            (self.taken if sent == TAKEN else self.swallowed).append(self._sending)
            self._sending = []

    def recv(self, flags):
        """Receive a frame, and whether more follow."""
        self._enter()
        self._ticks += 1
        if self._ticks == _INBOUND_POLL_RATE:
            self.process_commands()
            self._ticks = 0
        received = self.pattern.receive()
        if received == zmq.EAGAIN:
            self.process_commands()
            self._ticks = 0
            received = self.pattern.receive()
        if not isinstance(received, tuple):
            raise _error(received)
        self._more = received[1]
        return received

    def get(self, option):
        self._enter()
        if option == zmq.EVENTS:
            self.process_commands()
            readable, writable = self.pattern.has_in(), self.pattern.has_out()
            return (zmq.POLLIN if readable else 0) | (zmq.POLLOUT if writable else 0)
        if option == zmq.FD:
            return self.mailbox.descriptor
        if option == zmq.RCVMORE:
            return int(self._more)
        if option == zmq.TYPE:
            return self.kind
        return self.options[option]

    def set(self, option, value):
        self._enter()
        if option in (zmq.ROUTER_MANDATORY, zmq.XPUB_NODROP):
            self.pattern.mandatory = bool(value)
        elif option == zmq.ROUTER_HANDOVER:
            self.pattern.handover = bool(value)
        elif option == zmq.PROBE_ROUTER:
            self.pattern.probes = bool(value)
        else:
            self.options[option] = value

    def monitor(self, endpoint):
        """Bind a socket that ends when nothing is left of this one; it reports nothing else."""
        self._enter()
        self.end_report = Socket(self.context, zmq.PAIR)
        self.end_report.bind(endpoint)

    def close(self):
        self.is_closed = True
        for endpoint in [key for key, each in self.context.bound.items() if each is self]:
            del self.context.bound[endpoint]
        for pipe in list(self.pipes):
            pipe.terminate(False)

    # What is true, whatever the socket has noticed of it.

    def all_pipes(self):
        """Give the pipes, also those that the mailbox still holds."""
        arriving = [
            arguments[1]
            for command, arguments in self.mailbox.commands
            if command is Socket.process_bind
        ]
        return [*self.pipes, *arriving]

    def has_message(self):
        """Tell whether a receive succeeds once the mailbox is read."""
        if not self.pattern.may_receive():
            return False
        if getattr(self.pattern, "_prefetched", None) is not None:
            return True
        return any(pipe.readable_messages() for pipe in self.all_pipes() if self.pattern.uses(pipe))

    def _enter(self):
        self.context.before_call(self)
        if self.is_closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        if self._is_terminated:
            raise zmq.ContextTerminated()

    def process_commands(self, throttled=False):
        if throttled:
            now = self.context.clock()
            last = self._last_look
            if last is not None and now - last <= self.context.max_command_delay:
                return
            self._last_look = now
        while (command := self.mailbox.receive()) is not None:
            process, arguments = command
            process(*arguments)
        if self._is_terminated and not self.is_closed:
            raise zmq.ContextTerminated()


class _Nobody:
    """Stands where a socket that binds is still to come."""

    def __init__(self, socket, pipe):
        self.mailbox = types.SimpleNamespace(commands=())
        self._socket = socket
        self._pipe = pipe

    def command(self, command, *arguments):
        """Forget it: the end of a pipe that nobody has is acknowledged at once."""
        if command is Pipe.process_pipe_term:
            self._socket.command(Pipe.process_pipe_term_ack, self._pipe.peer)


def _introduce(socket, pipe):
    """Send the routing id, which counts as no message."""
    pipe.write(socket.options[zmq.ROUTING_ID], None)
    pipe.flush()


def _set_hwms(connecting, there, binding, here):
    """Give both ends of a pipe the sum of both sockets' marks."""

    def total(sender, receiver):
        marks = sender.options[zmq.SNDHWM], receiver.options[zmq.RCVHWM]
        return sum(marks) if all(marks) else 0

    out, back = total(connecting, binding), total(binding, connecting)
    there.set_hwms(back, out)
    here.set_hwms(out, back)


def _error(number):
    return zmq.Again() if number == zmq.EAGAIN else zmq.ZMQError(number)
