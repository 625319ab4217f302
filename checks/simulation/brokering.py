"""Processes that share requests out, and those that handle them."""

import collections
import functools

from gzmqsource._base.event import Event
from gzmqsource.broker import Broker
from gzmqsource.broker._roster import State
from gzmqsource.errors import SendError
from gzmqsource.workers import Responder
from gzmqsource.workers._header import KIND, Kind
from simulation.serving import AnyResponder, Handlers, Run, spawning_of
from simulation.world import check, loop

#: After how many seconds a broker must have noticed that a worker is stuck, and that a connection
#: has ended.
NOTICED, ENDED = 2.5, 1.0


class Middle(AnyResponder):
    """A process with a broker, and after that with the next one."""

    def start(self):
        world = self.world
        self.back = self.address.replace(":7", ":8")
        self.began = loop.time
        with self.process.inside():
            self.responder = Broker.open(
                self.address,
                self.back,
                context=world.context,
                redeliver=world.redelivers,
                max_waiting=world.waiting,
                on_error=self._report,
                sndhwm=world.marks,
                rcvhwm=world.marks,
            )
            back = self.responder._back
            back._send = functools.partial(self._send, back._send, back.roster.workers)
            self.responder.start()

    @property
    def sources(self):
        return [self.responder.front, self.responder.back]

    def workers(self):
        """Give each worker that it knows, and the one of the world of that name, if there is."""
        known = {each.name: each for each in self.world.workers}
        return [
            (worker, known.get(name))
            for name, worker in self.responder._back.roster.workers.items()
        ]

    # What must be true.

    def check_rest(self):
        super().check_rest()
        if self.is_gone:
            return
        stats = self.responder.stats()
        slots = sum(each.slots for each, _ in self.workers() if each.state is State.READY)
        check(stats.slots == slots, f"{self}: {stats}, and the workers take {slots}")
        if self.world.is_stuck:
            return
        for worker, joined in self.workers():
            if joined is not None and worker.state is State.READY and not joined.is_gone:
                joined.check_has_all(self, worker.jobs)

    def check_over(self):
        super().check_over()
        for each in self.responder._watch._runs:
            check(not each.is_running, f"{each} still watches the workers")

    def _check_busy(self, stats):
        back = self.responder._back
        for worker, _ in self.workers():
            idles = worker.state is State.READY and len(worker.jobs) < worker.slots
            # One whose pipe was full is given nothing until it says something.
            idles = idles and (self.world.marks >= 1000 or worker in back.roster._partly)
            check(not idles, f"{self}: {stats.waiting} wait, and {worker.name} has room")

    @property
    def _others(self):
        return [each.address for each in self.world.workers]

    def _had_trouble(self, asked, *parties):
        # A stranger that has a request does not say how that has ended.
        return self.world.has_false_worker or super()._had_trouble(asked, *parties)

    def _check_asked(self, worker):
        """Check that a worker may be given what it is about to be given."""
        check(worker.state is State.READY, f"{self} asks {worker.name}, which is {worker.state}")
        has = len(worker.jobs)
        check(has <= worker.slots, f"{self} gives {worker.name} {has}, over {worker.slots}")
        since = next(
            (
                self.world.stuck_since.get(each.process)
                for each in self.world.workers
                if each.name == worker.name
            ),
            None,
        )
        if since is None or self.world.is_slow:
            return
        since = max(since, self.began, self.world.running_since.get(self.process, 0.0))
        check(loop.time - since < NOTICED, f"{self} asks {worker.name}, which is stuck")

    # Calls.

    def _send(self, send, workers, message, block):
        if message[1][KIND] == Kind.ASK:
            self._check_asked(workers[message[0]])
        return send(message, block=block)

    def _report(self, error, message):
        if not isinstance(error, SendError):
            self.world.failures.append(f"{self}: {error!r}")


class Joined(Handlers, AnyResponder):
    """A process with a worker of brokers, and after that with the next one."""

    #: A broker makes one up where the worker still has a lost request under the asker's.
    keeps_keys = False

    name = b""
    _starts = 0
    _cut_at = -ENDED

    @staticmethod
    def address_of(index):
        return f"worker {index}"

    def start(self):
        world = self.world
        #: What the handlers of this worker have begun, by the keys.
        runs: dict[bytes, list[Run]] = collections.defaultdict(list)
        self._starts += 1
        self.name = self.address.encode()
        if not world.are_named:
            self.name += b".%d" % self._starts
        self.brokers = world.servers[self.index % 2 :] or world.servers
        self.began = loop.time
        with self.process.inside():
            self.gate = Event()
            self.gate.set()
            self.responder = Responder.join(
                [each.back for each in self.brokers],
                functools.partial(self._answer, runs),
                spawning_of(world),
                context=world.context,
                on_error=self._report,
                sndhwm=world.marks,
                rcvhwm=world.marks,
                routing_id=self.name,
            )
            self.responder.start()

    @property
    def is_held(self):
        """Whether nothing more is read, there or at a broker, which a cancellation goes through."""
        brokers = [each for each in self.brokers if not each.is_gone]
        return super().is_held or any(each.is_held for each in brokers)

    # Steps of a schedule.

    def cut(self, broker, lost):
        """Cut the connection to a broker, with so many messages on their way to that."""
        simulated = self.responder.source._core.raw.simulated
        for each in self.world.network.between(simulated, broker.back):
            if each.binder is not None:
                self.note_trouble("cut")
                self._cut_at = loop.time
                each.cut(lost)

    # What must be true.

    def check_has_all(self, broker, keys):
        """Check that it has what a broker believes it to have."""
        if self.responder._parts.voice.owes or loop.time - self._cut_at < ENDED:
            return
        missing = [key for key in keys if key not in self.responder._handling.jobs]
        check(not missing, f"{broker} counts {len(missing)} requests that {self} has not")

    def check_shares(self):
        """Check that the brokers together do not give it more than it takes."""
        if self.is_gone or self.responder._reception.is_leaving:
            return
        told = [
            worker.slots
            for broker in self.brokers
            if not broker.is_gone
            for worker, joined in broker.workers()
            if joined is self
        ]
        most = max(self.responder._membership._slots, len(self.brokers))
        check(sum(told) <= most, f"{self} takes {most}, and its brokers give it {told}")

    def check_over(self):
        super().check_over()
        runs = self.responder._membership._runs
        check(not runs.is_running, f"{self} still tells brokers what it takes")

    @property
    def _others(self):
        return [each.address for each in (*self.world.servers, *self.world.workers)]

    def _is_known(self, session):
        # Who asks is a broker, and those that do not know it have given it nothing.
        return True

    def _is_redelivered(self, asked):
        if asked is None:  # a stranger asks once more for what it has cancelled
            return True
        may_be = self.world.redelivers or asked.retries
        return may_be and self._had_trouble(asked, self.address)
