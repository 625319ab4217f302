"""A socket between peers, and what peers do: connect, send, read, and die at any moment."""

from typing import Any

import zmq

from simulation.libzmq import Socket
from simulation.world import World, action, check

PEERS = range(3)

#: The types of a source and of its peers.
KINDS = {
    "PUSH": zmq.PULL,
    "PULL": zmq.PUSH,
    "DEALER": zmq.DEALER,
    "ROUTER": zmq.DEALER,
    "PAIR": zmq.PAIR,
    "REQ": zmq.REP,
    "REP": zmq.REQ,
    "PUB": zmq.SUB,
    "XPUB": zmq.SUB,
}

ONE_AT_A_TIME = ("REQ", "REP")


class Peer:
    """One of the other ends: another process, as far as the source can tell."""

    def __init__(self, world, index):
        self.world = world
        self.name = f"peer {index}".encode()
        self.socket: Any = None
        #: What was sent by each socket that it has had.
        self.histories = []

    @property
    def is_alive(self):
        return self.socket is not None and not self.socket.is_closed

    def open(self):
        self.world.disturb()
        self.socket = Socket(self.world.simulated, KINDS[self.world.kind])
        self.socket.set(zmq.ROUTING_ID, self.name)
        self.socket.set(zmq.SNDHWM, 1)
        self.socket.set(zmq.RCVHWM, 1)
        self.histories.append(self.socket.taken)

    def send(self, frames):
        self.world.disturb()
        try:
            self.socket.get(zmq.EVENTS)
            for index, frame in enumerate(frames):
                self.socket.send(frame, zmq.SNDMORE if index < len(frames) - 1 else 0)
        except zmq.ZMQError:
            return False
        return True

    def recv(self):
        message, more = [], True
        self.world.disturb()
        try:
            while more:
                frame, more = self.socket.recv(0)
                message.append(frame)
        except zmq.ZMQError:
            check(not message, "a peer got a torn message")


