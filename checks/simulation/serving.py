"""Processes that answer: with a responder, or plainly."""

import collections
import contextlib
import functools
from typing import Any

import gevent
import zmq
from gevent import GreenletExit
from gevent.pool import Pool

from gzmqsource._base.event import Event
from gzmqsource.errors import RequestCancelled, SendError, SourceClosed
from gzmqsource.workers import Responder, current_request, shield
from simulation.libzmq import Socket
from simulation.world import check, loop

#: What a responder counts a request as, once.
ENDS = (
    *("waiting", "running", "replies", "errors", "undelivered"),
    *("full", "leaving", "expired", "cancelled", "lost"),
)


class Refusal(Exception):
    """What handlers raise."""


class Run:
    """A handler that has begun a request."""

    def __init__(self, server, key):
        self.server = server
        self.began, self.ended = loop.time, None
        self.key = key
        #: How it ended: with a reply, or killed.
        self.how: str | None = None


class AnyServer:
    """What servers of all kinds have in common."""

    def __init__(self, world, index, process=None):
        self.world = world
        self.index = index
        self.address = self.address_of(index)
        self.process = process or world.new_process()
        self.start()

    def __repr__(self):
        return f"{type(self).__name__} {self.index}"

    @property
    def is_gone(self):
        raise NotImplementedError

    @staticmethod
    def address_of(index):
        return f"tcp://127.0.0.1:{7000 + index}"

    def start(self):
        raise NotImplementedError

    def hold(self):
        """Let no handler end that waits."""

    def release(self):
        """Let all of them."""

    def restart(self):
        if self.is_gone and not self.process.is_stuck:
            self.start()

    def note_trouble(self, kind, since=None):
        self.world.note_trouble(kind, self.address, since)

    @property
    def _others(self):
        """Give who else may be to blame for what goes wrong here."""
        return []

    def work(self):
        """Do what needs no hub; give how much was done."""
        return 0

    def check_has(self, asker, keys):
        """Check that it has the requests that an asker believes it to have."""


#: Seconds after which all is said for which there was no room.
SAID = 1.0


