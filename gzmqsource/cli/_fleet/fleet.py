"""The workers of a master: as many as there should be, each one of the newest code."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import gevent
from gevent.event import Event

from gzmqsource._base.deadline import Deadline
from gzmqsource.cli._fleet.worker import State, Worker, log


@dataclass(frozen=True)
class FleetStats:
    """A snapshot of the workers, and of what became of them."""

    #: How many there should be.
    size: int
    #: How many answer requests.
    ready: int
    #: How many are starting.
    starting: int
    #: How many finish their requests, and leave.
    leaving: int
    #: How many have ended without an order from the master.
    lost: int
    #: How many of those were killed because they were stuck, or not ready in time.
    condemned: int


class Fleet:
    """The workers, and the decisions that keep their number.

    All decisions are made in `_look`. It never waits, so it may be called from any greenlet, and is
    called after each event.

    Parameters
    ----------
    start : callable
        ``start(number, changed)`` returns a `Worker`.
    size : int
        How many there should be.
    stuck_after : float
        Seconds after which a hub that has not run counts as stuck.
    stop_timeout : float
        Seconds that a worker may take to finish its requests when another one takes its place.
    """

    #: How often the fleet looks in the time after which a hub counts as stuck, and the most seconds
    #: between two looks.
    looks, slowest = 20, 0.25

    #: A worker that ends after so many seconds says nothing about the next one. Each earlier end
    #: puts off the next start, by the first delay, which doubles up to the last.
    infancy, first_delay, last_delay = 3.0, 0.1, 10.0

    def __init__(
        self,
        start: Callable[[int, Callable[[], object]], Worker],
        size: int,
        stuck_after: float,
        stop_timeout: float,
    ) -> None:
        self.size = size
        self.workers: list[Worker] = []
        #: Set when a worker is ready for the first time.
        self.began = Event()
        #: Set when no worker is left, and none is to come.
        self.over = Event()
        self._start = start
        self._stop_timeout = stop_timeout
        self._tick = min(stuck_after / self.looks, self.slowest)
        self._stopping = False
        #: Set unless workers are being replaced, and whether the last attempt has failed.
        self._rolled = Event()
        self._rolled.set()
        self._roll_failed = False
        self._delay = self._not_before = 0.0
        self._lost = self._condemned = 0
        #: Why the last worker that ended did not start.
        self._reason = ""

    @property
    def gave_up(self) -> bool:
        """Whether workers have ended before any was ready, and no more are started.

        As when the module is not there. Another attempt is left to the service manager.
        """
        return self._lost > 0 and not self.began.is_set()

    def start(self) -> None:
        """Start the workers, and keep their number from now on."""
        self._look()
        gevent.spawn(self._keep_looking)

    def stats(self) -> FleetStats:
        """Return a snapshot."""
        count = [each.state for each in self.workers].count
        return FleetStats(
            self.size,
            count(State.READY),
            count(State.STARTING),
            count(State.LEAVING),
            self._lost,
            self._condemned,
        )

    def numbers(self, seconds: float) -> dict[str, str | None]:
        """Return the numbers that each ready worker reports, by the number of the worker.

        They are None for a worker that has not answered within so many seconds.
        """
        asked = [(worker, worker.ask_numbers()) for worker in self._in(State.READY)]
        gevent.wait([answer for _, answer in asked], timeout=seconds)
        # A worker that leaves meanwhile does not have to answer.
        return {
            str(worker.number): answer.value
            for worker, answer in asked
            if answer.value is not None or worker.state is State.READY
        }

    def roll(self) -> bool:
        """Replace all current workers, one by one; return, once that is over, whether it succeeded.

        It fails if the new code does not start. A call during another one also replaces the workers
        that were started meanwhile; both calls return when all are replaced.
        """
        if not self._stopping:
            log.info("the workers are replaced one by one")
            self._rolled.clear()
            self._reason = ""
            for worker in self.workers:
                worker.outdated = True
            self._look()
        self._rolled.wait()
        return not self._roll_failed

    def resize(self, more: int) -> None:
        """Change the number of workers by *more*, which may be negative, to one at least."""
        self.size = max(1, self.size + more)
        log.info("the number of workers is to be %d", self.size)
        self._look()

    def stop(self, deadline: Deadline) -> None:
        """End all workers after the broker; kill those that are still there at the deadline."""
        self._stopping = True
        left = deadline.left() or 0.0
        starting = self._in(State.STARTING)
        for worker in starting + self._in(State.READY):
            # Without the broker its work is of no use.
            worker.leave(0, left + Worker.grace)
        for worker in starting:
            worker.kill()  # a module that computes while it is imported reads no order
        self._look()
        self.over.wait(left)
        self.kill()

    def kill(self) -> None:
        """Kill all workers, and wait until they have ended."""
        self._stopping = True
        for worker in self.workers:
            worker.kill()
        self._look()
        self.over.wait(Worker.grace)

    def _keep_looking(self) -> None:
        while not self.over.is_set():
            gevent.sleep(self._tick)
            for worker in self.workers:
                worker.pass_time(self._tick)
            self._look()

    def _look(self) -> None:
        if any(worker.was_ready for worker in self.workers):
            self.began.set()
        for worker in list(self.workers):
            if worker.is_over():
                self._bury(worker)
            elif fault := worker.fault():
                self._count_loss(worker)
                self._condemned += 1
                worker.condemn(fault)
        if self._stopping:
            self._rolled.set()
        else:
            self._keep_size()
        if not self.workers and (self._stopping or self.gave_up):
            self.over.set()

    def _bury(self, worker: Worker) -> None:
        self.workers.remove(worker)
        if worker.has_left:
            log.info("worker %d has left", worker.pid)
        elif worker.state is not State.CONDEMNED:
            self._log_end(worker)
            self._count_loss(worker)

    def _log_end(self, worker: Worker) -> None:
        """Log the end of a worker, and the reason only once if several workers have the same."""
        reason = "" if worker.reason == self._reason else worker.reason
        log.error("worker %d %s%s", worker.pid, worker.end, reason and f": {reason}")
        self._reason = worker.reason

    def _count_loss(self, worker: Worker) -> None:
        """Count a lost worker, and put off the next start if it has not lived for long."""
        self._lost += 1
        self._put_off(lasted=worker.lived >= self.infancy)
        # A worker that was started before the last call of `roll` does not have the newest code.
        is_newest = worker.state is State.STARTING and not worker.outdated
        if is_newest and not self._rolled.is_set():
            for each in self.workers:
                each.outdated = False
            log.error("the new code does not start: the workers continue with the old code")
            self._roll_failed = True
            self._rolled.set()

    def _put_off(self, lasted: bool = False) -> None:
        """Put off the next start, for longer each time unless the last worker has *lasted*."""
        now = time.monotonic()
        if lasted:
            self._delay = 0.0
        elif now >= self._not_before:
            self._delay = min(max(self.first_delay, 2 * self._delay), self.last_delay)
        self._not_before = max(self._not_before, now + self._delay)

    def _keep_size(self) -> None:
        """Start missing workers, and one to replace a worker that is due; dismiss any excess."""
        ready = self._in(State.READY)
        serving = self._in(State.STARTING) + ready
        due = [worker for worker in ready if worker.due]
        # One after another: there is never more than one extra worker.
        extra = bool(due) and not self._in(State.LEAVING)
        lacking = self.size + extra - len(serving)
        if lacking > 0:
            self._start_some(lacking)
        elif len(ready) > self.size:
            self._dismiss(due[0] if due else ready[-1])
        elif lacking < 0:
            self._dismiss(self._in(State.STARTING)[-1])
        if not (self._rolled.is_set() or any(worker.outdated for worker in self.workers)):
            log.info("all workers were replaced")
            self._roll_failed = False
            self._rolled.set()

    def _dismiss(self, worker: Worker) -> None:
        worker.leave(self._stop_timeout, self._stop_timeout + Worker.grace)

    def _start_some(self, count: int) -> None:
        if self.gave_up or time.monotonic() < self._not_before:
            return
        try:
            for _ in range(count):
                self.workers.append(self._start(self._free_number(), self._look))
        except OSError as error:
            log.error("a worker could not be started: %s", error.strerror)
            self._put_off()

    def _free_number(self) -> int:
        """Return the lowest number that no worker has."""
        taken = {worker.number for worker in self.workers}
        return next(number for number in itertools.count(1) if number not in taken)

    def _in(self, state: State) -> list[Worker]:
        return [worker for worker in self.workers if worker.state is state]