class PeeredWorld(World):
    """A world in which something owns a socket, and peers talk to it.

    Parameters
    ----------
    kind : str
        The type of the socket.
    marks : int
        Its high-water marks.
    mandatory : bool
        Whether a ROUTER tells that a peer is gone, and a PUB waits for one that is full.
    """

    #: The peers that there may be.
    possible = PEERS

    def __init__(self, kind, marks, mandatory, delay):
        super().__init__(delay)
        self.kind = kind
        self.peers = [Peer(self, index) for index in self.possible]
        #: The messages that peers have sent, by their numbers; and the numbers that were received.
        self.sent, self.got = {}, []
        #: The messages that were made for sending, by their numbers.
        self.made = {}
        #: The numbers of the messages that were accepted for sending, and of those that were not.
        self.accepted, self.refused = set(), set()
        self.is_ended = False
        self._marks = marks
        self._mandatory = mandatory

    def prepare(self, socket):
        """Set the socket's options, and let it be the one in the middle."""
        socket.set(zmq.SNDHWM, self._marks)
        socket.set(zmq.RCVHWM, self._marks)
        if self.kind == "ROUTER" and self._mandatory:
            socket.set(zmq.ROUTER_MANDATORY, 1)
        if self.kind in ("PUB", "XPUB") and self._mandatory:
            socket.set(zmq.XPUB_NODROP, 1)
        self.libzmq = socket.simulated
        self.watch(self.libzmq)

    @property
    def is_open(self):
        """Whether the socket can be used."""
        raise NotImplementedError

    def connect(self, address):
        """Connect the socket."""
        raise NotImplementedError

    # Peers.

    @action(weight=3, peer=PEERS)
    def attach(self, peer):
        """Let a peer connect."""
        peer = self.peers[peer]
        if not peer.is_alive and self.is_open:
            peer.open()
            peer.socket.connect("inproc://middle")

    @action(weight=2, peer=PEERS)
    def connect_out(self, peer):
        """Let the source connect to a peer: over ``inproc`` there is no edge."""
        peer = self.peers[peer]
        if not peer.is_alive and self.is_open:
            peer.open()
            address = f"inproc://peer-{next(self.numbers)}"
            peer.socket.bind(address)
            self.connect(address)

    @action(weight=6, peer=PEERS, frames=range(1, 4))
    def peer_sends(self, peer, frames):
        peer = self.peers[peer]
        if peer.is_alive and self.kind not in ("PUSH", "PUB", "XPUB"):
            number = next(self.numbers)
            message = [f"{number} {index}".encode() for index in range(frames)]
            if peer.send(message):
                self.sent[number] = message

    @action(weight=5, peer=PEERS)
    def peer_receives(self, peer):
        if self.peers[peer].is_alive and self.kind != "PULL":
            self.peers[peer].recv()

    @action(peer=PEERS)
    def peer_dies(self, peer):
        if self.peers[peer].is_alive:
            self.disturb()
            self.peers[peer].socket.close()

    @action(weight=6, calls=range(1, 9), peer=PEERS, what=range(4), stall=(0.0, 0.0, 0.002))
    def ambush(self, calls, peer, what, stall=0.0):
        """Let a peer do something just before one of the next calls, and stop the process there."""
        steps = (self.attach, self.peer_receives, self.peer_dies, self._peer_sends_one)
        self.happen_later(calls, lambda: steps[what](peer))
        if stall:
            self.stall(calls, stall)

    def _peer_sends_one(self, peer):
        self.peer_sends(peer, 2)

    @action(weight=0.5)
    def end_context(self):
        self.is_ended = True
        self.simulated.end()

    # What must be true.

    def unheard(self):
        """Give what came from peers whose routing id a ROUTER knew already: it ignores them."""
        return {
            int(frame.split()[0])
            for pipe in getattr(self.libzmq.pattern, "ignored", ())
            for frame, _ in pipe.inward.messages
            if isinstance(frame, bytes)
        }

    def check_received(self):
        check(len(self.got) == len(set(self.got)), f"received twice: {self.got}")
        unknown = set(self.got) - self.sent.keys()
        check(not unknown, f"{unknown} were never sent")
        for peer in self.peers:
            for history in peer.histories:
                numbers = [int(message[-1].split()[0]) for message in history]
                order = [number for number in self.got if number in numbers]
                check(order == sorted(order), f"one peer's messages in the order {order}")

    def check_taken(self):
        """Check that what libzmq took is whole; give the numbers, and those that it dropped."""
        taken = [self.number_in(message) for message in self.libzmq.taken]
        check(len(taken) == len(set(taken)), f"sent twice: {taken}")
        lost = {self.number_in(message) for message in self.libzmq.swallowed if message != [b""]}
        # libzmq drops what goes to a peer that has just gone, and a REQ cannot begin again.
        excused = self.kind in ("ROUTER", "REP", "REQ")
        check(excused or not lost, f"{lost} were given to libzmq while it drops")
        check(not lost & set(taken), f"{lost & set(taken)} were dropped, and sent")
        check(not set(taken) & self.refused, f"{set(taken) & self.refused} were refused, and sent")
        return set(taken), lost

    # Messages.

    def new_message(self, frames, peer):
        """Make a message; give its number, too."""
        number = next(self.numbers)
        message = [f"{number} {index} {frames}".encode() for index in range(frames)]
        if self.kind == "ROUTER":
            message.insert(0, self.peers[peer].name)
        self.made[number] = message
        return number, message

    def take(self, message):
        """Take note of a message that was received, which has to be whole."""
        if self.kind == "XPUB":
            check(message in ([b"\0"], [b"\1"]), f"{message} is no subscription")
            return
        if self.kind == "ROUTER":
            check(message[0] in [peer.name for peer in self.peers], f"{message} is from nobody")
            message = message[1:]
        number = int(message[0].split()[0])
        check(message == self.sent.get(number), f"{message} is torn, or was not sent")
        self.got.append(number)

    def number_in(self, message):
        """Give the number of a message of the source, which has to be whole."""
        first = message[1:2] if self.kind == "ROUTER" else message[:1]
        number = int(first[0].split()[0]) if first and first[0][:1].isdigit() else -1
        check(message == self.made.get(number), f"{message} was sent torn")
        return number
