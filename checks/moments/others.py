"""More calls: of handles, of ends, and of what runs beside a socket."""

from __future__ import annotations

import contextlib
from typing import Any

import gevent
import zmq
from gevent.event import Event
from gevent.hub import get_hub
from gevent.queue import Empty
from helpers import endpoint_of, unique_inproc

from gzmqsource import Source
from gzmqsource._base.threads import NativeThread
from gzmqsource.auth import Authenticator
from gzmqsource.monitor import Monitor
from gzmqsource.proxy import Proxy
from gzmqsource.testing import wait_until
from moments.calls import FRAMES, GreenSend, Receiving, Sending, SourceSend, message_of

#: Seconds that a call waits which a moment has to end before.
LONG = 5


class SenderSend(SourceSend):
    name = "``Sender.send``"

    def open(self):
        super().open()
        self.sender = self.source.sender()

    def make(self, number):
        self.sender.send(message_of(number))

    def make_nowait(self, number):
        self.sender.send_nowait(message_of(number))


class SenderSendElsewhere(SenderSend):
    """The source is in the hub of another thread."""

    name = "``Sender.send``, to the hub of another thread"
    #: Allocations fail in all threads, and so in the loop of that hub.
    excluded = frozenset({"no memory"})

    def open(self):
        thread = NativeThread(self._own)
        thread.start()
        wait_until(lambda: hasattr(self, "sender"))

    def _own(self):
        super().open()
        self.hub = get_hub()
        while not self.source.closed:
            gevent.sleep(0.01)

    def fill(self):
        for _ in range(20):  # the other thread takes what was sent, and there is room again
            super().fill()
            gevent.sleep(0.002)

    def seen(self):
        # The other thread may take longer to send them than the peer is quiet.
        numbers: list[int] = []
        is_sending = True
        while is_sending:
            outbox = self.source._core.outbox
            is_sending = bool(outbox.arrivals or outbox.has_queued) and not self.source.closed
            numbers += super().seen()
        return numbers

    def close(self):
        self.hub.loop.run_callback_threadsafe(self.source.close)


class Flush(SourceSend):
    name = "``Source.flush``"
    waiting = 1_000_001

    def make(self, number):
        if number != self.waiting:  # when the outbox is full
            super().make(number)
        self.source.flush()


class Stop(SourceSend):
    """Each source sends, and is stopped."""

    name = "``Source.stop``"
    waiting = 1_000_001
    #: A source that stops sends no more.
    excluded = frozenset({"it sends, or receives"})

    def make(self, number):
        self.open()
        # Over what there is room for, one has to be waited for.
        for _ in range(20 if number == self.waiting else 1):
            self.make_nowait(number)
        self.source.stop(4 * LONG)
        assert self.source.closed

    def open(self):
        self.source = Source.open(
            self.kind, connect=self.endpoint, context=self.context, sndhwm=self.most
        )

    def fill(self):
        """See `make`."""

    def seen(self):
        numbers = super().seen()
        # One whose stop was ended can be stopped again, and loses nothing.
        assert self.source.stop(LONG) == []
        return numbers


class TrackerWait(GreenSend):
    name = "``green.MessageTracker.wait``"
    waiting = 1_000_001
    #: The peer has the message, which is lent to it, also when its sender is closed.
    excluded = frozenset({"close"})

    def open(self):
        super().open()
        self.arrived: list[int] = []
        self.looks = 0
        self.is_reading = True
        gevent.spawn(self._read)

    def _read(self):
        """Read at the other end, for a message is done when it was read."""
        while not self.peer.closed:
            if self.is_reading:
                self.arrived += super().seen()
                self.looks += 1
            gevent.sleep(0.001)

    def make(self, number):
        # So large that it is not copied; blanks are no part of a number.
        frames = [b"%-70000d" % number] * FRAMES
        tracker = self.socket.send_multipart(frames, copy=False, track=True)
        assert tracker is not None
        tracker.wait()

    def fill(self):
        self.is_reading = False

    def seen(self):
        self.is_reading = True
        whole = self.looks + 2  # one has begun
        wait_until(lambda: self.looks >= whole)
        numbers, self.arrived = self.arrived, []
        return numbers


