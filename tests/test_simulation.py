"""The simulated libzmq against libzmq: the same calls, with the same outcome after each."""

import itertools
import select
import time

import pytest
import zmq
from helpers import COMMANDS_ARE_LOOKED_FOR, until_reaped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import libzmq
from zmq.backend import Socket as PlainSocket

pytestmark = pytest.mark.once

_serial = itertools.count()


class Real:
    """Sockets of libzmq, and a way to wait until its reaper thread has done its work."""

    def __init__(self):
        self.context = zmq.Context()
        self.sockets = []

    def socket(self, kind):
        self.sockets.append(self.context.socket(kind))
        self.sockets[-1].linger = 0
        return self.sockets[-1]

    def send(self, socket, frame, flags):
        PlainSocket.send(socket, frame, flags)

    def recv(self, socket, flags):
        frame = PlainSocket.recv(socket, flags, False)
        return frame.bytes, frame.more

    def close(self, socket):
        socket.close(0)

    def rest(self):
        time.sleep(COMMANDS_ARE_LOOKED_FOR)

    def is_signalled(self, socket):
        return bool(select.select([socket.fileno()], [], [], 0)[0])

    def end(self):
        for socket in self.sockets:
            socket.close(0)
        self.context.term()

    def reap(self):
        until_reaped(self.context)


class Simulated:
    """The same with simulated sockets."""

    def __init__(self):
        self.now = 0.0
        self.context = libzmq.Context(lambda: self.now)
        self.sockets = []

    def socket(self, kind):
        self.sockets.append(libzmq.Socket(self.context, kind))
        return self.sockets[-1]

    def reap(self):
        self.context.reap()

    def send(self, socket, frame, flags):
        socket.send(frame, flags)

    def recv(self, socket, flags):
        frame, more = socket.recv(flags)
        return frame, bool(more)

    def close(self, socket):
        socket.close()

    def rest(self):
        self.now += COMMANDS_ARE_LOOKED_FOR

    def is_signalled(self, socket):
        return socket.mailbox.signalled

    def end(self):
        for socket in self.sockets:
            socket.close()


def outcome_of(function, *arguments):
    try:
        return function(*arguments)
    except zmq.ZMQError as error:
        return f"errno {error.errno}"


PEERS = 3

#: The socket in the middle, the type of its peers, and its options.
PAIRINGS = {
    "push": (zmq.PUSH, zmq.PULL, {}),
    "pull": (zmq.PULL, zmq.PUSH, {}),
    "dealer": (zmq.DEALER, zmq.DEALER, {}),
    "router": (zmq.ROUTER, zmq.DEALER, {}),
    "mandatory router": (zmq.ROUTER, zmq.DEALER, {zmq.ROUTER_MANDATORY: 1}),
    "pair": (zmq.PAIR, zmq.PAIR, {}),
    "req": (zmq.REQ, zmq.REP, {}),
    "rep": (zmq.REP, zmq.REQ, {}),
    "pub": (zmq.PUB, zmq.SUB, {}),
    "xpub": (zmq.XPUB, zmq.SUB, {}),
    "xpub without drops": (zmq.XPUB, zmq.SUB, {zmq.XPUB_NODROP: 1}),
}

who = st.integers(0, PEERS)
CALLS = st.one_of(
    st.tuples(st.just("bind")),
    st.tuples(st.just("connect"), st.integers(1, PEERS)),
    st.tuples(st.just("connect"), st.integers(1, PEERS)),
    st.tuples(st.just("send"), who, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("send"), who, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("begin"), who),
    st.tuples(st.just("end"), who),
    st.tuples(st.just("recv"), who),
    st.tuples(st.just("recv"), who),
    st.tuples(st.just("recv all"), who),
    st.tuples(st.just("events"), who),
    st.tuples(st.just("more"), who),
    st.tuples(st.just("disconnect"), st.integers(1, PEERS)),
    st.tuples(st.just("close"), who),
    st.tuples(st.just("rest")),
)


