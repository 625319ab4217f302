"""A green socket, its peers, and the greenlets that use it."""

import contextlib
from typing import Any, ClassVar

import zmq
from greenlet import getcurrent

from gzmqsource import green
from simulation.peers import KINDS, ONE_AT_A_TIME
from simulation.senders import LIMITS, Overridden, SendingWorld
from simulation.world import action, check, given_up_after, loop

_MASKS = tuple(int(mask) for mask in (zmq.POLLIN, zmq.POLLIN | zmq.POLLOUT, zmq.POLLOUT))


class GreenWorld(SendingWorld):
    """All that can be done with one socket of the drop-in."""

    options: ClassVar = {
        "kind": [*KINDS, "ROUTER", "ROUTER", "DEALER", "PUSH"],
        "marks": [1, 2],
        "mandatory": [True, True, False],
        "timeout": [-1, 1000],
        "delay": range(3),
        "overridden": [False, False, True],
        "attached": range(4),
        "steady": [False, True],
    }

    def __init__(
        self,
        kind,
        marks,
        mandatory,
        timeout,
        delay,
        overridden=False,
        attached=0,
        steady=False,
    ):
        super().__init__(kind, marks, mandatory, timeout, delay)
        socket_class: Any = Overridden if overridden else green.Socket
        self.socket = socket_class(self.context, getattr(zmq, kind))
        self.prepare(self.socket)
        self.socket.set(zmq.RCVTIMEO, timeout)
        self.socket.set(zmq.SNDTIMEO, timeout)
        self.socket.bind("inproc://middle")
        #: The greenlets that are in a call that may wait; those that poll with their masks.
        self.receiving: dict[Any, float] = {}
        self.polling: dict[Any, int] = {}
        #: Where the greenlet that received last stood in the order of those that waited.
        self.last_place = -1
        self.is_steady = steady
        for peer in range(attached):
            self.attach(peer)

    @property
    def is_open(self):
        return not self.socket._closed and not self.is_ended

    def connect(self, address):
        self.socket.connect(address)

    # The socket.

    @action(weight=5, limit=LIMITS)
    def recv(self, limit=None):
        self.spawn(self._receive, 0, limit)

    @action(weight=2)
    def recv_nowait(self):
        self._receive(zmq.NOBLOCK)

    @action(weight=2, timeout=(None, 0, 1000), mask=_MASKS, limit=LIMITS)
    def poll(self, timeout, mask, limit=None):
        self.spawn(self._poll, timeout, mask, limit)

    @action(weight=2)
    def look(self):
        """Read ``ZMQ_EVENTS``, which eats the edge."""
        with contextlib.suppress(zmq.ZMQError):
            self.call(self.socket.get, zmq.EVENTS)

    @action(weight=0.5)
    def close(self):
        self.socket.close()

    @action(weight=0.1)  # half a schedule's time
    def fork(self):
        self.in_forked_child(self._check_child)

    # What must be true.

    def check_rest(self):
        super().check_rest()
        waiting = [*self.receiving, *self.sending, *self.polling]
        if not self.is_open:
            check(not waiting, f"{waiting} wait for a socket that is gone")
            return
        if self.has_in():
            check(not self.receiving, "a greenlet waits, and there is a message")
        for mask in self.polling.values():
            check(not mask & self._ready(), "a greenlet polls, and the socket is ready")
        check(bool(loop.ios) == bool(waiting), "the watcher runs without need, or not at all")
        if all(each.dead for each in self.greenlets):
            check(not loop.callbacks, f"{loop.callbacks} are left")
            check(not loop.timers, f"{loop.timers} are left")

    def has_in(self):
        """Whether there is a message, whatever the socket has noticed."""
        return self.libzmq.has_message() or (self.kind == "XPUB" and self.libzmq.pattern.has_in())

    def _ready(self):
        """Give what the socket is ready for, whatever it has noticed."""
        out = self.libzmq.pattern.will_have_out()
        return (zmq.POLLIN if self.has_in() else 0) | (zmq.POLLOUT if out else 0)

    def finish(self):
        """Let everything out that is there, close, and count."""
        self.settle()
        if self.is_open and self.kind not in ONE_AT_A_TIME:
            self._drain()
        self.settle()
        self.socket.close()
        self.settle()
        super().finish()
        self.check_received()
        taken, lost = self.check_taken()
        missing = self.accepted - taken - lost
        check(not missing, f"{missing} were accepted, and not sent")
        if not self.is_slow:
            self.check_order()

    def _drain(self):
        """Receive all that peers have sent; nothing of it may be missing."""
        for greenlet in list(self.receiving):
            greenlet.kill(block=False)
        self.settle()
        if self.kind in ("PUSH", "PUB", "XPUB"):
            return
        held = None
        while held != len(self.got):
            held = len(self.got)
            self._receive(zmq.NOBLOCK)
        if self.kind == "PAIR" and sum(len(peer.histories) for peer in self.peers) > 1:
            return  # it sends a second peer away
        missing = self.sent.keys() - set(self.got) - self.unheard()
        check(not missing, f"{sorted(missing)} were sent, and not received")

    def _check_child(self):
        loop.step()
        check(not loop.ios, "an inherited watcher runs")
        try:
            self.socket.recv(zmq.NOBLOCK)
        except zmq.ZMQError as error:
            check(error.errno == zmq.ENOTSOCK, f"{error!r} in a forked child")

    # Calls.

    def _receive(self, flags, limit=None):
        began = loop.time
        if not flags:
            self.receiving[getcurrent()] = began
        place = next(self.numbers)
        try:
            with given_up_after(limit):
                self.take(self.call(self.socket.recv_multipart, flags))
                self.note_turn()
                if not flags and not self.is_slow:
                    check(place > self.last_place, "a greenlet received before one that waited")
                    self.last_place = place
        except zmq.Again:
            self._check_nothing_came(flags, began)
        except zmq.ZMQError:
            pass
        finally:
            self.receiving.pop(getcurrent(), None)

    def _check_nothing_came(self, flags, began):
        if flags:
            return
        check(self.timeout is not None, "EAGAIN from a call that waits")
        deadline = began + self.timeout
        check(loop.time >= deadline, f"EAGAIN at {loop.time}, before {deadline}")
        others = self.receiving.keys() - {getcurrent()}
        if self.calm_since < deadline and self.is_open and not others:
            check(not self.has_in(), "EAGAIN, and there was a message before the deadline")

    def _poll(self, timeout, mask, limit):
        began = loop.time
        if timeout != 0:
            self.polling[getcurrent()] = mask
        try:
            with given_up_after(limit):
                events = self.call(self.socket.poll, timeout, mask)
                self._check_events(timeout, mask, events, began)
        except zmq.ZMQError:
            pass
        finally:
            self.polling.pop(getcurrent(), None)

    def _check_events(self, timeout, mask, events, began):
        ready = self._ready() & mask
        if events:
            # Who has used up the turn lets others go first.
            is_true = not events & ~ready or self.is_slow or self.has_accident
            check(is_true, f"a poll for {mask} tells {events}, and {ready} is true")
            return
        check(timeout is not None, "a poll without timeout has given up")
        deadline = began + timeout / 1000
        check(loop.time >= deadline, f"a poll gave up at {loop.time}, before {deadline}")
        if self.calm_since < deadline and self.is_open:
            check(not ready, f"a poll for {mask} gave up, and {ready} was true before")
