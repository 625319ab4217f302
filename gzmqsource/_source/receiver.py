"""Receiving messages and dispatching them to a handler, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import zmq
from gevent import GreenletExit, getcurrent
from gevent.pool import Group, Pool

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.event import Event
from gzmqsource._source import registry
from gzmqsource._source.core import Core
from gzmqsource._source.limits import Limits

Handler = Callable[[list[Any]], object]


def spawner(spawn: object) -> tuple[Callable[..., Any] | None, Pool | None]:
    """Turn the ``spawn`` argument of a source into a spawn function and the pool that bounds it.

    Raises
    ------
    TypeError, ValueError
        It is neither None, a positive int, a pool, nor a function such as `gevent.spawn`.
    """
    if spawn is None:
        return None, None
    if isinstance(spawn, int) and not isinstance(spawn, bool):
        if spawn < 1:
            raise ValueError(f"spawn={spawn}: a pool needs at least one greenlet")
        spawn = Pool(spawn)
    if isinstance(spawn, Group):
        return spawn.spawn, spawn if isinstance(spawn, Pool) else None
    if callable(spawn):
        return spawn, None
    raise TypeError(f"spawn={spawn!r}: use None, an int, a gevent Pool, or gevent.spawn")


class Receiver:
    """The greenlet that reads, and the handlers that it dispatches to.

    Parameters
    ----------
    core : Core
        The socket that is read.
    handle : callable
        Called with each message.
    spawn : None, int, gevent.pool.Pool or callable
        Where the handler runs, see `gzmqsource.Source`.
    limits : Limits
        The tunables.
    """

    def __init__(self, core: Core, handle: Handler, spawn: object, limits: Limits) -> None:
        self._core = core
        self._handle = registry.instrumented(core, handle)
        self._spawn, self._pool = spawner(spawn)
        self._limits = limits
        self._batch = 1
        self._failures = 0
        self._paused_after = 0
        self._killed = False
        self._handlers: set[Any] = set()
        self._handler_ended = Event()
        self._ending = Event()
        self._greenlet = gevent.spawn(self._run)

    def end(self) -> None:
        """Read nothing more; what is prefetched is still dispatched."""
        self._ending.set()

    def finish(self, deadline: Deadline) -> bool:
        """Wait until everything that was read is handled, except by a handler that calls this.

        Returns
        -------
        bool
            Whether that was before the deadline.
        """
        if getcurrent() is not self._greenlet:
            self._greenlet.join(deadline.left())
            if not self._greenlet.dead:
                return False
        self._handlers = {handler for handler in self._handlers if not handler.dead}
        while len(self._handlers) > (getcurrent() in self._handlers):
            self._handler_ended.clear()
            if not self._handler_ended.wait(deadline.left()):
                return False
        return True

    def kill(self) -> int:
        """Kill the reader and the handlers that still run; return how many messages that loses."""
        self._killed = True
        victims = {handler for handler in self._handlers if not handler.dead}
        lost = len(victims)
        if not self._greenlet.dead:
            victims.add(self._greenlet)
            lost += self._spawn is None  # it is inside the handler
        for greenlet in victims - {getcurrent()}:
            self._core.hub.loop.run_callback(greenlet.throw, GreenletExit)
        return lost

    def give_up(self) -> int:
        """Drop what is prefetched; return how many messages that is."""
        self._ending.set()
        given_up = len(self._core.prefetched)
        self._core.prefetched.clear()
        return given_up

    @property
    def _is_ending(self) -> bool:
        return self._ending.is_set() or self._core.closed

    def _run(self) -> None:
        socket = self._core.socket
        while self._core.prefetched or not self._is_ending:
            if self._dispatch_all():
                socket.budget.yield_to_io()
            elif not self._is_ending:
                socket.wait_readable()

    def _dispatch_all(self) -> bool:
        """Dispatch messages; return True if the budget was exhausted before there were no more."""
        prefetched, budget = self._core.prefetched, self._core.socket.budget
        while prefetched or self._take():
            if budget.left <= 0 and budget.exhausted():
                # What is left was too much for one budget: prefetch less.
                self._batch = max(1, self._batch - len(prefetched))
                return True
            self._dispatch()
            self._back_off()
        return False

    def _take(self) -> bool:
        """Read a batch, once it can be dispatched; return False if there is none."""
        while not self._is_ending:
            self._core.resumed.wait()
            if self._pool is not None:
                self._pool.wait_available()
            if self._is_ending:
                break
            # No more than can be started: what waits for a slot of the pool waits in libzmq.
            room = min(self._batch, max(1, self._core.socket.budget.left))
            if self._pool is not None:
                room = min(room, self._pool.free_count())
            if room < 1 or not self._core.resumed.is_set():
                continue  # one has changed while this waited for the other
            prefetched = self._core.prefetched
            try:
                self._core.receive(prefetched, room)
            except (zmq.ZMQError, MemoryError) as error:
                self._failures += 1
                self._core.report(error, None)
                self._back_off()
                continue
            prefetched.reverse()
            if len(prefetched) == self._batch:
                self._batch = min(2 * self._batch, self._limits.max_batch)
            return bool(prefetched)
        return False

    def _dispatch(self) -> None:
        """Dispatch what is prefetched, up to the end of the budget or an error."""
        prefetched, shortcuts = self._core.prefetched, self._core.socket.shortcuts
        if self._spawn is not None:
            shortcuts.dispatch(prefetched, self._begin_handler)
            return
        before = len(prefetched)
        try:
            # One try around the loop: with one for each message, and a call of `_run_handler`, a
            # message of an empty handler took twice as long.
            shortcuts.dispatch(prefetched, self._handle)
        except BaseException as error:
            if before - len(prefetched) > 1:
                self._failures = 0
            self._failed(error, shortcuts.handling)
        else:
            self._failures = 0

    def _begin_handler(self, message: list[Any]) -> None:
        assert self._spawn is not None
        self._handlers.add(self._spawn(self._run_handler, message))

    def _run_handler(self, message: list[Any]) -> None:
        try:
            self._handle(message)
        except BaseException as error:
            self._failed(error, message)
        else:
            self._failures = 0
        finally:
            if self._handlers:
                self._handlers.discard(getcurrent())
                self._handler_ended.set()

    def _failed(self, error: BaseException, message: list[Any] | None) -> None:
        """Report what a handler raised; `GreenletExit` ends it without a report."""
        if not isinstance(error, GreenletExit):
            self._failures += 1
            self._core.report(error, message)
        elif self._killed:
            raise error

    def _back_off(self) -> None:
        """Pause after the second error in a row, and twice as long after each further one."""
        if self._failures > 1 and self._failures != self._paused_after:
            doublings = min(self._failures - 2, 30)
            delay = self._limits.min_delay * 2**doublings
            self._ending.wait(min(delay, self._limits.max_delay))
        self._paused_after = self._failures
