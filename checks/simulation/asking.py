"""A process that asks, and what becomes of each of its requests."""

import collections
import contextlib
import dataclasses
from typing import Any

import zmq
from gevent import GreenletExit
from gevent.hub import get_hub
from gevent.queue import Queue

from gzmqsource.errors import PeerLost, RemoteError, RequestTimeout, SourceClosed
from gzmqsource.monitor import SocketEvent
from gzmqsource.workers import Requester
from gzmqsource.workers._connection import State
from simulation.world import check, loop

#: What a requester closes with, in the order of its counters.
OUTCOMES = ("replies", "timeouts", "lost", "cancelled", "failed")

#: What a server must have had for a request to be lost, by the words of the error.
EXCUSES = {
    "nothing came": ("stuck",),
    "the connection": ("cut", "died", "stopped by force"),
    "was ended or lost": ("killed", "died", "stopped by force"),
}


class Monitor:
    """A `gzmqsource.monitor.Monitor` of a simulated socket, with no thread."""

    def __init__(self, source, events, ref=True):
        self._loop = get_hub().loop
        self._wanted = events
        self._events: Queue[Any] = Queue()
        source._core.raw.simulated.report = self._report

    def recv(self, timeout=None):
        event = self._events.get(timeout=timeout)
        if event is None:
            self._events.put(None)
            raise SourceClosed("the monitor is closed")
        return event

    def __iter__(self):
        with contextlib.suppress(SourceClosed):
            while True:
                yield self.recv()

    def close(self):
        self._events.put(None)

    def _report(self, name):
        if not zmq.Event[name.upper()] & self._wanted:
            return
        event = SocketEvent(name, "", 0, None, None)
        self._loop.run_callback(self._events.put, event)


@dataclasses.dataclass
class Asked:
    """One request, and how it ended."""

    number: int
    asker: Any
    mood: str
    timeout: float | None
    retries: int
    began: float
    greenlet: Any = dataclasses.field(default=None, repr=False)
    outcome: str | None = None
    error: BaseException | None = None
    ended: float = 0.0
    #: The servers whose handlers have begun it.
    runs: list[Any] = dataclasses.field(default_factory=list, repr=False)

    def end(self, outcome, error=None):
        check(self.outcome is None, f"{self} ends twice, by {outcome}")
        self.outcome, self.error, self.ended = outcome, error, loop.time

    def note_death(self, greenlet):
        """Note that the greenlet has ended: it may have been killed before it began."""
        if self.outcome is None and isinstance(greenlet.value, GreenletExit):
            self.end("never")


