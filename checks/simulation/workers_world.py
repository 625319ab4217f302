"""A requester and a responder, and the greenlets that ask."""

import contextlib
import itertools
from typing import ClassVar

import gevent
import zmq

from gzmqsource import Source, SourceClosed
from gzmqsource._base.event import Event
from gzmqsource.errors import PeerLost, RemoteError, RequestTimeout
from gzmqsource.workers import Requester, Responder
from simulation.world import World, action, check, loop


class WorkersWorld(World):
    """All that can be done with requests: they are answered, time out, are given up."""

    options: ClassVar = {
        "spawn": [1, 2, None],
        "outbox": [1, 3],
        "marks": [1, 2],
        "delay": range(3),
    }

    def __init__(self, spawn, outbox, marks, delay):
        super().__init__(delay)
        self.asking = {}
        self.asked = itertools.count()
        self.released = Event()
        self.released.set()
        self.is_cut = False
        self.answers_source = self._source(zmq.ROUTER, outbox, marks)
        # As `Responder.open` does: without it libzmq drops replies for which there is no room.
        self.answers_source.socket.set(zmq.ROUTER_MANDATORY, 1)
        self.responder = Responder(self.answers_source, self._answer, spawn)
        self.answers_source.socket.bind("inproc://workers")
        self.requester = Requester.open(
            "inproc://workers", context=self.context, on_error=self._report
        )
        self.responder.start()
        self.watch(self._asks()._core.raw.simulated)

    # Steps of a schedule.

    @action(weight=8, timeout=(None, None, 0.5), retries=range(3), raises=(False, False, True))
    def ask(self, timeout, retries, raises):
        number = next(self.asked)
        greenlet = self.spawn(self._ask, number, timeout, retries, raises)
        self.asking[greenlet] = timeout

    @action()
    def hold(self):
        """Let handlers wait."""
        self.released.clear()

    @action(weight=2)
    def release(self):
        self.released.set()

    @action()
    def cut(self):
        """Cut the connection, which is made anew."""
        asks = self._asks()
        if not asks.closed and not self.answers_source.closed:
            self.is_cut = True
            with contextlib.suppress(zmq.ZMQError):  # it was cut before, and is not yet made anew
                asks.socket.disconnect("inproc://workers")

    @action(which=range(2))
    def look(self, which):
        """Read ``ZMQ_EVENTS``, which eats the edge."""
        source = (self._asks(), self.answers_source)[which]
        if not source.closed:
            source.socket.get(zmq.EVENTS)

    @action(which=range(2), timeout=(0.0, 0.5, 5.0))
    def stop(self, which, timeout):
        self.spawn((self.requester, self.responder)[which].stop, timeout)

    @action(which=range(2))
    def close(self, which):
        (self.requester, self.responder)[which].close()

    # What must be true.

    def check_rest(self):
        super().check_rest()
        self.asking = {each: timeout for each, timeout in self.asking.items() if not each.dead}
        if self.requester.closed:
            check(not self.asking, "a request waits for a requester that is closed")
        elif self.released.is_set() and not self.is_cut and self._both_run:
            # What the clock has overtaken in a hub that was held up is asked again, after a pause.
            waiting = [
                each for each, timeout in self.asking.items() if not (timeout and self.is_slow)
            ]
            check(not waiting, "a request waits, and nothing holds it up")

    def finish(self):
        self.released.set()
        self.settle()
        self.requester.close()
        self.responder.close()
        self.settle()
        loop.advance(1.0)  # what ticks sees it only then
        super().finish()
        left = self.requester.stats().outstanding
        check(not left, f"{left} requests are still in the table")

    @property
    def _both_run(self):
        return not self.requester.closed and self._responder_runs

    @property
    def _responder_runs(self):
        # One whose stop was killed is left about to stop, and refuses all.
        return self.answers_source.started and not self.responder._reception.is_leaving

    def _asks(self):
        """Return the source of the requester, or of what was one."""
        for connection in self.requester._dispatcher.connections:
            if connection.link.source is not None:
                self._last = connection.link.source
        return self._last

    def _source(self, kind, outbox, marks):
        socket = self.context.socket(kind)
        socket.set(zmq.SNDHWM, marks)
        socket.set(zmq.RCVHWM, marks)
        return Source(socket, outbox=outbox, on_error=self._report)

    def _report(self, error, message):
        expected = (ZeroDivisionError, gevent.GreenletExit, SourceClosed, zmq.ZMQError)
        if not isinstance(error, expected):
            self.failures.append(repr(error))

    # Calls.

    def _ask(self, number, timeout, retries, raises):
        request = [b"%d" % number, b"raise" if raises else b"answer"]
        try:
            reply = self.requester.request(request, timeout, retries)
        except RequestTimeout:
            check(timeout is not None, "a request without timeout timed out")
        except RemoteError:
            check(raises, "a request failed that should be answered")
        except PeerLost:
            is_gone = self.is_cut or not self._responder_runs
            check(is_gone, "a peer was lost whose connection was not cut")
        except SourceClosed:
            pass
        else:
            check(not raises, "a request was answered that should fail")
            check(reply == [b"%d" % number, b"done"], f"{reply} answers request {number}")

    def _answer(self, payload):
        self.released.wait()
        if payload[1] == b"raise":
            raise ZeroDivisionError
        return [payload[0], b"done"]