class AnyResponder(AnyServer):
    """A process with what speaks the protocol, and after that with the next one."""

    responder: Any

    @property
    def is_gone(self):
        return all(source.closed for source in self.sources)

    @property
    def sources(self):
        return [self.responder.source]

    # Steps of a schedule.

    def stop(self, timeout):
        if not self.is_gone:
            self.process.spawn(self._stop, self.responder, timeout)

    def die(self):
        if self.is_gone:
            return
        self.note_trouble("died")
        self.world.let_run(self.process)
        for source in self.sources:
            # It is just being closed, perhaps.
            with self.process.inside(), contextlib.suppress(zmq.ZMQError, SourceClosed):
                source.socket.linger = 0
            for each in self.world.network.of(source._core.raw.simulated):
                each.cut()
        self.process.spawn(self.responder.close)
        self.process.step()

    # What must be true.

    def check_rest(self):
        stats = self.responder.stats()
        total = sum(getattr(stats, name) for name in ENDS)
        check(stats.requests == total, f"{self}: {stats} do not add up")
        responder = self.responder
        if self.is_gone or self.process.is_stuck or self.world.is_stuck:
            return
        if self.is_held:
            return
        for job in responder._handling.jobs.values():
            if job.asker is not None and job.payload[0].isdigit():
                self._check_wanted(job, self.world.requests.get(int(job.payload[0])))
        if stats.waiting and not responder._reception.is_leaving:
            self._check_busy(stats)

    def check_has(self, asker, keys):
        # At the end of a stop only replies are sent: who was never heard is not told either.
        if not self.responder.source.started or self.responder._parts.gate.full():
            return
        missing = [key for key in keys if key not in self.responder._handling.jobs]
        check(not missing, f"{asker} waits for {len(missing)} requests that {self} has not")

    def check_over(self):
        handling = self.responder._handling
        left = [*handling.jobs, *handling.running, *self.responder._line.all()]
        check(not left, f"what is left of requests: {left}")
        for asker in self.responder._parts.askers.all():
            check(not asker.jobs, f"an asker still has {asker.jobs}")

    @property
    def is_held(self):
        """Whether nothing more is read, for a plain peer."""
        return self.responder._parts.gate.full()

    def _check_wanted(self, job, asked):
        """Check that a request that waits or runs is one that its caller waits for."""
        if asked is None or asked.outcome is None or asked.asker.is_closing:
            return
        if self.world.marks == 1 and loop.time < asked.ended + SAID:
            return  # there was no room to say so
        had = self._had_trouble(asked, self.address)
        check(had, f"{asked} has ended, and {self} still has it")

    def _check_busy(self, stats):
        """Check that no place is free while requests wait."""
        most = {"pool": 2, "spawned": None, None: 1}
        size = most.get(self.world.spawning, self.world.spawning)
        idles = size is None or stats.running < size
        check(not idles, f"{self}: {stats.waiting} wait, and {stats.running} run")

    def _had_trouble(self, asked, *parties):
        """Tell whether something went wrong since a request was made, at any of those."""
        since = asked.began
        everyone = *parties, *self._others, asked.asker
        return any(self.world.had_trouble(each, since, loop.time) for each in everyone)

    # Calls.

    def _stop(self, responder, timeout):
        began = loop.time
        are_known = self._is_known(responder._handling._voice.session)
        ended = _ended(responder) - responder.source.stats().outbox_depth
        repeated = responder._reception.duplicates
        lost = responder.stop(timeout)
        took = loop.time - began
        # For plain peers, nothing more may have been read.
        unread = sum(responder.source.stats().dropped.values())
        again = responder._reception.duplicates - repeated
        most = responder.stats().requests - ended + unread + again
        check(0 <= lost <= most, f"{self} gave up {lost} requests, and had {most}")
        is_forced = took >= 0.85 * timeout
        had = self.world.had_trouble(self.address, began, loop.time)
        is_excused = lost <= unread or is_forced or had
        check(is_excused, f"{self} gave up {lost} requests after {took} s")
        if lost or is_forced or not are_known:
            self.note_trouble("stopped by force", began)

    def _is_known(self, session):
        """Tell whether all who may ask it know it, and so are told that it stops."""
        return all(each.has_met(self.address, session) for each in self.world.askers)


def _ended(responder):
    """Give how many requests have ended at a responder."""
    stats = responder.stats()
    return stats.requests - stats.waiting - stats.running


class Handlers:
    """What the handlers of a process do, and what they must not."""

    #: Whether each attempt of a request has the same key here.
    keeps_keys = True

    world: Any
    process: Any
    address: str
    responder: Any
    gate: Any
    note_trouble: Any
    _had_trouble: Any

    def hold(self):
        with self.process.inside():
            self.gate.clear()

    def release(self):
        with self.process.inside():
            self.gate.set()

    def _answer(self, runs, payload):
        request: Any = current_request()
        key = request.key
        if not payload[0].isdigit():
            return b"?"
        number, mood = int(payload[0]), payload[1]
        run = self._begin(runs, number, key)
        try:
            if mood == b"wait":
                self.gate.wait()
            elif mood == b"sleep":
                gevent.sleep(0.3)
            elif mood == b"doze":
                gevent.sleep(4.0)
            elif mood == b"raise":
                raise Refusal
            elif mood == b"exit":
                gevent.sleep(0.3)
                self.note_trouble("killed")
                raise GreenletExit
            elif mood == b"stop":
                began = loop.time
                self.note_trouble("stopped by force")
                try:
                    with shield():  # one that is cancelled leaves it about to stop
                        self.responder.stop(0.5)
                finally:  # it may be killed by that
                    self.note_trouble("stopped by force", began)
            run.how = "replied"
        except Refusal:
            run.how = "replied"
            raise
        except (GreenletExit, RequestCancelled):
            run.how = "killed"
            raise
        finally:
            run.ended = loop.time
        return [payload[0], b"done"]

    def _begin(self, runs, number, key):
        asked = self.world.requests.get(number)
        run = Run(self.address, key)
        for before in runs[key] if key else ():
            check(before.ended is not None, f"{self} runs request {number} twice at a time")
            is_lost = before.how == "killed" or self._is_redelivered(asked)
            check(is_lost, f"{self} runs request {number} twice for one key")
        if asked is not None:
            for before in asked.runs:
                is_same = before.key == key or not self.keeps_keys
                check(is_same, "a request changes its key")
                had = self._had_trouble(asked, before.server, self.address)
                is_excused = before.how == "killed" or had
                check(is_excused, f"{self} runs {asked}, as {before.server} did, without trouble")
            asked.runs.append(run)
        runs[key].append(run)
        return run

    def _is_redelivered(self, asked):
        """Tell whether a request may come here again that has had its reply."""
        return False

    def _report(self, error, message):
        if not isinstance(error, (Refusal, gevent.GreenletExit, SendError)):
            self.world.failures.append(f"{self}: {error!r}")


