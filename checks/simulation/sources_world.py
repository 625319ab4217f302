"""Many flooded sockets in one hub, and a quiet one among them."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import Any, ClassVar

import zmq
from gevent.pool import Pool

from gzmqsource import Source, SourceClosed, green
from simulation.libzmq import Socket
from simulation.world import World, action, check, loop

# While something runs, the clock goes on only by what that does.
time.thread_time = loop.clock

#: How a socket is served.
WAYS = ("handler", "workers", "pool", "pulled", "green")

_WHICH = range(6)


class Flooded:
    """A PULL socket, what serves it, and a peer that sends.

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

    def __init__(self, world, way, work, marks):
        self.world = world
        self.way = way
        self.work = work
        #: The numbers of the messages that came, and how many were sent.
        self.got: list[int] = []
        self.sent = 0
        self.is_closed = self.is_paused = False
        #: The greenlets that take messages, if no handler does.
        self.takers: list[Any] = []
        self.socket: Any = (green.Socket if way == "green" else zmq.Socket)(world.context, zmq.PULL)
        self.socket.set(zmq.RCVHWM, marks)
        address = f"inproc://{next(world.numbers)}"
        self.socket.bind(address)
        self.peer = Socket(world.simulated, zmq.PUSH)
        self.peer.set(zmq.SNDHWM, marks)
        self.peer.connect(address)
        self.source: Any = None
        if way != "green":
            spawn = {"workers": 2, "pool": Pool(2)}.get(way)
            handle = None if way == "pulled" else self.handle
            self.source = Source(self.socket, handle, spawn=spawn)
            self.source.start()
        self.begin()

    @property
    def is_served(self):
        """Whether its messages are taken."""
        if self.is_closed or self.is_paused:
            return False
        return not self.takers or not all(taker.dead for taker in self.takers)

    def begin(self):
        """Have one more greenlet take messages, if no handler does."""
        if self.way in ("pulled", "green"):
            self.takers.append(self.world.spawn(self._take))

    def handle(self, message):
        self.got.append(int(message[0]))
        self.world.compute(self)

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

    def fill(self):
        while self.send():
            pass

    def close(self):
        self.is_closed = True
        (self.socket if self.source is None else self.source).close()

    def _take(self):
        with contextlib.suppress(SourceClosed, zmq.ZMQError):
            while True:
                self.handle((self.socket.recv(),) if self.source is None else self.source.recv())


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
        self.is_flooding = False
        self.sockets = [
            Flooded(self, ways[index % len(ways)], works[index % len(works)], marks)
            for index in range(count)
        ]
        #: It has a message now and then.
        self.quiet = Flooded(self, "handler", 1e-5, 8)
        loop.step()

    def compute(self, flooded):
        """Let a message take its time; meanwhile its peer sends more."""
        loop.time += flooded.work
        if self.is_flooding and flooded is not self.quiet:
            flooded.fill()

    # Steps of a schedule.

    @action(weight=2, seconds=(0.004, 0.008, 0.016))
    def flood(self, seconds):
        """Have each socket have messages whenever it can take one, for so long."""
        self._calls = 0  # it has many, and an end
        self.is_flooding = True
        for each in self.sockets:
            each.fill()
        ends = loop.time + seconds
        while loop.time < ends:
            self.quiet.send()
            loop.run_busy(min(ends, loop.time + 3 * self.slice))
        self.is_flooding = False

    @action(which=_WHICH, messages=range(1, 4))
    def send_some(self, which, messages):
        for _ in range(messages):
            self._socket(which).send()

    @action(which=_WHICH)
    def take_also(self, which):
        """Have one more greenlet take messages."""
        flooded = self._socket(which)
        if not flooded.is_closed:
            flooded.begin()

    @action(weight=0.5, which=_WHICH)
    def close(self, which):
        self._socket(which).close()

    @action(which=_WHICH, is_paused=(True, False, False))
    def pause(self, which, is_paused):
        flooded = self._socket(which)
        if flooded.source is not None and not flooded.is_closed:
            flooded.is_paused = is_paused
            (flooded.source.pause if is_paused else flooded.source.resume)()

    @action(which=_WHICH)
    def look(self, which):
        """Read ``ZMQ_EVENTS``, which eats the edge."""
        flooded = self._socket(which)
        if not flooded.is_closed:
            socket = flooded.socket if flooded.source is None else flooded.source.socket
            socket.get(zmq.EVENTS)

    # What must be true.

    def check_rest(self):
        super().check_rest()
        for each in (*self.sockets, self.quiet):
            check(each.got == [*range(len(each.got))], f"{each.way}: in the order {each.got}")
            if each.is_served:
                count = len(each.got)
                check(count == each.sent, f"{each.way}: {count} of {each.sent} messages came")

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
