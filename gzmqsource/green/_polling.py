"""`Polling`: one poll, from the first look to its answer, and the turns that it takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.deadline import Deadline
from gzmqsource._socket.budget import Budget, yield_to_io

Events = list[tuple[Any, int]]


class Polling:
    """Sockets and descriptors that are polled until one is ready or the time is over."""

    def poll(self, timeout: float | None) -> Events:
        """Return what is ready, after waiting at most *timeout* milliseconds.

        What is there beats the clock: a last look follows after the time. If all is removed while
        a greenlet waits, it waits for what comes, or until its time is over.
        """
        milliseconds = -1 if timeout is None or timeout < 0 else int(timeout)
        deadline: Deadline | None = None
        has_yielded = False
        try:
            while True:
                events = self.look()
                if not events and milliseconds and (deadline is not None or not self._is_empty):
                    if deadline is None:
                        deadline = Deadline(None if milliseconds < 0 else milliseconds / 1000)
                    left = deadline.left()
                    if left != 0:
                        self.wait(left)
                        continue
                turns = None if has_yielded or deadline is not None else _hub_turns()
                if turns is None:  # the hub has polled, or there is none
                    return events
                if turns.budget.left > 0:
                    turns.budget.spend()
                    return events
                if not turns.spend(functools.partial(_are_between_messages, events)):
                    return events
                has_yielded = True
                events = self.look_again(events)
                if events:
                    return events
        finally:
            if deadline is not None:
                self.rest()

    def wait(self, timeout: float | None) -> None:
        """Wait until a look is worthwhile, or *timeout*, in seconds, runs out."""
        raise NotImplementedError

    def rest(self) -> None:
        """Stop what `wait` has started."""
        raise NotImplementedError

    def look(self) -> Events:
        """Return what is ready now."""
        raise NotImplementedError

    def look_again(self, events: Events) -> Events:
        """Return what is ready after other greenlets have run since *events* were."""
        return self.look()

    @property
    def _is_empty(self) -> bool:
        raise NotImplementedError


def _are_between_messages(events: Events) -> bool:
    """Return whether no socket that is ready holds the rest of a message."""
    return not any(
        PlainSocket.get(socket, zmq.RCVMORE)
        for socket, _ in events
        if isinstance(socket, PlainSocket)
    )


class _HubTurns:
    """The budget of all polls of one hub, whatever they find."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.budget = Budget(hub, 5000, 0.001)

    def spend(self, may_yield: Callable[[], bool]) -> bool:
        """Count a poll, and yield to I/O when it is time; see `HubSocket.spend`."""
        has_yielded = False
        budget = self.budget
        if budget.left <= 0 and budget.exhausted():
            if gevent.getcurrent() is self.hub or not may_yield():
                return False
            budget.stops += 1
            yield_to_io(self.hub)
            budget.exhausted()
            has_yielded = True
        budget.spend()
        return has_yielded


class _Here(get_original("_thread", "_local")):  # type: ignore[misc]
    """What this thread has."""

    turns: _HubTurns | None = None


_here = _Here()


def _hub_turns() -> _HubTurns | None:
    """Return what polls in this thread count for; None without a hub, which no greenlet needs."""
    hub = get_hub_if_exists()
    turns = _here.turns
    if hub is not None and (turns is None or turns.hub is not hub):
        turns = _here.turns = _HubTurns(hub)
    return None if hub is None else turns
