"""Many busy sockets in one hub, and a quiet one among them."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, ClassVar

import zmq
from gevent.pool import Pool

from gzmqsource import Source, SourceClosed, green
from gzmqsource._base.event import Event
from simulation.fairness import Fairness
from simulation.libzmq import Socket
from simulation.world import World, action, check, loop

#: How a socket that receives is served, and one that sends is used.
WAYS = ("handler", "workers", "pool", "pulled", "green", "polled", "sends", "green sends")

_WHICH = range(6)


class Busy:
    """A socket, and a peer that sends it as much as it takes, or reads as much as it sends.

    Parameters
    ----------
    world : SourcesWorld
        The world of the hub.
    way : str
        One of `WAYS`.
    work : float
        The seconds that a message takes.
    marks : int
        The high-water marks of both ends.
    """

    #: The types of the socket and of its peer.
    kinds = zmq.PULL, zmq.PUSH
    #: Whether a pause ends what it does.
    receives = True

    def __init__(self, world, way, work, marks):
        self.world = world
        self.way = way
        self.work = work
        #: The numbers of the messages that came, and how many were sent.
        self.got: list[int] = []
        self.sent = 0
        self.is_closed = self.is_paused = False
        #: The greenlets that take or send messages, if no handler does.
        self.takers: list[Any] = []
        is_green = way in ("green", "polled", "green sends")
        kind, peers = self.kinds
        self.socket: Any = (green.Socket if is_green else zmq.Socket)(world.context, kind)
        self.peer = Socket(world.simulated, peers)
        for option in (zmq.RCVHWM, zmq.SNDHWM):
            self.socket.set(option, marks)
            self.peer.set(option, marks)
        address = f"inproc://{next(world.numbers)}"
        self.socket.bind(address)
        self.peer.connect(address)
        self.source: Any = None
        if not is_green:
            spawn: Any = {"workers": 2, "pool": Pool(2)}.get(way)
            handle = self.handle if way in ("handler", "workers", "pool") else None
            self.source = Source(self.socket, handle, spawn=spawn)
            self.source.start()
        self.begin()

    @property
    def is_served(self):
        """Whether its messages are taken."""
        if self.is_closed or (self.is_paused and self.receives):
            return False
        return not self.takers or not all(taker.dead for taker in self.takers)

    def begin(self):
        """Have one more greenlet take messages, if no handler does."""
        if self.way not in ("handler", "workers", "pool"):
            self.takers.append(self.world.spawn(self._run))

    def handle(self, message):
        self.got.append(int(message[0]))
        self.world.compute(self)

    def exchange(self):
        """Let the peer do what it can."""
        while self.send():
            pass

    def send(self):
        """Let the peer send a message, if there is room; return whether it did."""
        if self.is_closed:
            return False
        try:
            self.peer.get(zmq.EVENTS)
            self.peer.send(b"%d" % self.sent, 0)
        except zmq.ZMQError:
            return False
        self.sent += 1
        return True

    def check_order(self):
        check(self.got == [*range(len(self.got))], f"{self.way}: in the order {self.got}")

    def close(self):
        self.is_closed = True
        (self.socket if self.source is None else self.source).close()

    def _run(self):
        with contextlib.suppress(SourceClosed, zmq.ZMQError):
            while True:
                self._pass_one()

    def _pass_one(self):
        if self.way == "pulled":
            self.handle(self.source.recv())
        elif self.way == "green":
            self.handle([self.socket.recv()])
        else:
            self.socket.poll()
            with contextlib.suppress(zmq.Again):  # another greenlet has taken it
                self.handle([self.socket.recv(zmq.NOBLOCK)])


class Sending(Busy):
    """One that sends while there is a flood."""

    kinds = zmq.PUSH, zmq.PULL
    receives = False

    def exchange(self):
        with contextlib.suppress(zmq.ZMQError):
            while True:
                self.got.append(int(self.peer.recv(0)[0]))

    def send(self):
        """Do nothing: the peer receives."""

    def check_order(self):
        # A number is what a greenlet begins with, and several may have begun.
        in_order = sorted(self.got) if len(self.takers) > 1 else self.got
        check(in_order == sorted(set(self.got)), f"{self.way}: in the order {self.got}")

    def _pass_one(self):
        self.world.flooded.wait()
        message = b"%d" % next(self.world.numbers)
        (self.socket if self.source is None else self.source).send(message)
        self.sent += 1
        self.world.compute(self)


class SourcesWorld(World):
    """What several sockets of one hub do to each other."""

    options: ClassVar = {
        "ways": [*itertools.product(WAYS, repeat=2)],
        "works": [(5e-5,), (5e-5,), (2e-5, 1e-4), (5e-5, 3e-4), (5e-5, 5e-5, 5e-5, 0.002)],
        "count": range(1, 9),
        "marks": [2, 8, 40],
        "libuv": [False, True],
        "delay": range(3),
    }

    #: Seconds of a slice of the hub.
    slice = Source.max_seconds

    def __init__(self, ways, works, count, marks, libuv, delay):
        super().__init__(delay)
        loop.is_libuv = libuv
        #: Set while there is a flood.
        self.flooded = Event()
        self.sockets = [
            (Sending if "sends" in ways[index % len(ways)] else Busy)(
                self, ways[index % len(ways)], works[index % len(works)], marks
            )
            for index in range(count)
        ]
        #: It has a message now and then.
        self.quiet = Busy(self, "handler", 1e-5, 8)
        self._fairness: Fairness | None = None
        loop.step()

    def compute(self, busy):
        """Let a message take its time; meanwhile its peer sends more."""
        loop.time += busy.work
        loop.used += busy.work
        if self.flooded.is_set() and busy is not self.quiet:
            busy.exchange()
        if self._fairness is not None:
            self._fairness.note(busy)

    # Steps of a schedule.

    @action(weight=2, seconds=(0.004, 0.008, 0.016))
    def flood(self, seconds):
        """Have each socket have messages whenever it can take one, for so long."""
        self._calls = 0  # it has many, and an end
        self.flooded.set()
        for each in self.sockets:
            each.exchange()
        # All become ready at once, and each has a message before the slice may end.
        loop.run_busy(loop.time + 2 * self.slice + 2 * sum(each.work for each in self.sockets))
        self._fairness = fairness = Fairness(self)
        ticking = self.spawn(fairness.tick)
        ends = loop.time + seconds
        while loop.time < ends:
            if self.quiet.send():
                fairness.note_asked()
            loop.run_busy(min(ends, loop.time + 3 * self.slice))
        ticking.kill(block=False)
        self.flooded.clear()
        self._fairness = None
        fairness.check()

    @action(which=_WHICH, messages=range(1, 4))
    def send_some(self, which, messages):
        for _ in range(messages):
            self._socket(which).send()

    @action(which=_WHICH)
    def take_also(self, which):
        """Have one more greenlet take messages."""
        busy = self._socket(which)
        if not busy.is_closed:
            busy.begin()

    @action(weight=0.5, which=_WHICH)
    def close(self, which):
        self._socket(which).close()

    @action(which=_WHICH, is_paused=(True, False, False))
    def pause(self, which, is_paused):
        busy = self._socket(which)
        if busy.source is not None and not busy.is_closed:
            busy.is_paused = is_paused
            (busy.source.pause if is_paused else busy.source.resume)()

    @action(which=_WHICH)
    def look(self, which):
        """Read ``ZMQ_EVENTS``, which eats the edge."""
        busy = self._socket(which)
        if not busy.is_closed:
            socket = busy.socket if busy.source is None else busy.source.socket
            socket.get(zmq.EVENTS)

    # What must be true.

    def check_rest(self):
        super().check_rest()
        for each in (*self.sockets, self.quiet):
            each.check_order()
            if each.is_served:
                count = len(each.got)
                check(count == each.sent, f"{each.way}: {count} of {each.sent} messages came")

    @action(weight=4)
    def settle(self):
        """Let peers read all there is, and everything happen that needs no timeout."""
        before = -1
        while before != (before := sum(len(each.got) for each in self.sockets)):
            loop.step()
            for each in self.sockets:
                if isinstance(each, Sending):
                    each.exchange()
        super().settle()

    def finish(self):
        self.settle()
        for each in (*self.sockets, self.quiet):
            each.close()
        loop.step()
        super().finish()
        loop.is_libuv = False

    def abandon(self):
        super().abandon()
        loop.is_libuv = False

    def _socket(self, which):
        return self.sockets[which % len(self.sockets)]
