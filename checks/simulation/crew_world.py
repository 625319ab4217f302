"""A source with a handler that waits, raises, is killed, and ends its own source."""

from typing import Any, ClassVar

import gevent
import zmq
from gevent import GreenletExit, getcurrent
from gevent.pool import Pool

from gzmqsource import Source, SourceClosed
from gzmqsource._base.event import Event
from gzmqsource._source.core import State
from simulation.peers import PEERS, PeeredWorld
from simulation.world import action, check, loop

#: Where the handlers run: workers as many as the number, or spawned.
SPAWNS: dict[str, Any] = {
    "own": None,
    "1": 1,
    "2": 2,
    "3": 3,
    "pool": Pool,
    "spawned": gevent.spawn,
}

#: What a handler does.
MOODS = ("return", "wait", "raise", "exit", "leave", "kill", "pause", "stop", "close")


class Refusal(Exception):
    """What a spawn function raises."""


class CrewWorld(PeeredWorld):
    """All that can be done with the handlers of one source."""

    options: ClassVar = {
        "spawn": list(SPAWNS),
        "mood": ["return", "wait", "wait"],
        "marks": [1, 2],
        "slow": [False, True],
        "delay": range(3),
    }

    def __init__(self, spawn, mood, marks, slow, delay):
        super().__init__("PULL", marks, False, delay)
        socket = self.context.socket(zmq.PULL)
        self.prepare(socket)
        self.mood = mood
        self.refusals = 0
        self.running = {}
        self.handlers = []
        self.timeouts = []
        self.is_slow = slow
        where = SPAWNS[spawn]
        self.are_workers = where is None or isinstance(where, int)
        self.most: Any = (where or 1) if self.are_workers else 2 if where is Pool else None
        self.prefetches = where is None
        if not self.are_workers:
            where = self._refusing_pool() if where is Pool else self._spawn
        self.source = Source(socket, self._handle, spawn=where, on_error=self._report)
        if slow:  # turns end all the time
            self.source._core.socket.budget.max_messages = 2
        self.source.socket.bind("inproc://middle")
        self.source.start()
        self.receiver: Any = self.source._receiver
        for peer in PEERS:
            self.attach(peer)

    @property
    def is_open(self):
        return not self.source.closed and not self.is_ended

    def connect(self, address):
        self.source.socket.connect(address)

    # Steps of a schedule.

    @action(weight=3, mood=MOODS[:5])
    def feel(self, mood):
        """Set what the handlers do that begin from now on."""
        self.mood = mood

    @action(mood=MOODS)
    def do_once(self, mood):
        """Have something done by the handler of a message that is there, or comes next."""
        before, self.mood = self.mood, mood
        loop.step(3)
        self.mood = before

    @action(weight=6, which=range(4))
    def release(self, which):
        gates = list(self.running.values())
        if gates:
            gates[which % len(gates)].set()

    @action(weight=2, which=range(4))
    def kill_handler(self, which):
        """Kill a greenlet that is, or was, in a handler."""
        alive = [each for each in self.handlers if not each.dead]
        if alive:
            self.disturb()
            loop.run_callback(alive[which % len(alive)].throw, GreenletExit)

    @action(count=range(1, 4))
    def refuse(self, count):
        """Let the spawn function raise."""
        self.refusals = count

    @action()
    def pause(self):
        self._call(self.source.pause)

    @action(weight=2)
    def resume(self):
        self._call(self.source.resume)

    @action(weight=2)
    def look(self):
        """Read ``ZMQ_EVENTS``, which eats the edge."""
        self._call(lambda: self.source.socket.get(zmq.EVENTS))

    @action(weight=0.5, timeout=(0.0, 0.5, 5.0))
    def stop(self, timeout):
        self.spawn(self._call, lambda: self.source.stop(timeout))

    @action(weight=0.3)
    def close(self):
        self._call(self.source.close)

    # What must be true.

    def check_rest(self):
        super().check_rest()
        source, core = self.source, self.source._core
        self._check_hand()
        if self.is_ended or not source.started or not core.resumed.is_set():
            return
        if self.libzmq.has_message() and not self._backs_off:
            is_full = self.most is not None and len(self.running) == self.most
            check(is_full, "the intake waits, and there is a message")
        if core.prefetched and not self._backs_off:
            check(self.prefetches and self.running, "a message is in hand that could be handled")

    def finish(self):
        """Let everything out that is there, close, and count."""
        self.mood, self.refusals = "return", 0
        self._free()
        loop.advance(10)
        # A stop that was killed has ended the connections already.
        if self.is_open and self.source._core.state is State.STARTED:
            self.source.resume()
            self.settle()
            missing = self.sent.keys() - set(self.got)
            check(not missing, f"{sorted(missing)} were sent, and not handled")
        self._call(self.source.close)
        self._free()
        loop.advance(10)
        stats = self.source.stats()
        left = [each for each in self.receiver._crew._workers if not each.dead]
        check(not left, f"workers of a closed source: {left}")
        check(not stats.in_hand, f"{stats.in_hand} are in hand, and nothing else will happen")
        unhandled = sum(stats.dropped.get(reason, 0) for reason in ("unhandled", "unread"))
        if self.are_workers:
            check(
                stats.received == len(self.got) + unhandled,
                f"{stats.received} were received, {len(self.got)} handled, {unhandled} dropped",
            )
        for timeout in self.timeouts:
            timeout.close()
        super().finish()
        self.check_received()

    def check_received(self):
        if self.are_workers:
            super().check_received()
        else:  # greenlets that were spawned may go past each other, where a turn ends
            check(len(self.got) == len(set(self.got)), f"handled twice: {self.got}")

    @property
    def _backs_off(self):
        spawned = self.receiver._spawned
        return spawned is not None and spawned._back_off._errors > 0

    def _check_hand(self):
        in_hand = len(self.source._core.prefetched)
        if self.most is not None:
            check(len(self.running) <= self.most, f"{len(self.running)} handlers run")
        if self.are_workers and not self.prefetches:
            room = self.most - len(self.running)
            check(in_hand <= room, f"{in_hand} are in hand, and there is room for {room}")

    def _free(self):
        """Let all handlers end."""
        for _ in range(100):
            for gate in list(self.running.values()):
                gate.set()
            loop.step()
            if not self.running:
                return

    # Calls.

    def _call(self, function):
        try:
            function()
        except SourceClosed:
            check(self.source.closed, "SourceClosed of a source that is open")
        except zmq.ContextTerminated:
            check(self.is_ended, "ETERM of a context that has not ended")

    def _spawn(self, function, *arguments):
        if self.refusals:
            self.refusals -= 1
            raise Refusal
        return gevent.spawn(function, *arguments)

    def _refusing_pool(self):
        world = self

        class RefusingPool(Pool):
            def spawn(self, *arguments, **keywords):
                if world.refusals:
                    world.refusals -= 1
                    raise Refusal
                return super().spawn(*arguments, **keywords)

        return RefusingPool(2)

    def _handle(self, message):
        self.take(message)
        self.handlers.append(getcurrent())
        mood, key = self.mood, len(self.got)
        self.running[key] = gate = Event()
        try:
            self._check_hand()
            if mood in ("wait", "stop"):
                gate.wait()
            self._act(mood)
        finally:
            del self.running[key]

    def _act(self, mood):
        if mood == "raise":
            raise ZeroDivisionError
        if mood == "exit":
            raise GreenletExit
        if mood == "leave":
            self.timeouts.append(gevent.Timeout.start_new(0.01))
        elif mood == "kill":
            others = [each for each in self.handlers if each is not getcurrent()]
            gevent.killall(others, block=False)
        elif mood == "pause":
            self._call(self.source.pause)
        elif mood == "stop":
            self._call(lambda: self.source.stop(0.5))
        elif mood == "close":
            self._call(self.source.close)

    def _report(self, error, message):
        expected = (ZeroDivisionError, gevent.Timeout, Refusal, zmq.ZMQError)
        if not isinstance(error, expected):
            self.failures.append(repr(error))
