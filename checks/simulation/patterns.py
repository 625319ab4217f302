"""libzmq's messaging patterns: what each type of socket does with its pipes."""

import itertools
from typing import Any

import zmq

from simulation.pipes import DROPPED, TAKEN, FairQueue, LoadBalancer


class Pattern:
    """What a type of socket does with its pipes.

    ``send`` returns `TAKEN`, `DROPPED` or an errno; ``receive`` a frame and whether more follow, or
    an errno.
    """

    receives_routing_ids = False

    #: ``ZMQ_ROUTER_MANDATORY`` of a ROUTER, ``ZMQ_XPUB_NODROP`` of a PUB.
    mandatory = False

    #: ``ZMQ_ROUTER_HANDOVER``: whether a new peer may take the routing id of another one.
    handover = False

    #: ``ZMQ_PROBE_ROUTER``: whether each new peer is sent an empty message.
    probes = False

    def __init__(self, socket):
        self.socket = socket

    def attach(self, pipe):
        raise NotImplementedError

    def read_activated(self, pipe):
        raise NotImplementedError

    def write_activated(self, pipe):
        raise NotImplementedError

    def terminated(self, pipe):
        raise NotImplementedError

    def send(self, frame, more):
        return zmq.ENOTSUP

    def receive(self):
        return zmq.ENOTSUP

    def has_in(self):
        return False

    def has_out(self):
        return False

    def may_receive(self):
        """Whether a receive can give what the pipes hold."""
        return True

    def uses(self, pipe):
        """Whether a pipe that is attached, or will be, is used for messages."""
        return True

    def would_take(self, frames):
        """Whether a send of a message succeeds or fails for good, once the mailbox is read."""
        return any(pipe.is_writable() for pipe in self.socket.all_pipes() if self.uses(pipe))

    def room_for(self, frames):
        """How many messages like this one can be sent, at least, once the mailbox is read."""
        pipes = [pipe for pipe in self.socket.all_pipes() if self.uses(pipe)]
        return sum(pipe.room() for pipe in pipes if pipe.is_writable())

    def will_have_out(self):
        """Whether ``POLLOUT`` is there once the mailbox is read."""
        return any(pipe.is_writable() for pipe in self.socket.all_pipes() if self.uses(pipe))


class Dealer(Pattern):
    def __init__(self, socket):
        super().__init__(socket)
        self.incoming = FairQueue()
        self.outgoing = LoadBalancer()

    def attach(self, pipe):
        self.incoming.pipes.attach(pipe)
        self.outgoing.pipes.attach(pipe)

    def read_activated(self, pipe):
        self.incoming.pipes.activate(pipe)

    def write_activated(self, pipe):
        self.outgoing.pipes.activate(pipe)

    def terminated(self, pipe):
        self.incoming.pipes.drop(pipe)
        self.outgoing.terminated(pipe)

    def send(self, frame, more):
        return self.outgoing.send(frame, more)

    def receive(self):
        received = self.incoming.receive()
        return zmq.EAGAIN if received is None else received[1:]

    def has_in(self):
        return self.incoming.has_in()

    def has_out(self):
        return self.outgoing.has_out()


class Pull(Pattern):
    def __init__(self, socket):
        super().__init__(socket)
        self.incoming = FairQueue()

    def attach(self, pipe):
        self.incoming.pipes.attach(pipe)

    def read_activated(self, pipe):
        self.incoming.pipes.activate(pipe)

    def write_activated(self, pipe):
        """Take no note: nothing is sent."""

    def terminated(self, pipe):
        self.incoming.pipes.drop(pipe)

    receive = Dealer.receive
    has_in = Dealer.has_in

    def will_have_out(self):
        return False


class Push(Pattern):
    def __init__(self, socket):
        super().__init__(socket)
        self.outgoing = LoadBalancer()

    def attach(self, pipe):
        pipe._delay = False
        self.outgoing.pipes.attach(pipe)

    def read_activated(self, pipe):
        """Take no note: nothing is received."""

    write_activated = Dealer.write_activated
    send = Dealer.send
    has_out = Dealer.has_out

    def terminated(self, pipe):
        self.outgoing.terminated(pipe)


