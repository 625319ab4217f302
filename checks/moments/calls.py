"""The calls: how each is made with message after message, and what its peer saw."""

from __future__ import annotations

import contextlib
from typing import Any

import gevent
import gevent.queue
import zmq
from gevent.pool import Pool
from helpers import endpoint_of, unique_inproc

from gzmqsource import Source, green
from gzmqsource.workers import Requester, Responder

FRAMES = 3


def message_of(number):
    return [b"%d" % number] * FRAMES


def number_of(message):
    assert len(message) == FRAMES, f"torn: {message}"
    assert len({bytes(frame) for frame in message}) == 1, f"torn: {message}"
    return int(bytes(message[0]))


class Sending:
    """A call that sends; *raw* is the socket at the other end."""

    kind, peer_kind = zmq.PUSH, zmq.PULL
    receives = False
    excluded: frozenset[str] = frozenset()
    #: A number for which the call waits, after `fill`.
    waiting = 1

    def __init__(self, context, most=3):
        self.context = context
        self.most = most
        self.peer = context.socket(self.peer_kind)
        self.peer.linger = 0
        self.peer.rcvhwm = most
        # Over inproc, where the high-water mark is all the room there is.
        self.endpoint = unique_inproc()
        self.peer.bind(self.endpoint)
        self.open()

    def open(self):
        raise NotImplementedError

    def make_nowait(self, number):
        raise NotImplementedError

    def destroy(self):
        self.context.destroy(linger=0)

    def fill(self):
        """Send until the call would wait."""
        number = 1_000_000
        with contextlib.suppress(zmq.Again, gevent.queue.Full):
            while True:
                self.make_nowait(number)
                number += 1

    def until_waiting(self):
        """Wait until a greenlet that makes the call waits in it."""
        gevent.sleep(0.02)

    def seen(self):
        """Return the numbers that have arrived since."""
        numbers, quiet = [], 0
        while quiet < 20:
            try:
                numbers.append(number_of(self.peer.recv_multipart(zmq.NOBLOCK)))
                quiet = 0
            except zmq.Again:
                quiet += 1
                gevent.sleep(0.002)
        return [number for number in numbers if number < 1_000_000]


class SourceSend(Sending):
    name = "``Source.send``"

    def open(self):
        self.source = Source.open(
            self.kind,
            connect=self.endpoint,
            context=self.context,
            outbox=self.most or 1000,
            sndhwm=self.most,
            linger=0,
        )

    def make(self, number):
        self.source.send(message_of(number))

    def make_nowait(self, number):
        self.source.send_nowait(message_of(number))

    def close(self):
        self.source.close()


class Green(Sending):
    """Calls of a green socket, with a context of its own."""

    def __init__(self, context, *arguments):
        self.green = green.Context()
        super().__init__(zmq.Context(shadow=self.green), *arguments)

    def destroy(self):
        self.green.destroy(linger=0)


class GreenSend(Green):
    name = "``green.Socket.send_multipart``"

    def open(self):
        self.socket = self.green.socket(self.kind)
        self.socket.sndhwm, self.socket.linger = self.most, 0
        self.socket.connect(self.endpoint)

    def make(self, number):
        self.socket.send_multipart(message_of(number))

    def make_nowait(self, number):
        self.socket.send_multipart(message_of(number), zmq.NOBLOCK)

    def close(self):
        self.socket.close()


class GreenFrames(GreenSend):
    name = "``green.Socket.send``, frame by frame"
    #: Between two calls it is the program that has begun a message.
    excluded = frozenset({"a signal's handler raises", "it sends, or receives", "no memory"})

    def make(self, number):
        *first, last = message_of(number)
        for frame in first:
            self.socket.send(frame, zmq.SNDMORE)
        self.socket.send(last)


class GreenFramesLent(GreenSend):
    name = "``green.Socket.send_multipart``, ``copy=False``, of ``zmq.Frame`` and ``memoryview``"

    def make(self, number):
        first, second, third = message_of(number)
        parts: list[Any] = [zmq.Frame(first), memoryview(second), bytearray(third)]
        self.socket.send_multipart(parts, copy=False)


