"""A green socket, its peers, and the greenlets that use it."""

import contextlib
from typing import Any, ClassVar

import zmq

from gzmqsource import green
from simulation.peers import KINDS, ONE_AT_A_TIME, PEERS, PeeredWorld
from simulation.world import action, check, loop


class GreenWorld(PeeredWorld):
    """All that can be done with one socket of the drop-in."""

    options: ClassVar = {
        "kind": list(KINDS),
        "marks": [1, 2],
        "mandatory": [True, True, False],
        "timeout": [-1, -1, 1000],
        "delay": range(3),
    }

    def __init__(self, kind, marks, mandatory, timeout, delay):
        super().__init__(kind, marks, mandatory, delay)
        self.socket: green.Socket[bytes] = green.Socket(self.context, getattr(zmq, kind))
        self.prepare(self.socket)
        self.socket.set(zmq.RCVTIMEO, timeout)
        self.socket.set(zmq.SNDTIMEO, timeout)
        self.socket.bind("inproc://middle")
        self.is_timed = timeout >= 0
        self.receiving, self.polling = [], []
        #: The greenlets that send, with their messages.
        self.sending = {}

    @property
    def is_open(self):
        return not self.socket._closed and not self.is_ended

    def connect(self, address):
        self.socket.connect(address)

    # The socket.

    @action(weight=5)
    def recv(self):
        self.receiving.append(self.spawn(self._receive, 0))

    @action(weight=2)
    def recv_nowait(self):
        self._receive(zmq.NOBLOCK)

    @action(weight=5, frames=range(1, 4), peer=PEERS)
    def send(self, frames, peer):
        number, message = self.new_message(frames, peer)
        self.sending[self.spawn(self._send, number, message, 0)] = message

    @action(weight=4, frames=range(1, 4), peer=PEERS)
    def send_nowait(self, frames, peer):
        number, message = self.new_message(frames, peer)
        self._send(number, message, zmq.NOBLOCK)

    @action(weight=2, frames=range(2, 4), peer=PEERS)
    def send_in_parts(self, frames, peer):
        """Send a message frame by frame, without waiting; nobody else may be sending."""
        if not any(not each.dead for each in self.sending):
            number, message = self.new_message(frames, peer)
            self._send(number, message, zmq.NOBLOCK, self._send_parts)

    @action(weight=2, timeout=(None, 1000), mask=(zmq.POLLIN, zmq.POLLIN | zmq.POLLOUT))
    def poll(self, timeout, mask):
        self.polling.append((self.spawn(self._poll, timeout, mask), mask))

    @action(weight=2)
    def look(self):
        """Read ``ZMQ_EVENTS``, which eats the edge."""
        with contextlib.suppress(zmq.ZMQError):
            self._call(self.socket.get, zmq.EVENTS)

    @action()
    def close(self):
        self.socket.close()

    @action()
    def fork(self):
        self.in_forked_child(self._check_child)

    # What must be true.

    def check_rest(self):
        super().check_rest()
        self.receiving = [each for each in self.receiving if not each.dead]
        self.polling = [(each, mask) for each, mask in self.polling if not each.dead]
        self.sending = {each: message for each, message in self.sending.items() if not each.dead}
        waiting = [*self.receiving, *self.sending, *(each for each, _ in self.polling)]
        if not self.is_open:
            check(not waiting, f"{waiting} wait for a socket that is gone")
            return
        if self.libzmq.has_message():
            check(not self.receiving, "a greenlet waits, and there is a message")
            check(not self.polling, "a greenlet polls, and there is a message")
        for message in self.sending.values():
            could_go = self.libzmq.pattern.would_take(message)
            # A REQ waits, in pyzmq too, as one that has asked; only its state tells.
            check(not could_go, f"{message} waits, and could be sent")
        check(bool(loop.ios) == bool(waiting), "the watcher runs without need, or not at all")

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

    def _drain(self):
        """Receive all that peers have sent; nothing of it may be missing."""
        for greenlet in self.receiving:
            greenlet.kill(block=False)
        self.settle()
        if self.kind == "PUSH":
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

    def _call(self, function, *arguments):
        """Make a call that may fail only as the state of the socket allows."""
        try:
            return function(*arguments)
        except zmq.ZMQError as error:
            allowed: dict[int | None, Any] = {
                zmq.ENOTSOCK: self.socket._closed,
                zmq.ETERM: self.is_ended,
            }
            allowed[zmq.EFSM] = self.kind in ONE_AT_A_TIME
            allowed[zmq.EHOSTUNREACH] = self.kind == "ROUTER"
            allowed[zmq.ENOTSUP] = self.kind in ("PUSH", "PULL") or self.socket._closed
            check(
                error.errno == zmq.EAGAIN or allowed.get(error.errno, False),
                f"{error!r} from {function.__name__}",
            )
            raise

    def _receive(self, flags):
        try:
            message = self._call(self.socket.recv_multipart, flags)
        except zmq.Again:
            check(flags or self.is_timed, "EAGAIN from a call that waits")
        except zmq.ZMQError:
            pass
        else:
            self.take(message)

    def _send(self, number, message, flags, send=None):
        try:
            self._call(send or self.socket.send_multipart, message, flags)
        except zmq.Again:
            check(flags or self.is_timed, "EAGAIN from a call that waits")
            self.refused.add(number)
        except zmq.ZMQError:
            self.refused.add(number)
        else:
            self.accepted.add(number)

    def _send_parts(self, message, flags):
        for part in message[:-1]:
            self.socket.send(part, flags | zmq.SNDMORE)
        self.socket.send(message[-1], flags)

    def _poll(self, timeout, mask):
        try:
            events = self._call(self.socket.poll, timeout, mask)
        except zmq.ZMQError:
            return
        check(events or timeout is not None, "a poll without timeout has given up")