class Pair(Pattern):
    def __init__(self, socket):
        super().__init__(socket)
        self._pipe = None

    def attach(self, pipe):
        if self._pipe is None:
            self._pipe = pipe
        else:
            pipe.terminate(False)

    def read_activated(self, pipe):
        """Take no note: there is but one."""

    write_activated = read_activated

    def terminated(self, pipe):
        if pipe is self._pipe:
            self._pipe = None

    def uses(self, pipe):
        return pipe is (self._pipe or self.socket.all_pipes()[0])

    def send(self, frame, more):
        if self._pipe is None or not self._pipe.write(frame, more):
            return zmq.EAGAIN
        if not more:
            self._pipe.flush()
        return TAKEN

    def receive(self):
        read = self._pipe and self._pipe.read()
        return read or zmq.EAGAIN

    def has_in(self):
        return self._pipe is not None and self._pipe.check_read()

    def has_out(self):
        return self._pipe is not None and self._pipe.check_write()


class Router(Pattern):
    receives_routing_ids = True

    def __init__(self, socket):
        super().__init__(socket)
        self.incoming = FairQueue()
        self._by_id = {}
        self._anonymous = []
        #: Peers whose routing id another one has; they are never heard.
        self.ignored = []
        self._serial = itertools.count(1)
        self._current_in: Any = None
        self._ends_current_in = False
        self._prefetched = None
        self._is_id_sent = False
        self._more_in = self._more_out = False
        self._current_out = None

    def attach(self, pipe):
        if self.probes:
            pipe.write(b"", False)
            pipe.flush()
        if self._identify(pipe):
            self.incoming.pipes.attach(pipe)
        else:
            self._anonymous.append(pipe)

    def read_activated(self, pipe):
        if pipe not in self._anonymous:
            self.incoming.pipes.activate(pipe)
        elif self._identify(pipe):
            self._anonymous.remove(pipe)
            self.incoming.pipes.attach(pipe)

    def write_activated(self, pipe):
        """Take no note: the pipe itself is asked."""

    def terminated(self, pipe):
        if pipe in self._anonymous:
            self._anonymous.remove(pipe)
            return
        routing_id = pipe.routing_id
        if self._by_id.get(routing_id) is pipe:
            del self._by_id[routing_id]
        self.incoming.pipes.drop(pipe)
        if pipe is self._current_out:
            self._current_out = None

    def send(self, frame, more):
        if not self._more_out:
            if more:
                self._more_out = True
                pipe = self._by_id.get(frame)
                if pipe is not None and pipe.check_write():
                    self._current_out = pipe
                elif self.mandatory:
                    self._more_out = False
                    is_full = pipe is not None and not pipe.has_room()
                    return zmq.EAGAIN if is_full else zmq.EHOSTUNREACH
            return TAKEN
        self._more_out = more
        pipe = self._current_out
        if pipe is None:
            return DROPPED
        if not pipe.write(frame, more):
            pipe.rollback()
            self._current_out = None
            return DROPPED
        if not more:
            pipe.flush()
            self._current_out = None
        return TAKEN

    def receive(self):
        if self._prefetched is not None:
            pipe, frame, more = self._prefetched
            if not self._is_id_sent:
                self._is_id_sent = True
                return pipe.routing_id, True
            self._prefetched = None
            self._read_frame(more)
            return frame, more
        received = self._fetch()
        if received is None:
            return zmq.EAGAIN
        pipe, frame, more = received
        if self._more_in:
            self._read_frame(more)
            return frame, more
        self._prefetched = received
        self._current_in = pipe
        self._is_id_sent = True
        self._more_in = True
        return pipe.routing_id, True

    def has_in(self):
        if self._more_in or self._prefetched is not None:
            return True
        received = self._fetch()
        if received is None:
            return False
        self._prefetched = received
        self._current_in = received[0]
        self._is_id_sent = False
        return True

    def has_out(self):
        if not self.mandatory:
            return True
        return any(pipe.has_room() for pipe in self._by_id.values())

    def room_for(self, frames):
        pipe = self._by_id.get(frames[0])
        return pipe.room() if pipe is not None and self.mandatory else int(self.would_take(frames))

    def will_have_out(self):
        if not self.mandatory:
            return True
        known = self._by_id.values()
        return any(pipe.will_have_room() and not pipe.will_be_gone() for pipe in known)

    def uses(self, pipe):
        if pipe in self.ignored:
            return False
        waiting = pipe.inward.messages
        return pipe.routing_id is not None or (waiting and waiting[0][0] not in self._by_id)

    def would_take(self, frames):
        if not self.mandatory:
            return True
        pipe = self._by_id.get(frames[0])
        # A full pipe gives EAGAIN until it is gone for good, a dead one with room EHOSTUNREACH.
        return pipe is None or pipe.will_have_room() or pipe.will_be_gone()

    def _fetch(self):
        """Receive a frame, but not the routing id of a peer that this socket has named itself."""
        while (received := self.incoming.receive()) is not None and received[2] is None:
            pass
        return received

    def _read_frame(self, more):
        self._more_in = more
        if not more:
            if self._ends_current_in:
                self._current_in.terminate(True)
            self._ends_current_in, self._current_in = False, None

    def _identify(self, pipe):
        if pipe.routing_id is not None:  # ``ZMQ_CONNECT_ROUTING_ID``
            self._by_id[pipe.routing_id] = pipe
            return True
        read = pipe.read()
        if read is None:
            return False
        routing_id = read[0] or b"\0" + next(self._serial).to_bytes(4, "big")
        if routing_id in self._by_id:
            if not self.handover:
                self.ignored.append(pipe)
                return False
            self._hand_over(routing_id)
        pipe.routing_id = routing_id
        self._by_id[routing_id] = pipe
        return True

    def _hand_over(self, routing_id):
        """Give the one that has a routing id another one, and end it."""
        before = self._by_id.pop(routing_id)
        before.routing_id = b"\0" + next(self._serial).to_bytes(4, "big")
        self._by_id[before.routing_id] = before
        if before is self._current_in:
            self._ends_current_in = True
        else:
            before.terminate(True)


