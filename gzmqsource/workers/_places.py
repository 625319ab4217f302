"""The greenlets in which handlers run: those that read the requests, or new ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

import gevent
from gevent import GreenletExit
from gevent.pool import Pool

from gzmqsource._base.event import Event
from gzmqsource._base.lasting import Lasting
from gzmqsource._source.back_off import BackOff
from gzmqsource._source.source import Source
from gzmqsource.transfer.message import UNLIMITED
from gzmqsource.workers._jobs import Job, Line


class Places(Protocol):
    """The places where jobs are handled."""

    #: Where the source calls the responder with each message, as for `gzmqsource.Source`.
    spawn: int | None

    @property
    def size(self) -> int:
        """The most requests that are handled at a time."""

    def start(self, base: Context) -> None:
        """Start: handlers have these context variables."""

    def begin(self, job: Job) -> bool:
        """Handle a job now; return False if it has to wait in the line."""

    def free(self) -> int:
        """Return how many more jobs may join the line, because they are about to leave it."""

    def notify(self) -> None:
        """Note that a job was put in the line."""

    def resume(self) -> None:
        """Begin what an exception of a signal handler has left waiting; called with each tick."""

    def close(self) -> None:
        """Take no more jobs."""


class Workers:
    """A number of the source's greenlets, each of which handles the messages that it has read.

    The source has more greenlets than that: when *size* are in handlers, another one continues to
    read, and its messages wait in the line. A worker that has handled a job continues with the
    line. So a handler that does not wait costs neither a greenlet nor a switch, and waiting jobs
    are begun in order: while there is a job in the line, each of the other workers has one.

    Parameters
    ----------
    size : int
        The most handlers at a time.
    line : Line
        The jobs that wait.
    pop : callable
        Returns the next job of the line; None if there is none, or if it was rejected.
    handle : callable
        Called with each.
    salvage : callable
        Called with a job if an exception came out of *handle*.
    source : Source
        Its budget counts the jobs of the line, like those that were read, and it reports exceptions
        of a worker that goes on in the place of one that was killed.
    """

    def __init__(
        self,
        size: int,
        line: Line,
        pop: Callable[[], Job | None],
        handle: Callable[[Job], object],
        salvage: Callable[[Job], object],
        source: Source,
    ) -> None:
        # There is a place in the line for each message, so whole batches are read.
        self.spawn: int | None = size + Source.max_batch
        self.size = size
        #: See `Places.begin`; there is a quicker form.
        self.begin = self._begin
        self.idle = size
        self.waiting = line.jobs
        self._pop = pop
        self._handle = handle
        self._salvage = salvage
        self._budget = source._core.socket.budget
        self._report = source.report
        self._base = Context()

    def start(self, base: Context) -> None:
        """See `Places.start`."""
        self._base = base

    def _begin(self, job: Job) -> bool:
        if not self.idle or self.waiting:
            return False
        self.idle -= 1
        try:
            self._handle(job)
            if self.waiting:
                self.go_on()
        finally:
            self.idle += 1  # without a call, so that no signal handler comes before
            if self.waiting:
                self.resume()
        return True

    def free(self) -> int:
        """See `Places.free`."""
        return 0

    def notify(self) -> None:
        """See `Places.notify`."""
        self.resume()

    def resume(self) -> None:
        """See `Places.resume`; another greenlet takes the place of a worker that was killed."""
        if self.idle and self.waiting:
            gevent.spawn(self._replace)

    def close(self) -> None:
        """See `Places.close`."""

    def go_on(self) -> None:
        """Handle the line."""
        while self.waiting:
            self._budget.take()
            job = self._pop()
            if job is not None:
                try:
                    self._base.copy().run(self._handle, job)
                except BaseException:
                    self._salvage(job)
                    raise

    def _replace(self) -> None:
        if self.idle:
            self.idle -= 1
            try:
                self.go_on()
            except GreenletExit:
                pass
            except BaseException as error:
                self._report(error)
            finally:
                self.idle += 1
                if self.waiting:
                    self.resume()


class Spawning:
    """New greenlets, of a pool or not, which another greenlet spawns.

    Parameters
    ----------
    spawn : callable
        ``spawn(function, job)`` returns a greenlet.
    pool : gevent.pool.Pool or None
        The pool that bounds them.
    line : Line
        The jobs that wait.
    pop, handle, salvage
        As for `Workers`.
    source : Source
        Its budget counts their turns, and it reports exceptions of a spawn function.
    """

    def __init__(
        self,
        spawn: Callable[..., Any],
        pool: Pool | None,
        line: Line,
        pop: Callable[[], Job | None],
        handle: Callable[[Job], object],
        salvage: Callable[[Job], object],
        source: Source,
    ) -> None:
        self.spawn: int | None = None
        self.size = UNLIMITED if pool is None or pool.size is None else pool.size
        self._spawn = spawn
        self._pool = pool
        self._line = line
        self._pop = pop
        self._handle = handle
        self._salvage = salvage
        self._source = source
        self._budget = source._core.socket.budget
        self._back_off = BackOff(source)
        self._base = Context()
        self._wanted = Event()
        self._feeds = Lasting(self._feed)
        #: The CPU seconds that a handler took recently until it ended, or waited.
        self._pace = 1e-6
        self._has_failed = False

    def start(self, base: Context) -> None:
        """See `Places.start`."""
        self._base = base

    def begin(self, job: Job) -> bool:
        """See `Places.begin`."""
        return False

    def free(self) -> int:
        """See `Places.free`."""
        return UNLIMITED if self._pool is None else self._pool.free_count()

    def notify(self) -> None:
        """See `Places.notify`."""
        self._wanted.set()
        self._feeds.start()

    def resume(self) -> None:
        """See `Places.resume`; jobs are put back that were killed before they began."""
        for job, greenlet in reversed(list(self._line.beginning.items())):
            if getattr(greenlet, "dead", False):  # as by the pool's `kill`
                self._put_back(job)

    def close(self) -> None:
        """See `Places.close`."""
        self._feeds.kill()

    def _feed(self) -> None:
        """Spawn a greenlet for each job of the line, when the pool and the budget allow it."""
        while True:
            if not self._line.jobs:
                self._wanted.clear()
                self._wanted.wait()
            elif self._pool is not None and self._pool.full():
                self._pool.wait_available()
            elif self._budget.left <= 0 and self._budget.exhausted():
                self._budget.yield_to_io()
            else:
                self._spawn_some(min(self._room(), len(self._line.jobs), self.free()))

    def _room(self) -> int:
        """Return how many handlers would fill the rest of the socket's part."""
        return max(1, min(self._budget.left, int(self._budget.seconds_left() / self._pace)))

    def _spawn_some(self, most: int) -> None:
        self._has_failed = False
        seconds = self._budget.run_spawned(functools.partial(self._spawn_each, most))
        self.resume()
        if self._has_failed:
            gevent.sleep(self._back_off.fail())
        else:
            self._pace = max(seconds / most, 1e-6)

    def _spawn_each(self, most: int) -> None:
        """Spawn greenlets until one fails, whose job is the next one again."""
        for _ in range(most):
            job = self._pop()
            if job is None:
                continue  # it has expired
            self._line.beginning[job] = None
            try:
                # A shared pool may be full, and make this wait.
                greenlet = self._spawn(self._run, job)
                if job in self._line.beginning:
                    self._line.beginning[job] = greenlet
            except BaseException as error:
                self._has_failed = True
                self._put_back(job)
                if not isinstance(error, Exception):
                    raise
                self._source.report(error, job.message)
                return
            self._back_off.succeed()

    def _run(self, job: Job) -> None:
        try:
            # This runs after the turn of the greenlet that has spawned it.
            self._budget.take_in_turn()
        except BaseException as error:
            self._put_back(job)
            if not isinstance(error, GreenletExit):
                self._source.report(error)
            return
        if self._source.closed:  # jobs that wait are about to end with it
            self._put_back(job)
            return
        self._line.beginning.pop(job, None)
        context = self._base.copy()
        try:
            context.run(self._handle, job)
        except GreenletExit:
            self._salvage(job)
        except BaseException as error:
            self._salvage(job)
            context.run(self._source.report, error, job.message)

    def _put_back(self, job: Job) -> None:
        """Let a job that has not begun be the first in the line again."""
        if job in self._line.beginning:
            del self._line.beginning[job]
            self._line.append(job, first=True)
            self.notify()
