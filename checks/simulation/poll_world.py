"""Several green sockets and plain descriptors, and greenlets that poll them together."""

import contextlib
from typing import Any, ClassVar

import zmq
from greenlet import getcurrent

from gzmqsource import green
from simulation.libzmq import Socket
from simulation.pipes import Descriptor
from simulation.senders import LIMITS, begin_turns
from simulation.world import World, action, check, given_up_after, loop

_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)

_KINDS = {"PULL": zmq.PUSH, "DEALER": zmq.DEALER, "PAIR": zmq.PAIR, "PUSH": zmq.PULL}

_MASKS = (_IN, _IN, _OUT, _IN | _OUT)

_WHICH = range(10)

_POLLERS = range(2)


class Polled:
    """Something that is polled: a green socket with its peer, or a plain descriptor."""

    def __init__(self, world, kind, index):
        self.world = world
        self.address = f"inproc://polled-{index}"
        self.peer: Any = None
        self.socket: Any = None
        self.plain: Any = None
        if kind == "plain":
            self.plain = Descriptor()
            return
        self.peer_kind = _KINDS[kind]
        self.socket = green.Socket(world.context, getattr(zmq, kind))
        self.socket.set(zmq.SNDHWM, 1)
        self.socket.set(zmq.RCVHWM, 1)
        self.socket.bind(self.address)
        self.libzmq = self.socket.simulated

    @property
    def key(self):
        """What a poller is given."""
        return self.plain.descriptor if self.socket is None else self.socket

    @property
    def is_closed(self):
        return self.socket is not None and self.socket._closed

    def ready(self):
        """Give what it is ready for, whatever has been noticed."""
        if self.plain is not None:
            return self.plain.events()
        if self.is_closed or self.world.is_ended:
            return 0
        pattern = self.libzmq.pattern
        events = (_IN if self.libzmq.has_message() else 0) | (
            _OUT if pattern.will_have_out() else 0
        )
        return events

    def peer_does(self, what):
        """Let the peer connect, send, receive or die; or the descriptor change."""
        if self.plain is not None:
            if what in ("sends", "receives"):
                self.plain.is_readable = what == "sends"
            else:
                self.plain.is_writable = what == "connects"
            return
        if self.world.is_ended:
            return
        is_alive = self.peer is not None and not self.peer.is_closed
        with contextlib.suppress(zmq.ZMQError):
            if what == "connects" and not is_alive and not self.is_closed:
                self.peer = Socket(self.world.simulated, self.peer_kind)
                self.peer.set(zmq.SNDHWM, 1)
                self.peer.set(zmq.RCVHWM, 1)
                self.peer.connect(self.address)
            elif is_alive and what == "sends":
                self.peer.get(zmq.EVENTS)
                self.peer.send(b"x", 0)
            elif is_alive and what == "receives":
                self.peer.recv(0)
            elif is_alive and what == "dies":
                self.peer.close()


