"""Reading messages in batches, for the handlers."""

from __future__ import annotations

from typing import Any

import zmq

from gzmqsource._base.event import Event
from gzmqsource._source.back_off import BackOff
from gzmqsource._source.core import Core
from gzmqsource._source.limits import Limits


class Intake:
    """Reads into `Core.prefetched` as many messages as can be handled.

    Parameters
    ----------
    core : Core
        The socket that is read.
    limits : Limits
        The tunables.
    pool : gevent.pool.Pool or None
        The pool that bounds the handlers, or an object with the same methods. While it is full,
        nothing is read.
    """

    def __init__(self, core: Core, limits: Limits, pool: Any) -> None:
        #: The most messages of the next batch.
        self.batch = 1
        self._core = core
        self._limits = limits
        self._pool = pool
        self._ending = Event()
        self._back_off = BackOff(limits)

    @property
    def ending(self) -> bool:
        """Whether no more messages are read."""
        return self._ending.is_set() or self._core.closed

    @property
    def is_stuck(self) -> bool:
        """Whether all places of the pool are taken by handlers that are in a stop."""
        pool = self._pool
        return pool is not None and pool.full() and set(pool) <= self._core.lull.stoppers

    def end(self) -> None:
        """Stop reading for good."""
        self._ending.set()

    def take(self, most: int) -> bool:
        """Read a batch of up to *most* messages once there is room; return False if there is none.

        Call this while nothing is prefetched.
        """
        core, pool = self._core, self._pool
        while not self.ending:
            if not core.resumed.is_set() or (pool is not None and pool.full()):
                core.resumed.wait()
                if pool is not None:
                    pool.wait_available()
                continue
            # No more than can be started: messages wait in libzmq for a slot of the pool.
            room = self.batch if self.batch < most else most
            if pool is not None:
                room = min(room, pool.free_count())
            prefetched = core.prefetched
            try:
                core.receive(prefetched, room)
            except (zmq.ZMQError, MemoryError) as error:
                core.report(error, None)
                self._pause()
                continue
            finally:  # also if a signal handler raises
                prefetched.reverse()
            self._back_off.succeed()
            if len(prefetched) == self.batch:
                self.batch = min(2 * self.batch, self._limits.max_batch)
            return bool(prefetched)
        return False

    def shrink(self) -> None:
        """Read less at once: the messages still prefetched were too many for one budget."""
        self.batch = max(1, self.batch - len(self._core.prefetched))

    def _pause(self) -> None:
        delay = self._back_off.fail()
        if delay:
            self._ending.wait(delay)