class Receiving(Sending):
    """A call that receives what a plain socket sends."""

    kind, peer_kind = zmq.PULL, zmq.PUSH
    receives = True

    def __init__(self, context, most=0):
        self.got: list[int] = []
        super().__init__(context, most)

    def feed(self, numbers):
        for number in numbers:
            self.peer.send_multipart(message_of(number))

    def make(self, number):
        self.note_taken(self.take())

    def take(self):
        """Make the call; return what it returns."""

    def note_taken(self, message):
        self.got.append(number_of(message))

    def seen(self):
        before = -1
        while before != len(self.got):
            before = len(self.got)
            self.drain()
            gevent.sleep(0.03)
        return self.got

    def drain(self):
        """Receive what is there."""


class SourceRecv(Receiving):
    name = "``Source.recv``"

    def open(self):
        self.source = Source.open(self.kind, connect=self.endpoint, context=self.context)

    def take(self):
        return self.source.recv()

    def drain(self):
        with contextlib.suppress(gevent.queue.Empty):
            while True:
                self.got.append(number_of(self.source.recv(block=False)))

    def close(self):
        self.source.close()


class SourceRecvMany(SourceRecv):
    name = "``Source.recv_many``"

    def take(self):
        return self.source.recv_many(5)

    def note_taken(self, messages):
        self.got.extend(map(number_of, messages))


class GreenRecv(Green, Receiving):
    name = "``green.Socket.recv_multipart``"

    def open(self):
        self.socket = self.green.socket(self.kind)
        self.socket.connect(self.endpoint)

    def take(self):
        return self.socket.recv_multipart()

    def drain(self):
        with contextlib.suppress(zmq.Again):
            while True:
                self.got.append(number_of(self.socket.recv_multipart(zmq.NOBLOCK)))

    def close(self):
        self.socket.close()


class GreenPoll(GreenRecv):
    name = "``green.Socket.poll``, then ``recv_multipart``"

    def take(self):
        self.socket.poll()
        return super().take()


class Handled(Receiving):
    """The handler of a source is the call; *make* waits for it."""

    spawn: Any = None
    name = "handler, ``spawn=None``"
    #: Without memory it is gevent's loop that fails, which calls all handlers.
    excluded = frozenset({"no memory"})

    def open(self):
        self.reported: list[int] = []
        self.source = Source.open(
            self.kind,
            self.handle,
            connect=self.endpoint,
            context=self.context,
            spawn=self.spawn,
            on_error=self.note,
        )
        self.source.start()

    def note(self, error, message):
        if message is not None:
            self.reported.append(number_of(message))

    def handle(self, message):
        self.got.append(number_of(message))
        self.worker = gevent.getcurrent()

    def close(self):
        self.source.close()


class HandledByTwo(Handled):
    spawn = 2
    name = "handler, ``spawn=2``"


class HandledInPool(Handled):
    name = "handler, ``spawn=Pool(2)``"
    # One that raises as a greenlet begins ends it before any code of this package runs.
    excluded = Handled.excluded | {"a signal's handler raises"}

    def open(self):
        self.spawn = Pool(2)
        super().open()


class Request(Sending):
    """A requester asks a responder."""

    name = "``Requester.request``"
    waiting = 1_000_001
    #: As for handlers. And an exception in a responder's handler is what the requester gets.
    excluded = frozenset({"no memory", "a signal's handler raises"})

    def open(self):
        self.peer.close()
        self.asked: list[int] = []
        self.responder = Responder.open(self.answer, bind="tcp://127.0.0.1:*", context=self.context)
        self.responder.start()
        endpoint = endpoint_of(self.responder.source)
        self.requester = Requester.open(endpoint, context=self.context)

    def answer(self, payload):
        number = number_of(payload)
        if number >= 1_000_000:
            gevent.sleep(30)
        self.asked.append(number)
        return payload

    def make(self, number):
        assert number_of(self.requester.request(message_of(number), timeout=20)) == number

    def fill(self):
        """See `waiting`."""

    def make_nowait(self, number):
        self.requester.submit(message_of(number), timeout=20)

    def seen(self):
        gevent.sleep(0.05)
        return [number for number in self.asked if number < 1_000_000]

    def close(self):
        self.requester.close()


CALLS: tuple[Any, ...] = (
    SourceSend,
    SourceRecv,
    SourceRecvMany,
    Handled,
    HandledByTwo,
    HandledInPool,
    GreenSend,
    GreenFrames,
    GreenFramesLent,
    GreenRecv,
    GreenPoll,
    Request,
)
