"""`Polling`: one poll, from the first look to its answer, and the turns that it takes."""

from __future__ import annotations

import functools
from typing import Any

import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.deadline import Deadline
from gzmqsource._socket.budget import Budget
from gzmqsource.green._shared import known_socket

Events = list[tuple[Any, int]]


class Polling:
    """Sockets and descriptors that are polled until one is ready or the time is over."""

    def poll(self, timeout: float | None) -> Events:
        """Return the ready entries, after waiting at most *timeout* seconds.

        An event counts more than the clock: a last look follows after the time. If all entries are
        removed while a greenlet waits, or yields, it waits for new ones, or until its time is over.
        """
        deadline: Deadline | None = None
        ends: Deadline | None = None  # if it yielded before it had to wait
        before: Events | None = None  # what was ready when it yielded
        try:
            while True:
                events = self.look()
                if (
                    not events
                    and timeout != 0
                    and (deadline is not None or before or not self._is_empty)
                ):
                    again = deadline is not None
                    if deadline is None:
                        deadline = ends or Deadline(timeout)
                    left = deadline.left()
                    if left != 0:
                        self.wait(left, again)
                        continue
                has_polled = before is not None or deadline is not None
                budget = None if has_polled else _budget_of(events)
                if budget is None:  # the hub has polled, or there is none
                    return events

                def time_left() -> float | None:
                    nonlocal ends
                    ends = Deadline(timeout)
                    return ends.left()

                may_yield = functools.partial(_are_between_messages, events)
                if not budget.take(may_yield, receives=True, left=time_left):
                    return events
                before = events
                events = self.look_again(before)
                if events:
                    return events
        finally:
            if deadline is not None:
                self.rest()

    def wait(self, timeout: float | None, again: bool) -> None:
        """Wait until a look is worthwhile, or *timeout*, in seconds, runs out.

        *again* means that the greenlet has waited and found nothing. It keeps its place.
        """
        raise NotImplementedError

    def rest(self) -> None:
        """Stop the watchers that `wait` has started."""
        raise NotImplementedError

    def look(self) -> Events:
        """Return the entries that are ready now."""
        raise NotImplementedError

    def look_again(self, events: Events) -> Events:
        """Return the ready entries, after other greenlets have run since *events* were ready."""
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


class _Here(get_original("_thread", "_local")):  # type: ignore[misc]
    """The variables of this thread."""

    budget: Budget | None = None


_here = _Here()


def _budget_of(events: Events) -> Budget | None:
    """Return the budget of the first socket that is ready, or of all descriptors.

    None without a hub, where no greenlet needs one.
    """
    hub = get_hub_if_exists()
    if hub is None:
        return None
    if events and isinstance(events[0][0], PlainSocket):
        shared = known_socket(events[0][0])
        if shared is not None and shared.hub is hub and not shared.is_over:
            return shared.budget
    budget = _here.budget
    if budget is None or budget.hub is not hub:
        budget = _here.budget = Budget(hub, 5000, 0.001)
        budget.shared.leave()  # only sockets keep the hub's slice
    return budget