class PollWorld(World):
    """All that can be done with two Pollers, and several sockets and descriptors.

    Parameters
    ----------
    kinds : tuple of str
        The types of the sockets; with many of them, an epoll set watches.
    """

    options: ClassVar = {
        "kinds": [
            ("PULL", "DEALER"),
            ("DEALER", "PAIR", "plain"),
            ("PULL", "PUSH", "plain", "plain"),
            ("PULL", "DEALER", "PAIR", "PUSH", "PULL", "DEALER", "plain"),
            ("DEALER",) * 7,
        ],
        "delay": range(3),
        "steady": [False, True],
        "libuv": [False, True],
    }

    def __init__(self, kinds, delay, steady, libuv=False):
        super().__init__(delay)
        loop.is_libuv = libuv
        begin_turns()
        self.is_steady = steady
        self.is_ended = False
        self.polled = [Polled(self, kind, index) for index, kind in enumerate(kinds)]
        self.pollers = [green.Poller() for _ in _POLLERS]
        #: The greenlets that poll, with a function that gives what they poll for.
        self.polling: dict[Any, Any] = {}
        self.watch(self.polled[0].libzmq)

    def _polled(self, which):
        return self.polled[which % len(self.polled)]

    # Steps of a schedule.

    @action(weight=6, poller=_POLLERS, timeout=(None, None, 0, 1000), limit=LIMITS)
    def poll(self, poller, timeout, limit=None):
        poller = self.pollers[poller]
        self.spawn(self._poll, poller.poll, (timeout,), timeout, limit, lambda: poller.sockets)

    @action(weight=3, one=_WHICH, other=_WHICH, masks=range(9), timeout=(None, 1000), limit=LIMITS)
    def zmq_poll(self, one, other, masks, timeout, limit=None):
        """Poll two entries, which may be for the same socket."""
        pairs = ((one, (_IN, _OUT, _IN | _OUT)[masks % 3]), (other, (_IN, _OUT, _IN)[masks // 3]))
        entries = [(self._polled(which).key, mask) for which, mask in pairs]
        arguments = entries, -1 if timeout is None else timeout
        self.spawn(self._poll, green.zmq_poll, arguments, timeout, limit, lambda: entries)

    @action(weight=8, poller=_POLLERS, which=_WHICH, mask=_MASKS)
    def register(self, poller, which, mask):
        self.disturb()
        polled = self._polled(which)
        if not polled.is_closed:
            with contextlib.suppress(zmq.ContextTerminated):
                self.pollers[poller].register(polled.key, mask)

    @action(weight=2, poller=_POLLERS, which=_WHICH, mask=_MASKS)
    def modify(self, poller, which, mask):
        self.disturb()
        polled = self._polled(which)
        if not polled.is_closed:
            with contextlib.suppress(zmq.ContextTerminated):
                self.pollers[poller].modify(polled.key, mask)

    @action(weight=2, poller=_POLLERS, which=_WHICH)
    def unregister(self, poller, which):
        self.disturb()
        with contextlib.suppress(KeyError):
            self.pollers[poller].unregister(self._polled(which).key)

    @action(weight=8, which=_WHICH, what=("connects", "sends", "receives", "sends", "dies"))
    def peer_does(self, which, what):
        self.disturb()
        self._polled(which).peer_does(what)

    @action(weight=4, calls=range(1, 9), which=_WHICH, what=("connects", "sends", "receives"))
    def ambush(self, calls, which, what):
        """Let a peer do something just before one of the next calls on the first socket."""
        self.happen_later(calls, lambda: self.peer_does(which, what))

    @action(weight=3, which=_WHICH)
    def recv(self, which):
        self._use(which, lambda socket: socket.recv(zmq.NOBLOCK))

    @action(weight=2, which=_WHICH)
    def recv_later(self, which):
        """Receive in a greenlet, which may wait."""
        self.spawn(self._use, which, lambda socket: socket.recv())

    @action(weight=2, which=_WHICH)
    def send(self, which):
        self._use(which, lambda socket: socket.send(b"x", zmq.NOBLOCK))

    @action(which=_WHICH)
    def look(self, which):
        self._use(which, lambda socket: socket.get(zmq.EVENTS))

    @action(weight=0.5, which=_WHICH)
    def close(self, which):
        self.disturb()
        polled = self._polled(which)
        if polled.socket is not None:
            polled.socket.close()

    @action(weight=0.3)
    def end_context(self):
        self.is_ended = True
        self.simulated.end()

    # What must be true.

    def check_rest(self):
        super().check_rest()
        fds = set()
        for greenlet, entries_of in self.polling.items():
            for key, mask in entries_of():
                polled = self._find(key)
                is_gone = polled.is_closed or (self.is_ended and polled.socket is not None)
                check(not is_gone, f"{greenlet} polls {polled.address}, which is gone")
                ready = polled.ready() & mask
                check(not ready, f"{greenlet} polls {polled.address} for {mask}: {ready} is true")
                fds.add(key if polled.socket is None else polled.libzmq.mailbox.descriptor)
        plain = {each.plain.descriptor for each in self.polled if each.plain is not None}
        left = {io.fd for io in loop.ios} & plain - fds
        check(not left, f"the descriptors {left} are watched, and nobody polls them")
        if all(each.dead for each in self.greenlets):
            kept = [io for io in loop.ios if io.ref]
            check(not kept, f"{kept} run, and nobody waits")
            check(not loop.callbacks, f"{loop.callbacks} are left")

    def finish(self):
        self.settle()
        for polled in self.polled:
            if polled.socket is not None:
                polled.socket.close()
        for polled in self.polled:
            for poller in self.pollers:
                with contextlib.suppress(KeyError):
                    poller.unregister(polled.key)
        for greenlet in self.greenlets:
            greenlet.kill(block=False)
        loop.step()
        for poller in self.pollers:
            poller._forget()  # as its end does, which tracebacks may put off
        super().finish()
        loop.is_libuv = False

    def abandon(self):
        super().abandon()
        loop.is_libuv = False

    def _find(self, key):
        return next(each for each in self.polled if each.key == key)

    # Calls.

    def _poll(self, poll, arguments, timeout, limit, entries_of):
        began = loop.time
        if timeout != 0:
            self.polling[getcurrent()] = entries_of
        try:
            with given_up_after(limit):
                self._check_events(poll(*arguments), entries_of(), timeout, began)
        except zmq.ZMQError as error:
            is_any_closed = any(each.is_closed for each in self.polled)
            allowed: dict[int | None, bool] = {
                zmq.ENOTSOCK: is_any_closed,
                zmq.ETERM: self.is_ended,
            }
            check(allowed.get(error.errno, False), f"{error!r} from a poll")
        finally:
            self.polling.pop(getcurrent(), None)

    def _check_events(self, events, entries, timeout, began):
        ready = [(key, self._find(key).ready() & mask) for key, mask in entries]
        if events:
            # Who has used up the turn lets others go first.
            if self.is_slow or self.has_accident:
                return
            wanted = [(key, bits) for key, bits in ready if bits]
            got = sorted(events, key=lambda each: id(each[0]))
            wanted.sort(key=lambda each: id(each[0]))
            check(got == wanted, f"a poll tells {got}, and {wanted} is true")
        elif timeout is None:
            check(not entries, f"a poll of {entries} without timeout has given up")
        elif entries:
            deadline = began + timeout / 1000
            check(loop.time >= deadline, f"a poll gave up at {loop.time}, before {deadline}")
            is_ready = any(bits for _, bits in ready)
            check(self.calm_since >= deadline or not is_ready, f"a poll gave up: {ready} is true")

    def _use(self, which, call):
        """Make a call on a socket, that may fail."""
        polled = self._polled(which)
        if polled.socket is None:
            polled.plain.is_readable = False
            return
        with contextlib.suppress(zmq.ZMQError):
            call(polled.socket)