class Server(Handlers, AnyResponder):
    """A process with a responder, and after that with the next one."""

    def start(self):
        world = self.world
        #: What the handlers of this responder have begun, by the keys.
        runs: dict[bytes, list[Run]] = collections.defaultdict(list)
        with self.process.inside():
            self.gate = Event()
            self.gate.set()
            self.responder = Responder.open(
                functools.partial(self._answer, runs),
                bind=self.address,
                context=world.context,
                spawn=spawning_of(world),
                max_waiting=world.waiting,
                on_error=self._report,
                sndhwm=world.marks,
                rcvhwm=world.marks,
            )
            self.responder.start()


def spawning_of(world):
    """Give where handlers run."""
    spawning: Any = {"pool": Pool(2), "spawned": gevent.spawn}
    return spawning.get(world.spawning, world.spawning)


class PlainServer(AnyServer):
    """A ROUTER that knows nothing of the protocol."""

    def start(self):
        self.held = []
        self.is_held = False
        self.socket: Any = Socket(self.world.simulated, zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(self.address)

    @property
    def is_gone(self):
        return self.socket.is_closed

    def stop(self, timeout):
        self.die()

    def die(self):
        if not self.is_gone:
            self.note_trouble("died")
            self.socket.close()

    def hold(self):
        self.is_held = True

    def release(self):
        self.is_held = False

    def work(self):
        done = 0
        if self.is_gone or self.process.is_stuck:
            return 0
        while (message := receive(self.socket)) is not None:
            done += 1
            if b"" in message[:-1]:
                self.held.append(message)
        if not self.is_held:
            held, self.held = self.held, []
            for message in held:
                self._reply(message)
                done += 1
        return done

    def check_rest(self):
        """Do nothing: it knows of nothing."""

    check_over = check_rest

    def _reply(self, message):
        envelope = message[: message.index(b"") + 1]
        number, *mood = message[len(envelope) :]
        answer = [number, b"done"]
        if mood == [b"raise"]:
            answer = [b"\x15gzmqsource.error", b"Refusal", b""]
        send(self.socket, [*envelope, *answer])


def receive(socket):
    """Receive a message with a simulated socket, or None."""
    try:
        frames = [socket.recv(0)]
        while frames[-1][1]:
            frames.append(socket.recv(0))
    except zmq.Again:
        return None
    return [frame for frame, _ in frames]


def send(socket, frames):
    """Send a message with a simulated socket; tell whether it was taken."""
    try:
        socket.get(zmq.EVENTS)
        for index, frame in enumerate(frames):
            socket.send(frame, zmq.SNDMORE if index < len(frames) - 1 else 0)
    except zmq.ZMQError:
        return False
    return True