class Req(Dealer):
    def __init__(self, socket):
        super().__init__(socket)
        self._is_waiting = False
        self._begins = True
        self._reply_pipe = None

    def send(self, frame, more):
        if self._is_waiting:
            return zmq.EFSM
        if self._begins:
            if self.outgoing.send(b"", True) == zmq.EAGAIN:
                return zmq.EAGAIN
            pipes = self.outgoing.pipes
            self._reply_pipe = pipes[pipes.current] if pipes.active else None
            self._begins = False
            while self.incoming.receive() is not None:
                pass  # replies that come too late
        sent = super().send(frame, more)
        if sent in (TAKEN, DROPPED) and not more:
            self._is_waiting = self._begins = True
        return sent

    def receive(self):
        if not self._is_waiting:
            return zmq.EFSM
        while self._begins:
            received = self._receive_reply()
            if received is None:
                return zmq.EAGAIN
            frame, more = received
            if more and not frame:
                self._begins = False
                break
            while more:  # no delimiter: it is no reply
                _, more = self._receive_reply()
        received = self._receive_reply()
        if received is None:
            return zmq.EAGAIN
        if not received[1]:
            self._is_waiting = False
            self._begins = True
        return received

    def _receive_reply(self):
        while True:
            received = self.incoming.receive()
            if received is None:
                return None
            if self._reply_pipe is None or received[0] is self._reply_pipe:
                return received[1:]

    def terminated(self, pipe):
        if pipe is self._reply_pipe:
            self._reply_pipe = None
        super().terminated(pipe)

    def has_in(self):
        return self._is_waiting and super().has_in()

    def has_out(self):
        return not self._is_waiting and super().has_out()

    def room_for(self, frames):
        return int(self.would_take(frames))

    def will_have_out(self):
        return not self._is_waiting and super().will_have_out()

    def may_receive(self):
        return self._is_waiting

    def would_take(self, frames):
        return not self._is_waiting and super().would_take(frames)


class Rep(Router):
    def __init__(self, socket):
        super().__init__(socket)
        self._is_replying = False
        self._begins = True

    def send(self, frame, more):
        if not self._is_replying:
            return zmq.EFSM
        sent = super().send(frame, more)
        if not more:
            self._is_replying = False
        return sent

    def receive(self):
        if self._is_replying:
            return zmq.EFSM
        if self._begins:
            while True:
                received = super().receive()
                if received == zmq.EAGAIN:
                    return zmq.EAGAIN
                frame, more = received
                if not more:  # there is no delimiter
                    if self._current_out is not None:
                        self._current_out.rollback()
                        self._more_out, self._current_out = False, None
                    continue
                super().send(frame, True)
                if not frame:
                    break
            self._begins = False
        received = super().receive()
        if received == zmq.EAGAIN:
            return zmq.EAGAIN
        if not received[1]:
            self._is_replying = self._begins = True
        return received

    def has_in(self):
        return not self._is_replying and super().has_in()

    def has_out(self):
        return self._is_replying

    def room_for(self, frames):
        return int(self._is_replying)

    def will_have_out(self):
        return self._is_replying

    def may_receive(self):
        return not self._is_replying