class Proxied(Sending):
    """A proxy passes messages on; it waits while the socket for copies is full."""

    waiting = 1_000_001

    def open(self):
        self.copies = self.context.socket(zmq.PULL)
        self.copies.rcvhwm = 1
        self.copies_at = unique_inproc()
        self.copies.bind(self.copies_at)
        self.is_full = False
        gevent.spawn(self._make_room)
        self.start()

    def start(self):
        front, back, capture, self.feeder = sockets = [
            self.context.socket(kind) for kind in (zmq.PULL, zmq.PUSH, zmq.PUSH, zmq.PUSH)
        ]
        for socket in sockets:
            socket.linger = 0
        capture.sndhwm = 1
        front_at = unique_inproc()
        front.bind(front_at)
        back.connect(self.endpoint)
        capture.connect(self.copies_at)
        self.feeder.connect(front_at)
        self.proxy = Proxy(front, back, capture)
        self.proxy.start()

    def make_nowait(self, number):
        self.feeder.send_multipart(message_of(number), zmq.NOBLOCK)

    def fill(self):
        self.is_full = True
        for number in range(1_000_000, 1_000_010):
            self.make_nowait(number)
        gevent.sleep(0.02)

    def _make_room(self):
        while not self.copies.closed:
            with contextlib.suppress(zmq.Again):
                while not self.is_full:
                    self.copies.recv_multipart(zmq.NOBLOCK)
            gevent.sleep(0.001)

    def seen(self):
        self.is_full = False
        gevent.sleep(0.05)
        return super().seen()

    def close(self):
        self.is_full = False
        self.proxy.stop(LONG)


class ProxyPause(Proxied):
    name = "``Proxy.pause`` and ``resume``"
    #: A call that waits needs memory for the switch: greenlet ends the process without any. And
    #: what a signal raises between two commands leaves the proxy between two states.
    excluded = frozenset({"no memory", "a signal's handler raises"})

    def make(self, number):
        self.proxy.pause()
        self.make_nowait(number)
        self.proxy.resume()


class ProxyStop(Proxied):
    name = "``Proxy.start`` and ``stop``"
    #: As above; and one that stops passes on no more.
    excluded = ProxyPause.excluded | {"it sends, or receives"}

    def make(self, number):
        if number != self.waiting:
            if self.proxy.running:
                assert self.proxy.stop(LONG)
            self.start()
            self.make_nowait(number)
        assert self.proxy.stop(4 * LONG)


class AuthenticatorStop(Sending):
    name = "``Authenticator.start`` and ``stop``, with a request open"
    waiting = 1_000_001
    #: What a signal raises may strike the rule, and the peer is put off. And in a hub that was
    #: destroyed it has its place in the context, which no other can take.
    excluded = frozenset(
        {"a signal's handler raises", "it sends, or receives", "no memory", "hub destroyed"}
    )

    def open(self):
        self.peer.plain_server = self.peer.zap_enforce_domain = 1
        self.peer.zap_domain = b"site"
        self.peer.bind("tcp://127.0.0.1:*")
        self.asked = Event()
        self.authenticator = Authenticator(self.context)

    def rule(self, domain, user, password):
        self.asked.set()
        if user == str(self.waiting):
            gevent.sleep(10 * LONG)
        return True

    def make(self, number):
        self.authenticator.stop(0)  # one that was ended
        self.authenticator = Authenticator(self.context)
        self.authenticator.configure_plain(passwords=self.rule)
        self.authenticator.start()
        self.asked.clear()
        client = self.context.socket(zmq.PUSH)
        client.plain_username, client.plain_password = str(number).encode(), b"secret"
        client.connect(endpoint_of(self.peer))
        client.send_multipart(message_of(number))
        wait_until(self.asked.is_set)
        self.authenticator.stop(LONG)

    make_nowait = make

    def fill(self):
        """See `rule`."""

    def until_waiting(self):
        wait_until(self.asked.is_set)
        super().until_waiting()

    def close(self):
        self.authenticator.stop(0)


class MonitorWait(Receiving):
    name = "``Monitor.wait_for``"
    #: A native thread has to read what comes, in its own time: the call may wait.
    excluded = frozenset({"no memory"})

    def open(self):
        self.watched = self.context.socket(zmq.PUSH)
        self.monitor = Monitor(self.watched)
        self.numbers: dict[str, int] = {}

    def feed(self, numbers):
        for number in numbers:
            self.watched.bind("tcp://127.0.0.1:*")
            self.numbers[endpoint_of(self.watched)] = number

    def take(self):
        return self.monitor.wait_for("listening")

    def note_taken(self, event):
        self.got.append(self.numbers[event.endpoint])

    def drain(self):
        with contextlib.suppress(Empty):
            while True:
                event = self.monitor.recv(timeout=0.05)
                if event.name == "listening":
                    self.note_taken(event)

    def close(self):
        self.monitor.close()


CALLS: tuple[Any, ...] = (
    SenderSend,
    SenderSendElsewhere,
    Flush,
    Stop,
    TrackerWait,
    ProxyPause,
    ProxyStop,
    AuthenticatorStop,
    MonitorWait,
)
