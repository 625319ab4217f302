"""A source, its peers, and the greenlets that use it."""

import threading
from typing import Any, ClassVar

import gevent
import zmq
from gevent import GreenletExit
from gevent.pool import Pool
from gevent.queue import Empty, Full

from gzmqsource import Source, SourceClosed, SourceForked
from gzmqsource._base.event import Event
from gzmqsource._source.core import State
from gzmqsource.errors import SendError
from simulation.peers import KINDS, ONE_AT_A_TIME, PEERS, PeeredWorld
from simulation.world import action, check, loop


class SourceWorld(PeeredWorld):
    """All that can be done with one source."""

    options: ClassVar = {
        "kind": [kind for kind in KINDS if kind not in ("PUB", "XPUB")],
        "overflow": ["block", "block", "raise", "drop_newest", "drop_oldest"],
        "outbox": [1, 2, 4],
        "marks": [1, 2],
        "handler": ["none", "none", "own", "pool", "spawned"],
        "mandatory": [True, True, False],
        "slow": [False, False, True],
        "delay": range(3),
    }

    def __init__(self, kind, overflow, outbox, marks, handler, mandatory, slow, delay):
        super().__init__(kind, marks, mandatory, delay)
        socket = self.context.socket(getattr(zmq, kind))
        self.prepare(socket)
        self.reported = set()
        self.returned = set()
        self.released = Event()
        self.released.set()
        self.handling = 0
        self.receiving, self.flushing, self.sending = [], [], []
        self.is_slow = slow
        if kind == "PUSH":
            handler = "none"
        spawn: Any = {"pool": Pool(2), "spawned": gevent.spawn}.get(handler)
        self.source = Source(
            socket,
            None if handler == "none" else self._handle,
            spawn=spawn,
            outbox=outbox,
            overflow=overflow,
            on_error=self._report,
        )
        if slow:  # turns end all the time
            self.source._core.socket.budget.max_messages = 2
        self.handler = handler
        self.source.socket.bind("inproc://middle")
        self.source.start()

    @property
    def is_open(self):
        return not self.source.closed and not self.is_ended

    def connect(self, address):
        self.source.socket.connect(address)

    # The source.

    @action(weight=4, timeout=(None, None, 1.0))
    def recv(self, timeout):
        self.receiving.append(self.spawn(self._receive, timeout))

    @action(limit=range(1, 4))
    def recv_many(self, limit):
        self.receiving.append(self.spawn(self._receive_many, limit))

    @action(weight=4, frames=range(1, 4), peer=PEERS, timeout=(None, None, 1.0))
    def send(self, frames, peer, timeout):
        self.sending.append(self.spawn(self._send, frames, peer, True, timeout))

    @action(weight=4, frames=range(1, 4), peer=PEERS)
    def send_nowait(self, frames, peer):
        self._send(frames, peer, False, None)

    @action(weight=2, peer=PEERS)
    def fill(self, peer):
        """Send to a peer until something has to wait, or is refused."""
        for _ in range(4):
            self._send(1, peer, False, None)

    @action(frames=range(1, 4), peer=PEERS)
    def send_from_thread(self, frames, peer):
        if self.source.closed:
            return
        sender = self.source.sender()
        thread = threading.Thread(target=self._send, args=(frames, peer, False, None, sender))
        thread.start()
        thread.join()

    @action(timeout=(None, 1.0))
    def flush(self, timeout):
        self.flushing.append(self.spawn(self._flush, timeout))

    @action()
    def pause(self):
        self._call(self.source.pause)

    @action()
    def resume(self):
        self._call(self.source.resume)

    @action(weight=2)
    def look(self):
        """Read ``ZMQ_EVENTS``, which eats the edge."""
        self._call(lambda: self.source.socket.get(zmq.EVENTS))

    @action()
    def hold(self):
        """Let handlers wait."""
        self.released.clear()

    @action(weight=2)
    def release(self):
        self.released.set()

    @action(timeout=(0.0, 0.5, 5.0))
    def stop(self, timeout):
        self.spawn(self._stop, timeout)

    @action()
    def close(self):
        self._call(self.source.close)

    @action(weight=0.1)
    def fork(self):
        self.in_forked_child(self._check_child)

    # What must be true.

    def check_rest(self):
        super().check_rest()
        source, core = self.source, self.source._core
        self.receiving = [each for each in self.receiving if not each.dead]
        self.sending = [each for each in self.sending if not each.dead]
        self.flushing = [each for each in self.flushing if not each.dead]
        if source.closed:
            waiting = self.receiving + self.sending + self.flushing
            check(not waiting, f"{waiting} wait for a closed source")
            return
        if self.is_ended:
            return
        if core.resumed.is_set() and source.started and self.libzmq.has_message():
            check(not self.receiving, "a greenlet waits, and there is a message")
            check(self._is_busy(), "the intake waits, and there is a message")
        for lane in core.outbox.lanes.values():
            frames = lane.queue[0]
            frames = [frames] if isinstance(frames, bytes) else frames
            check(not self.libzmq.pattern.would_take(frames), f"{frames} waits, and could be sent")
            is_full = len(lane.queue) >= core.outbox.maxsize
            check(not lane.waiting or is_full, "a putter waits, and there is room")
        check(core.outbox.lanes or not self.flushing, "a flush waits for an empty outbox")
        queued = sum(len(lane.waiting) for lane in core.outbox.lanes.values())
        check(len(self.sending) <= queued, "a sender waits that is in no lane")
        wanted = bool(core.socket.readiness.readers or core.socket.readiness.writers)
        check(bool(loop.ios) == wanted, "the watcher runs without need, or not at all")

    def finish(self):
        """Let everything out that is there, close, and count."""
        self.released.set()
        self.settle()
        if not self.source.closed and not self.is_ended and self.kind not in ONE_AT_A_TIME:
            self._drain()
        self.settle()
        self._call(self.source.close)
        self.settle()
        super().finish()
        self.check_received()
        self._check_sent()

    def _is_busy(self):
        """Whether the intake has a reason not to read."""
        if self.handler == "none":
            return True
        return self.handling > 0 and not self.released.is_set()

    def _drain(self):
        """Receive all that peers have sent; nothing of it may be missing."""
        source = self.source
        if source._core.state.value != "started":
            return
        for greenlet in self.receiving:
            greenlet.kill(block=False)
        source.resume()
        self.settle()
        if self.handler == "none" and self.kind != "PUSH":
            try:
                while True:
                    self.take(source.recv(block=False))
                    loop.step()
            except Empty:
                pass
        if self.handler == "pool" or not source.started:
            return  # a handler may have been killed
        if self.kind == "PAIR" and sum(len(peer.histories) for peer in self.peers) > 1:
            return  # it sends a second peer away
        missing = self.sent.keys() - set(self.got) - self.unheard()
        check(not missing, f"{sorted(missing)} were sent, and not received")

    def _check_sent(self):
        taken, lost = self.check_taken()
        open_ended = self.accepted - taken - lost - self.reported - self.returned
        dropped = self.source.stats().dropped
        counted = sum(dropped.get(reason, 0) for reason in ("newest", "oldest", "unsent"))
        check(
            len(open_ended) <= counted,
            f"{open_ended} were accepted, and are neither sent nor counted: {dropped}",
        )
        if not self.is_slow:
            self._check_order()

    def _check_order(self):
        lanes: dict[bytes | None, list[int]] = {}
        for message in self.libzmq.taken:
            lane = message[0] if self.kind == "ROUTER" else None
            lanes.setdefault(lane, []).append(self.number_in(message))
        for order in lanes.values():
            check(order == sorted(order), f"sent in the order {order}")

    def _check_child(self):
        source = self.source
        was_closed = source._core.state is State.CLOSED
        loop.step()
        check(source.closed, "an inherited source is open")
        check(not loop.ios, "an inherited watcher runs")
        for call in (lambda: source.send_nowait([b"peer 0", b"x"]), lambda: source.recv(False)):
            try:
                call()
            except SourceForked:
                check(not was_closed, "a source was closed before the fork")
            except SourceClosed:
                check(was_closed, "a source does not know that it was forked")
            except TypeError:
                pass  # it has a handler

    # Calls.

    def _call(self, function):
        try:
            function()
        except SourceClosed:
            check(self.source.closed, "SourceClosed of a source that is open")
        except zmq.ContextTerminated:
            check(self.is_ended, "ETERM of a context that has not ended")

    def _receive(self, timeout):
        try:
            self.take(self.source.recv(timeout=timeout))
        except Empty:
            check(timeout is not None, "Empty without a timeout")
        except SourceClosed:
            pass
        except TypeError:
            check(self.handler != "none", "a source without a handler cannot be pulled")
        except zmq.ZMQError as error:
            check(error.errno == zmq.ENOTSUP and self.kind == "PUSH", f"{error!r} from recv")

    def _receive_many(self, limit):
        try:
            for message in self.source.recv_many(limit):
                self.take(message)
        except (SourceClosed, TypeError):
            pass
        except zmq.ZMQError as error:
            check(error.errno == zmq.ENOTSUP and self.kind == "PUSH", f"{error!r} from recv_many")

    def _send(self, frames, peer, block, timeout, sender=None):
        number, message = self.new_message(frames, peer)
        try:
            (sender or self.source).send(message, block=block, timeout=timeout)
        except (Full, SendError, SourceClosed):
            self.refused.add(number)
        else:
            self.accepted.add(number)

    def _flush(self, timeout):
        try:
            flushed = self.source.flush(timeout)
        except SourceClosed:
            return
        check(flushed or timeout is not None, "a flush without timeout has given up")

    def _stop(self, timeout):
        for message in self.source.stop(timeout):
            self.returned.add(self.number_in(message))

    def _handle(self, message):
        self.take(message)
        self.handling += 1
        try:
            self.released.wait()
        finally:
            self.handling -= 1

    def _report(self, error, message):
        if isinstance(error, SendError):
            self.reported.add(self.number_in(message))
        elif not isinstance(error, (zmq.ZMQError, GreenletExit)):
            self.failures.append(repr(error))
