"""libzmq's PUB, XPUB and SUB, whose one topic is the empty one: subscribers get everything."""

from collections import deque

import zmq

from simulation.patterns import Pattern
from simulation.pipes import TAKEN, FairQueue

_SUBSCRIBE, _UNSUBSCRIBE = b"\1", b"\0"


class Distribution(list):
    """Sending to all matching pipes: libzmq's ``dist_t``.

    The first ones match, then come those that are active, then those that will be with the next
    message, then those that are full.
    """

    def __init__(self):
        super().__init__()
        self.matching = self.active = self.eligible = 0
        self._more = False

    def attach(self, pipe):
        self.append(pipe)
        self._swap(len(self) - 1, self.eligible)
        if not self._more:
            self._swap(self.eligible, self.active)
            self.active += 1
        self.eligible += 1

    def activate(self, pipe):
        if self.eligible < len(self):
            self._swap(self.index(pipe), self.eligible)
            self.eligible += 1
        if not self._more and self.active < len(self):
            self._swap(self.eligible - 1, self.active)
            self.active += 1

    def match(self, pipe):
        index = self.index(pipe)
        if self.matching <= index < self.eligible:
            self._swap(index, self.matching)
            self.matching += 1

    def drop(self, pipe):
        index = self.index(pipe)
        if index < self.matching:
            self.matching -= 1
            self._swap(index, self.matching)
            index = self.matching
        if index < self.active:
            self.active -= 1
            self._swap(index, self.active)
            index = self.active
        if index < self.eligible:
            self.eligible -= 1
            self._swap(index, self.eligible)
        # libzmq fills the gap with the last one.
        index = self.index(pipe)
        self[index] = self[-1]
        self.pop()

    def has_room(self):
        return all(pipe.has_room() for pipe in self[: self.matching])

    def send(self, frame, more):
        index = 0
        while index < self.matching:
            pipe = self[index]
            if pipe.write(frame, more):
                index += 1
                if not more:
                    pipe.flush()
                continue
            self.matching -= 1
            self._swap(index, self.matching)
            self.active -= 1
            self._swap(self.matching, self.active)
            self.eligible -= 1
            self._swap(self.active, self.eligible)
        if not more:
            self.active = self.eligible
        self._more = more

    def _swap(self, one, other):
        self[one], self[other] = self[other], self[one]


class Xpub(Pattern):
    #: Whether it tells of who subscribes.
    tells = True

    def __init__(self, socket):
        super().__init__(socket)
        self.outgoing = Distribution()
        self._subscribers = []
        self._told: deque[bytes] = deque()
        self._more = False

    def attach(self, pipe):
        self.outgoing.attach(pipe)
        self.read_activated(pipe)

    def read_activated(self, pipe):
        while (read := pipe.read()) is not None:
            assert read[0] == _SUBSCRIBE
            self._subscribers.append(pipe)
            if self.tells and len(self._subscribers) == 1:
                self._told.append(_SUBSCRIBE)

    def write_activated(self, pipe):
        self.outgoing.activate(pipe)

    def terminated(self, pipe):
        if pipe in self._subscribers:
            self._subscribers.remove(pipe)
            if self.tells and not self._subscribers:
                self._told.append(_UNSUBSCRIBE)
        self.outgoing.drop(pipe)

    def send(self, frame, more):
        if not self._more:
            self.outgoing.matching = 0
            for pipe in self._subscribers:
                self.outgoing.match(pipe)
        if self.mandatory and not self.outgoing.has_room():
            return zmq.EAGAIN
        self.outgoing.send(frame, more)
        if not more:
            self.outgoing.matching = 0
        self._more = more
        return TAKEN

    def receive(self):
        return (self._told.popleft(), False) if self._told else zmq.EAGAIN

    def has_in(self):
        return bool(self._told)

    def has_out(self):
        return True

    will_have_out = has_out

    def uses(self, pipe):
        return False  # none brings what is received

    def would_take(self, frames):
        if not self.mandatory:
            return True
        looked_at = self.outgoing[: self.outgoing.eligible]
        return all(
            pipe.will_have_room() or pipe.will_be_gone()
            for pipe in looked_at
            if pipe in self._subscribers
        )

    def room_for(self, frames):
        return int(self.would_take(frames))


class Pub(Xpub):
    tells = False

    def attach(self, pipe):
        pipe._delay = False
        super().attach(pipe)

    def receive(self):
        return zmq.ENOTSUP


class Sub(Pattern):
    def __init__(self, socket):
        super().__init__(socket)
        self.incoming = FairQueue()
        self._prefetched = None
        self._more_in = False

    def attach(self, pipe):
        self.incoming.pipes.attach(pipe)
        pipe.write(_SUBSCRIBE, False)
        pipe.flush()

    def read_activated(self, pipe):
        self.incoming.pipes.activate(pipe)

    def write_activated(self, pipe):
        """Take no note: it has subscribed."""

    def terminated(self, pipe):
        self.incoming.pipes.drop(pipe)

    def receive(self):
        received, self._prefetched = self._prefetched or self.incoming.receive(), None
        if received is None:
            return zmq.EAGAIN
        self._more_in = received[2]
        return received[1:]

    def has_in(self):
        """Take the first frame of a message, to match it: the publisher has room again."""
        if not self._more_in and self._prefetched is None:
            self._prefetched = self.incoming.receive()
        return self._more_in or self._prefetched is not None

    def will_have_out(self):
        return False
