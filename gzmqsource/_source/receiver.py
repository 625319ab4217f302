"""Receiving messages and passing them to a handler, in the greenlets that `spawn` selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import gevent
from gevent.pool import Group, Pool

from gzmqsource._base.contexts import base_context
from gzmqsource._base.deadline import Deadline
from gzmqsource._source import registry
from gzmqsource._source.core import Core
from gzmqsource._source.crew import Crew
from gzmqsource._source.handlers import Returning
from gzmqsource._source.intake import Intake
from gzmqsource._source.limits import Limits
from gzmqsource._source.spawned import Spawned
from gzmqsource.transfer.message import FrameT

__all__ = ["Handler", "Receiver", "Spawn", "spawner"]

#: Called with each message. It returns nothing, and so neither a coroutine nor a generator.
Handler: TypeAlias = "Callable[[list[FrameT]], None]"

if TYPE_CHECKING:

    class GreenletPool(Protocol):
        """A `Group` by two of its methods: mypy without gevent's types takes that for anything."""

        @property
        def spawn(self) -> Callable[..., Any]: ...

        @property
        def killone(self) -> Callable[..., Any]: ...


#: Where a handler runs. A spawn function is called with a function and its one argument.
Spawn: TypeAlias = "int | GreenletPool | Callable[[Callable[[Any], Any], Any], object] | None"


def spawner(spawn: Spawn) -> tuple[Callable[..., Any] | None, Pool | None]:
    """Turn the ``spawn`` argument of a source into a spawn function and the pool that bounds it.

    Both are None if *spawn* is None or a number.

    Raises
    ------
    TypeError, ValueError
        It is not None, a positive int, a pool, or a function such as `gevent.spawn`.
    """
    if spawn is None:
        return None, None
    if isinstance(spawn, int) and not isinstance(spawn, bool):
        if spawn < 1:
            raise ValueError(f"spawn={spawn}: at least one greenlet is needed")
        return None, None
    if isinstance(spawn, Group):
        return spawn.spawn, spawn if isinstance(spawn, Pool) else None
    if callable(spawn):
        return spawn, None
    raise TypeError(f"spawn={spawn!r}: use None, an int, a gevent Pool, or gevent.spawn")


class Receiver:
    """Reads a source, and runs the handlers of the messages.

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

    def __init__(
        self, core: Core, handle: Callable[..., object], spawn: Spawn, limits: Limits
    ) -> None:
        returned = Returning(core, handle)
        handle = registry.instrumented(core, handle)
        # gevent's greenlets begin with an empty context: so a handler has the same one everywhere.
        base = base_context()
        function, pool = spawner(spawn)
        self._core = core
        self._spawned: Spawned | None = None
        if function is not None:
            self._spawned = Spawned(core, handle, function, base, limits, returned)
        self._intake = Intake(core, limits, pool if core.gate is None else core.gate)
        size = spawn if isinstance(spawn, int) else None
        self._crew = Crew(core, self._intake, handle, size, base, self._spawned, returned)

    def end(self) -> None:
        """Stop reading for good; prefetched messages are still handled."""
        self._intake.end()
        self._crew.dismiss()

    def finish(self, deadline: Deadline) -> bool:
        """Wait until all messages read are handled, except by handlers that are in a stop.

        Returns
        -------
        bool
            Whether that was before the deadline.
        """
        crew, spawned = self._crew, self._spawned
        while crew.finish(deadline):
            if spawned is None:
                return True
            if not spawned.finish(deadline):
                return False
            if not self._core.prefetched or crew.is_stuck:
                return True
            crew.repair()  # they were handed back, perhaps after the reader has ended
        return False

    @property
    def is_busy(self) -> bool:
        """Whether a message that was read is not handled yet."""
        spawned = self._spawned
        return self._crew.is_busy or (spawned is not None and spawned.is_busy)

    @property
    def is_handling(self) -> bool:
        """Whether a handler runs that is not in a stop."""
        return self._crew.is_handling or (self._spawned is not None and self._spawned.is_handling)

    def is_stuck(self) -> bool:
        """Return whether nothing is read because all possible handlers are in a stop."""
        if self._spawned is None:
            return self._crew.is_stuck
        return self._intake.is_stuck

    def note_stopper(self) -> None:
        """Have a stop check again: another handler may be in one."""
        self._crew.note_stopper()
        if self._spawned is not None:
            self._spawned.note_stopper()

    def kill(self) -> None:
        """Kill the handlers that still run, except those in a stop.

        Prefetched messages are dropped, and counted. A handler's message is counted once the kill
        reaches the handler, which may have ended by then; this returns after that.
        """
        self._core.count_dropped("unhandled", self.give_up())
        self._crew.kill()
        if self._spawned is not None:
            self._spawned.kill()
            gevent.sleep(0)  # the reader may spawn one more before it is killed
        gevent.sleep(0)  # the hub makes the kills before

    def give_up(self) -> int:
        """Drop the prefetched messages; return how many there were."""
        given_up = len(self._core.prefetched)
        self._core.prefetched.clear()
        self.end()
        return given_up
