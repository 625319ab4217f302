"""Greenlets that read and handle messages: one leads, and another when it waits in a handler."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from gevent import Greenlet, GreenletExit, getcurrent
from gevent.hub import Waiter

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.event import Event
from gzmqsource._base.repairs import Repairs, call_after
from gzmqsource._source.core import Core
from gzmqsource._source.intake import Intake
from gzmqsource._source.spawned import Spawned


class Crew:
    """Up to *size* worker greenlets, one of which takes the messages at a time.

    The leader reads, and calls the handler itself: a handler that does not wait costs neither a
    greenlet nor a switch. If it waits, which a callback of the hub detects, another worker leads:
    the one that parked last, or a new one. A worker whose handler has returned leads if no other
    does, and parks otherwise. So handlers begin in the order of the messages.

    No more messages are prefetched than there are workers for them, including the leader. With all
    workers in handlers there is no leader, and nothing is read.

    Parameters
    ----------
    core : Core
        The socket that is read.
    intake : Intake
        Reads it.
    handle : callable
        Called with each message.
    size : int or None
        The most workers; None for a single one that prefetches whole batches and handles them in
        order.
    base : contextvars.Context
        The context variables that each handler begins with.
    spawned : Spawned or None
        It handles the messages instead of *handle*, in greenlets that it spawns.
    returned : callable
        Called with the return value of *handle*, unless that is None.
    """

    def __init__(
        self,
        core: Core,
        intake: Intake,
        handle: Callable[[list[Any]], object],
        size: int | None,
        base: Context,
        spawned: Spawned | None,
        returned: Callable[[object], object],
    ) -> None:
        self._core = core
        self._intake = intake
        self._handle = handle
        self._size = size or 1
        self._prefetches = size is None
        self._base = base
        self._spawned = spawned
        self._returned = returned
        self._stoppers = core.lull.stoppers
        self._workers: set[Any] = set()
        self._leader: Any = None
        #: The workers that are in handlers.
        self._busy: set[Any] = set()
        #: Workers that wait to lead, with the waiter that wakes them; the last one parked last.
        self._parked: dict[Any, Waiter[object]] = {}
        #: The workers that a kill has reached in a handler.
        self._killed: set[Any] = set()
        self._look_scheduled = False
        #: Set when something changes for which `finish` waits.
        self._changed = Event()
        Repairs.of(core.hub).add(self)
        self._appoint()

    def finish(self, deadline: Deadline) -> bool:
        """Wait until all messages read are handled, except by handlers that are in a stop.

        Returns
        -------
        bool
            Whether that was before the deadline.
        """
        while self.is_handling or (self._core.prefetched and not self.is_stuck):
            self._changed.clear()
            if not self._changed.wait(deadline.left()):
                return False
        return True

    @property
    def is_stuck(self) -> bool:
        """Whether all workers are in a stop, so that the prefetched messages come after it."""
        return len(self._busy & self._stoppers) == self._size

    @property
    def is_busy(self) -> bool:
        """Whether a worker is in a handler, or a message is prefetched."""
        return bool(self._busy or self._core.prefetched)

    @property
    def is_handling(self) -> bool:
        """Whether a worker is in a handler that is not in a stop."""
        return not self._busy <= self._stoppers

    def note_stopper(self) -> None:
        """Have a stop check again: another handler may be in one."""
        self._changed.set()

    def kill(self) -> None:
        """Kill all workers except those in a stop, soon; nothing may be prefetched any more."""
        for worker in self._workers - self._stoppers:
            if worker in self._busy and self._spawned is None:
                self._core.hub.loop.run_callback(self._kill_handler, worker)
            else:
                worker.kill(block=False)

    def _kill_handler(self, worker: Any) -> None:
        """Kill a worker, and count its message unless the handler has ended; called in the hub."""
        if worker in self._busy and worker not in self._killed:
            self._killed.add(worker)
            self._core.count_dropped("killed", 1)
        worker.throw(GreenletExit)

    def repair(self) -> None:
        """Look for a leader, soon: a callback that was to do so may have been ended."""
        self._workers = set(filter(None, self._workers))  # those that were started, and are alive
        if self._leader not in self._workers:
            self._leader = None
        self._core.hub.loop.run_callback(self._look)

    def dismiss(self) -> None:
        """End a worker that waits to lead, if no work is left; it dismisses the next one."""
        self._changed.set()
        if self._is_over and self._parked:
            waiter = next(iter(self._parked.values()))
            self._core.hub.loop.run_callback(waiter.switch, None)

    @property
    def _is_over(self) -> bool:
        return self._intake.ending and not self._core.prefetched

    def _work(self) -> None:
        """Be a worker, whatever is raised: a handler may have left a `gevent.Timeout` running."""
        worker = getcurrent()
        while not self._is_over:
            try:
                if self._leader is None:
                    self._leader = worker
                if self._leader is worker:
                    self._lead(worker)
                else:
                    self._park(worker)
            except GreenletExit:
                raise
            except BaseException as error:
                if self._core.hub.loop is None:
                    raise  # in a hub that was destroyed, each wait would raise again
                self._core.report(error, None)
        self.dismiss()

    def _lead(self, worker: Any) -> None:
        """Read and handle messages until another worker leads, or the work is over."""
        core, intake, budget = self._core, self._intake, self._core.socket.budget
        while self._leader is worker:
            if core.prefetched or intake.take(self._room(budget.likely())):
                if budget.left <= 0 and budget.exhausted(receives=True):
                    if self._spawned is None:
                        intake.shrink()
                    budget.yield_to_io()
                else:
                    self._dispatch(worker)
            elif intake.ending:
                return
            else:
                core.lull.begin()
                core.socket.wait_readable()

    def _room(self, left: int) -> int:
        """Return how many messages may be read: no more than there are workers and *left*."""
        if self._spawned is not None:
            return self._spawned.room()
        return left if self._prefetches else min(left, self._size - len(self._busy))

    def _dispatch(self, worker: Any) -> None:
        """Handle prefetched messages, until the budget is exhausted or another worker leads."""
        core = self._core
        if self._size > 1 and not self._look_scheduled:
            core.hub.loop.run_callback(self._look)
            self._look_scheduled = True
        self._busy.add(worker)
        try:
            if self._spawned is not None:
                self._spawned.dispatch(core.prefetched)
            else:
                core.socket.shortcuts.dispatch(
                    core.prefetched, self._handle, self._failed, self._base, self._returned
                )
        finally:
            self._busy.discard(worker)
            if self._stoppers and not self.is_handling:
                core.lull.end()

    def _failed(self, error: BaseException, message: list[Any]) -> None:
        """Report a handler's exception; a kill ends its worker, whose death may be waited for."""
        if self._core.salvage is not None:
            self._core.salvage(message, error)
        if isinstance(error, GreenletExit):
            raise error
        self._core.report(error, message)

    def _look(self) -> None:
        """Let another worker lead if the leader is in a handler: as this runs in the hub, it waits.

        Prefetched messages move to a new list, so that the former leader finds none in its own.
        """
        self._look_scheduled = False
        if self._size > 1 and self._leader in self._busy:
            core, left = self._core, self._core.prefetched
            # No signal handler runs before it is clear, or a message would be handled twice.
            core.prefetched = left[:]
            self._leader = None
            left.clear()
        if self._leader is None or self._leader in self._parked:
            self._appoint()

    def _appoint(self) -> None:
        """Have a worker lead, if any work is left, and a worker that is not in a handler."""
        if self._is_over:
            self.dismiss()
        elif self._parked:
            self._leader = next(reversed(self._parked))
            self._parked[self._leader].switch(None)  # and it is not parked any more
        elif len(self._workers) < self._size:
            worker = Greenlet(self._work)
            call_after(worker, self._ended)
            self._workers.add(worker)
            worker.start()
            self._leader = worker

    def _park(self, worker: Any) -> None:
        """Wait to lead, or to be dismissed."""
        waiter = self._parked[worker] = Waiter(self._core.hub)
        try:
            waiter.get()
        finally:
            self._parked.pop(worker, None)

    def _ended(self, worker: Any) -> None:
        """Replace a worker that was killed, if necessary; called in the hub after its end."""
        self._workers.discard(worker)
        self._killed.discard(worker)
        if self._leader is worker:
            self._leader = None
        if self._leader is None:
            self._appoint()
        self._changed.set()
