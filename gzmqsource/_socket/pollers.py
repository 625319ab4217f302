"""`Pollers`: the sets that poll one socket."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from gzmqsource._base.turns import Each, in_turns


class Pollable(Protocol):
    """A socket in a set that is polled."""

    #: The bits of ``ZMQ_EVENTS`` that are polled for.
    mask: int

    @property
    def is_waiting(self) -> bool:
        """Whether a greenlet waits."""

    def mark_stale(self) -> None:
        """Note that a call may have changed the events, and has consumed the edge."""

    def wake(self) -> None:
        """Make the first greenlet that waits look again, soon."""

    def wake_now(self) -> None:
        """Make the first greenlet that waits look again; this is called in the hub."""

    def wake_all(self) -> None:
        """Make all greenlets that wait look again, soon."""

    def unwatch(self) -> None:
        """Stop watching the descriptor: it is about to be closed, or used in another hub."""

    def abandon(self) -> None:
        """Stop the inherited watchers in a forked child, without waking a greenlet."""


class Pollers(dict[Pollable, None]):
    """The sets that poll one socket; each can leave without a search.

    Those that *queue* do so while a greenlet waits in them. An event wakes the first of them, in
    FIFO order, and when that one leaves, it has the socket looked at again for the next one. So a
    message that one of 16,000 takes costs the same as with two, and a message that none takes wakes
    all.

    The others *watch* the descriptor themselves, whether a greenlet waits or not. They are woken by
    each event, and are notified of each call that may have changed the events. One that is dropped
    leaves at any moment, as the garbage collector runs at any moment: each loop is over a copy.
    """

    __slots__ = ("_queues", "_watching")

    def __init__(self) -> None:
        super().__init__()
        #: By the bit of ``ZMQ_EVENTS`` that is polled for.
        self._queues: dict[int, OrderedDict[Pollable, None]] = {}
        self._watching: dict[Pollable, None] = {}

    @property
    def waiting(self) -> int:
        """How many sets have a greenlet that waits."""
        return self.queued + sum(poller.is_waiting for poller in list(self._watching))

    @property
    def queued(self) -> int:
        """How many sets queue."""
        return len(self) - len(self._watching)

    def queue(self, poller: Pollable) -> None:
        """Add a set in which a greenlet waits."""
        self[poller] = None
        mask = poller.mask
        while mask:
            bit = mask & -mask
            self._queues.setdefault(bit, OrderedDict())[poller] = None
            mask -= bit

    def watch(self, poller: Pollable) -> None:
        """Add a set that watches the descriptor itself."""
        self[poller] = self._watching[poller] = None

    def discard(self, poller: Pollable) -> None:
        """Remove a set, if it is here."""
        if self.pop(poller, self) is self:
            return
        self._watching.pop(poller, None)
        for queue in self._queues.values():
            queue.pop(poller, None)

    def mark_stale(self) -> None:
        """Note a call that may have changed the events."""
        for poller in list(self._watching):
            poller.mark_stale()

    def wake(self, events: int) -> None:
        """Make the sets look again, soon, that have their turn according to *events*."""
        for poller in list(self._watching):
            if events & poller.mask:
                poller.wake()
        for bit, queue in self._queues.items():
            if queue and events & bit:
                next(iter(queue)).wake()

    def wake_all(self, hub: Any) -> None:
        """Make all greenlets look again, soon and in turns of the hub."""
        self.mark_stale()
        if self:
            in_turns(hub, Each(_wake_all_of, list(self)))

    def unwatch(self) -> None:
        """Stop watching the descriptor: it is about to be closed, or used in another hub."""
        for poller in list(self._watching):
            poller.unwatch()


def _wake_all_of(poller: Pollable) -> None:
    poller.wake_all()