class Asker:
    """A process with a requester."""

    def __init__(self, world, index):
        self.world = world
        self.index = index
        self.process = world.new_process()
        self.asked = []
        self.is_closing = False
        with self.process.inside():
            self.requester = Requester.open(
                [server.address for server in world.servers],
                context=world.context,
                max_outstanding=world.room,
                on_error=self._report,
            )

    def __repr__(self):
        return f"asker {self.index}"

    @property
    def waits(self):
        """Whether a request has not ended."""
        return any(asked.outcome is None for asked in self.asked)

    def has_met(self, address, session):
        """Tell whether it has heard a responder, which so knows it."""
        return any(
            each.address == address and each.session == session
            for each in self.requester._dispatcher.connections
        )

    # Steps of a schedule.

    def ask(self, timeout, retries, mood):
        asked = Asked(next(self.world.asked), self, mood, timeout, retries, loop.time)
        self.world.requests[asked.number] = asked
        self.asked.append(asked)
        asked.greenlet = self.process.spawn(self._ask, asked)
        asked.greenlet.rawlink(asked.note_death)

    def kill(self, which):
        waiting = [each for each in self.asked if not each.greenlet.dead]
        if waiting:
            waiting[which % len(waiting)].greenlet.kill(block=False)

    def leave(self, timeout):
        self.is_closing = True
        if timeout is None:
            self.process.spawn(self.requester.close)
        else:
            self.process.spawn(self.requester.stop, timeout)

    def cut(self, address):
        for connection in self.requester._dispatcher.connections:
            source = connection.link.source
            if connection.address == address and source is not None and not source.closed:
                for each in self.world.network.between(source._core.raw.simulated, address):
                    each.cut()

    # What must be true.

    def check_rest(self):
        stats = self.requester.stats()
        total = sum(getattr(stats, name) for name in OUTCOMES)
        check(stats.requests == stats.outstanding + total, f"{self}: {stats} do not add up")
        if self.world.is_stuck:
            return
        dispatcher = self.requester._dispatcher
        if dispatcher.balance and not self.requester.closed:
            waits = [*dispatcher.again.values(), *dispatcher.fresh.values()]
            check(not waits, f"{len(waits)} requests wait, and a server is live")
        if dispatcher.wanting:
            call = next(iter(dispatcher.wanting.values()))
            check(not dispatcher._has_room(call), "a request waits for room, and there is some")
        for server in self.world.servers:
            for connection in dispatcher.connections:
                if connection.address == server.address and connection.state is State.LIVE:
                    server.check_has(self, connection.outstanding)
        for asked in self.asked:
            if asked.outcome is None and asked.timeout is not None and not self.world.is_slow:
                over = loop.time - asked.began - asked.timeout
                check(over < 0.01 or self._had_trouble(asked), f"{asked} should have timed out")

    def check_ended(self):
        """Check that each request has ended, and why."""
        for asked in self.asked:
            check(asked.outcome is not None, f"{asked} has not ended: {self._state_of()}")
            if asked.outcome == "lost":
                self._check_lost(asked)
            most = (1 + asked.retries) * self.world.most_deliveries
            check(len(asked.runs) <= most, f"{asked} ran {len(asked.runs)} times")
        if not self.is_closing:
            stats = self.requester.stats()
            counted = collections.Counter({name: getattr(stats, name) for name in OUTCOMES})
            seen = collections.Counter(each.outcome for each in self.asked)
            # One that is killed may just have ended otherwise.
            seen["cancelled"] -= max(0, seen["cancelled"] - counted["cancelled"])
            check(seen - counted <= collections.Counter(never=len(self.asked)), f"{stats}, {seen}")

    def check_over(self):
        """Check that nothing is left."""
        dispatcher = self.requester._dispatcher
        check(self.requester.closed, f"{self} is not closed")
        check(not dispatcher.outstanding, f"{dispatcher.outstanding} requests are in a table")
        left = [
            *(*dispatcher.wanting, *dispatcher.again, *dispatcher.fresh, *dispatcher.held),
            *(*dispatcher.held._holds, *dispatcher._losses._left, *dispatcher._sending_back),
            *(*dispatcher.clock.calls, *dispatcher.held._clock.calls, *dispatcher.connections),
        ]
        check(not left, f"what is left of requests: {left}")
        check(not dispatcher.admitted and not dispatcher.bytes, "room is taken by no request")

    # Calls.

    def _ask(self, asked):
        try:
            reply = self.requester.request(
                [b"%d" % asked.number, asked.mood.encode()], asked.timeout, asked.retries
            )
        except RequestTimeout as error:
            asked.end("timeouts", error)
            check(asked.timeout is not None, f"{asked} has no timeout")
            waited = loop.time - asked.began
            check(waited >= asked.timeout, f"{asked} timed out after {waited}")
        except RemoteError as error:
            asked.end("replies", error)
            check(asked.mood == "raise", f"{asked} failed")
        except PeerLost as error:
            asked.end("lost", error)
        except SourceClosed as error:
            asked.end("failed", error)
            check(self.is_closing, f"{asked} failed, and the requester is open")
        except GreenletExit as error:
            asked.end("cancelled", error)
        else:
            asked.end("replies")
            check(reply == [b"%d" % asked.number, b"done"], f"{reply} answers {asked}")
            check(asked.mood != "raise", f"{asked} did not fail")

    def _check_lost(self, asked):
        """Check that the server that a request was lost with had some trouble."""
        text = str(asked.error)
        guilty = [each for each in self.world.servers if each.address in text]
        check(len(guilty) == 1, f"{text} names no server")
        kinds = next(kinds for words, kinds in EXCUSES.items() if words in text)
        had = self.world.has_excuse(guilty[0].address, asked, kinds)
        check(had or self._had_trouble(asked), f"{asked} was lost, and its server had no trouble")

    def _had_trouble(self, asked):
        return self.world.had_trouble(self, asked.began, loop.time)

    def _state_of(self):
        return repr(self.requester), self.requester.stats()

    def _report(self, error, message):
        self.world.failures.append(f"{self}: {error!r}")