class Trace:
    """Makes calls on sockets, real or simulated, and writes down what comes of them."""

    def __init__(self, world, pairing, marks):
        kind, peers, options = PAIRINGS[pairing]
        self.world = world
        self.address = f"inproc://trace-{next(_serial)}"
        self.sockets = [world.socket(kind), *(world.socket(peers) for _ in range(PEERS))]
        for index, socket in enumerate(self.sockets):
            socket.set(zmq.SNDHWM, marks)
            socket.set(zmq.RCVHWM, 1)
            socket.set(zmq.ROUTING_ID, f"peer {index}".encode())
            if socket is not self.sockets[0] and peers == zmq.SUB:
                socket.set(zmq.SUBSCRIBE, b"")
        for option, value in options.items():
            self.sockets[0].set(option, value)
        self.is_bound = False
        self.connected = set()
        self.closed = set()
        self.lines = []

    def make(self, call, *arguments):
        answer = outcome_of(getattr(self, call.replace(" ", "_")), *arguments)
        left = [each for index, each in enumerate(self.sockets) if index not in self.closed]
        if not self.closed:
            state = [self.world.is_signalled(socket) for socket in left]
        else:
            # The reaper thread answers while a call is made, or after it: both come to one end.
            for _ in range(3):
                self.world.reap()
                state = [outcome_of(socket.get, zmq.EVENTS) for socket in left]
        self.lines.append((call, *arguments, answer, state))

    def bind(self):
        if not self.is_bound and 0 not in self.closed:
            self.is_bound = True
            self.sockets[0].bind(self.address)

    def connect(self, index):
        if index not in self.connected | self.closed and 0 not in self.closed:
            self.connected.add(index)
            self.sockets[index].connect(self.address)

    def disconnect(self, index):
        if self.is_bound and index in self.connected - self.closed:
            self.sockets[index].disconnect(self.address)

    def send(self, index, frames, looks):
        """Send a message; before it the mailbox is read, or the send will do so."""
        if index in self.closed:
            return None
        socket = self.sockets[index]
        if looks:
            outcome_of(socket.get, zmq.EVENTS)
        self.world.rest()
        parts = [f"{index} {len(self.lines)} {part}".encode() for part in range(frames)]
        if socket is self.sockets[0] and self.kind is zmq.ROUTER:
            parts = [f"peer {len(self.lines) % PEERS + 1}".encode(), *parts]
        answers = []
        for part in parts:
            more = zmq.SNDMORE if part is not parts[-1] else 0
            answers.append(outcome_of(self.world.send, socket, part, zmq.NOBLOCK | more))
            if answers[-1] is not None and part is parts[0]:
                break
        return answers

    def begin(self, index):
        """Send the first frame of a message, or one more of it."""
        return self._send_frame(index, b"begun", zmq.SNDMORE)

    def end(self, index):
        return self._send_frame(index, b"ended", 0)

    def _send_frame(self, index, frame, flags):
        if index in self.closed:
            return None
        self.world.rest()
        return self.world.send(self.sockets[index], frame, zmq.NOBLOCK | flags)

    def recv(self, index):
        return self.closed.isdisjoint({index}) and self.world.recv(self.sockets[index], zmq.NOBLOCK)

    def recv_all(self, index):
        received = []
        while index not in self.closed:
            received.append(outcome_of(self.world.recv, self.sockets[index], zmq.NOBLOCK))
            if isinstance(received[-1], str):
                break
        return received

    def events(self, index):
        return index not in self.closed and self.sockets[index].get(zmq.EVENTS)

    def more(self, index):
        return index not in self.closed and self.sockets[index].get(zmq.RCVMORE)

    def close(self, index):
        if index not in self.closed and (self.is_bound or index not in self.connected | {0}):
            self.closed.add(index)
            self.world.close(self.sockets[index])

    def rest(self):
        self.world.rest()

    @property
    def kind(self):
        return zmq.SocketType(int(self.sockets[0].get(zmq.TYPE)))


@pytest.mark.parametrize("pairing", PAIRINGS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls=st.lists(CALLS, max_size=25), marks=st.integers(1, 2))
def test_the_simulation_answers_every_call_as_libzmq_does(pairing, calls, marks):
    traces = []
    for world in Real(), Simulated():
        try:
            trace = Trace(world, pairing, marks)
            for call in calls:
                trace.make(*call)
            traces.append(trace.lines)
        finally:
            world.end()
    assert traces[0] == traces[1]
