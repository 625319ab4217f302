"""Handlers in their own greenlets, of a pool or not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Context
from typing import Any

import gevent
from gevent import GreenletExit, getcurrent
from greenlet import greenlet

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.event import Event
from gzmqsource._base.repairs import call_after
from gzmqsource._source.back_off import BackOff
from gzmqsource._source.core import Core, State
from gzmqsource._source.limits import Limits


class Spawned:
    """The handlers that a spawn function runs.

    Parameters
    ----------
    core : Core
        The socket whose messages are handled.
    handle : callable
        Called with each message.
    spawn : callable
        ``spawn(function, message)`` returns a greenlet.
    base : contextvars.Context
        The context variables that each handler begins with.
    limits : Limits
        The tunables.
    returned : callable
        Called with the return value of *handle*, unless that is None.
    """

    def __init__(
        self,
        core: Core,
        handle: Callable[[list[Any]], object],
        spawn: Callable[..., Any],
        base: Context,
        limits: Limits,
        returned: Callable[[object], object],
    ) -> None:
        self._core = core
        self._handle = handle
        self._spawn = spawn
        self._base = base
        self._returned = returned
        self._back_off = BackOff(limits)
        #: The CPU seconds that a handler took recently until it ended, or waited.
        self._pace = 1e-6
        #: The greenlets that have not ended, each with its message until the handler begins.
        self._handlers: dict[Any, list[list[Any]]] = {}
        self._handler_ended = Event()
        #: Those that a kill has reached.
        self._killed: set[Any] = set()
        self._was_killed = False
        #: Whether a greenlet has ended before it began, since the reader has last paused for one.
        self._has_failed = False

    def room(self) -> int:
        """Return how many handlers would fill the rest of the socket's part, or the next part."""
        budget = self._core.socket.budget
        if budget.left <= 0:
            return max(1, int(budget.shared.length / 2 / self._pace))
        return max(1, min(budget.left, int(budget.seconds_left() / self._pace)))

    def dispatch(self, messages: list[list[Any]]) -> None:
        """Spawn the handlers of *messages*, and wait until each has begun."""
        count = len(messages)
        spawned: list[tuple[Any, list[list[Any]]]] = []
        try:
            seconds = self._core.socket.budget.run_spawned(
                functools.partial(self._spawn_each, messages, spawned)
            )
            for handler, ticket in reversed(spawned):
                if ticket:
                    self._follow(ticket, handler)
        except BaseException:
            self._core.hub.loop.run_callback(self._settle)
            raise
        if messages or self._has_failed:
            self._has_failed = False
            gevent.sleep(self._back_off.fail())
        else:
            self._pace = max(seconds / count, 1e-6)

    def _spawn_each(
        self, messages: list[list[Any]], spawned: list[tuple[Any, list[list[Any]]]]
    ) -> None:
        """Spawn handlers until one fails, whose message is the next one again."""
        message: list[Any] = []
        ticket: list[list[Any]] = []
        try:
            while messages:
                message = messages.pop()
                ticket = [message]
                # A shared pool may be full again, and make this wait.
                handler = self._spawn(functools.partial(self._run, ticket), message)
                if isinstance(handler, greenlet) and (ticket or not handler.dead):
                    spawned.append((handler, ticket))
                    self._handlers[handler] = ticket
                    if self._was_killed:  # while this waited for the pool
                        self._kill_soon(handler)
        except BaseException as error:
            if self._was_killed:
                self._core.count_dropped("killed", 1)
            else:
                # A signal handler may have raised once there was a greenlet: it has no ticket then.
                # No other one runs between these two.
                messages += ticket
                del ticket[:]
            if not isinstance(error, Exception):
                raise
            self._core.report(error, message)

    def _settle(self) -> None:
        """Forget the handlers that have ended, and hand the messages back of those unbegun."""
        for handler, ticket in reversed(list(self._handlers.items())):
            self._follow(ticket, handler)

    def _follow(self, ticket: list[list[Any]], handler: Any) -> None:
        """Hand a message back if its greenlet ends, or has ended, before `_run` began."""
        if handler.dead:
            self._end_unbegun(ticket, handler)
        elif ticket and isinstance(handler, gevent.Greenlet):  # it begins later
            call_after(handler, functools.partial(self._end_unbegun, ticket))

    def finish(self, deadline: Deadline) -> bool:
        """Wait for the handlers, except those that are in a stop.

        Returns
        -------
        bool
            Whether they ended before the deadline.
        """
        self._settle()
        while not self._handlers.keys() <= self._core.lull.stoppers:
            self._handler_ended.clear()
            if not self._handler_ended.wait(deadline.left()):
                return False
        return True

    @property
    def is_busy(self) -> bool:
        """Whether a handler runs, or is yet to be begun."""
        return any(ticket or not each.dead for each, ticket in self._handlers.items())

    @property
    def is_handling(self) -> bool:
        """Whether a handler runs that is not in a stop."""
        stoppers = self._core.lull.stoppers
        handlers = self._handlers.items()
        return any((ticket or not each.dead) and each not in stoppers for each, ticket in handlers)

    def note_stopper(self) -> None:
        """Have a stop check again: another handler may be in one."""
        self._handler_ended.set()

    def kill(self) -> None:
        """Kill the handlers that still run, except those that are in a stop, soon."""
        self._was_killed = True
        for handler in self._handlers.keys() - self._core.lull.stoppers:
            self._kill_soon(handler)

    def _kill_soon(self, handler: Any) -> None:
        self._core.hub.loop.run_callback(self._kill_handler, handler)

    def _kill_handler(self, handler: Any) -> None:
        """Kill a handler, and count its message, unless it has ended; called in the hub."""
        if handler.dead:
            self._end_unbegun(self._handlers.get(handler, []), handler)
            return
        if handler not in self._killed:
            self._killed.add(handler)
            self._core.count_dropped("killed", 1)
        handler.throw(GreenletExit)

    def _run(self, ticket: list[list[Any]], message: list[Any]) -> None:
        """Handle a message; the greenlet that takes its ticket is the one that does."""
        context: Context | None = None
        try:
            if not ticket:
                return
            del ticket[:]
            # This runs after the turn of the greenlet that read the message.
            self._core.socket.budget.take_in_turn()
            self._back_off.succeed()
            context = self._base.copy()
            value = context.run(self._handle, message)
            if value is not None:
                self._returned(value)
        except BaseException as error:
            if context is None:
                self._put_back(error, message)
            elif not isinstance(error, GreenletExit):
                context.run(self._core.report, error, message)
        finally:
            self._note_end(getcurrent())

    def _put_back(self, error: BaseException, message: list[Any]) -> None:
        """Hand a message back whose handler has not begun."""
        if not isinstance(error, GreenletExit):
            self._core.report(error, None)
        if self._may_hand_back(getcurrent()):
            self._core.prefetched.append(message)
            self._wake_reader()

    def _end_unbegun(self, ticket: list[list[Any]], handler: Any) -> None:
        """Hand the message back, if any, of a greenlet that has ended before `_run` began.

        It was killed, or a signal handler has raised before the first line.
        """
        if ticket:
            self._has_failed = True
            if self._may_hand_back(handler):
                self._core.prefetched += ticket
            # Without a call in between, or a signal handler might have it handled twice.
            del ticket[:]
            self._wake_reader()
        self._note_end(handler)

    def _may_hand_back(self, handler: Any) -> bool:
        """Return whether the source goes on with the message of a handler; if not, count it."""
        if self._was_killed:
            if handler not in self._killed:
                self._core.count_dropped("killed", 1)
        elif self._core.state is State.CLOSED:
            self._core.count_dropped("unhandled", 1)
        else:
            return True
        return False

    def _wake_reader(self) -> None:
        """Have the reader spawn greenlets for the messages handed back."""
        readers = self._core.socket.readiness.readers
        self._core.hub.loop.run_callback(readers.wake, 1)

    def _note_end(self, handler: Any) -> None:
        self._handlers.pop(handler, None)
        self._killed.discard(handler)
        self._handler_ended.set()
        if self._core.lull.stoppers and not self.is_handling:
            self._core.lull.end()
