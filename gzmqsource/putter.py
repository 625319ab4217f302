"""A message that waits for room, with a sender that may be a greenlet or a native thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter
from gevent.monkey import get_original
from gevent.queue import Full

from gzmqsource.errors import SourceClosed
from gzmqsource.transfer.message import Message

# A waiting native thread must block itself, also where patching made locks cooperative.
allocate_lock = get_original("_thread", "allocate_lock")


class Putter:
    """One message on its way into a lane, and the sender that may be waiting with it.

    The lock decides between the owner's hub, which takes or refuses the message, and a sender
    whose patience ends at the same moment: exactly one of them wins.
    """

    __slots__ = ("_lock", "_outcome", "_wake", "awaited", "message")

    def __init__(self, message: Message, awaited: bool) -> None:
        self.message = message
        #: Whether a sender waits for the outcome.
        self.awaited = awaited
        self._lock = allocate_lock()
        self._outcome: str | None = None
        self._wake: Callable[[], object] | None = None

    def take(self) -> bool:
        """Accept the message; False if its sender has withdrawn it."""
        return self._decide("taken")

    def refuse(self) -> bool:
        """Turn the message away, for the outbox closes; False if its sender has withdrawn it."""
        return self._decide("refused")

    def wait(self, timeout: float | None) -> None:
        """Wait until the message is taken.

        Raises
        ------
        gevent.queue.Full
            *timeout*, in seconds, ran out; the message is withdrawn.
        SourceClosed
            The outbox was closed first.
        """
        hub = get_hub_if_exists()
        try:
            if hub is None:
                _pause_thread(self, timeout)
            else:
                _pause_greenlet(self, hub, timeout)
        finally:
            timed_out = self._decide("withdrawn")
        if timed_out:
            raise Full
        if self._outcome == "refused":
            raise SourceClosed("the source was closed while this message waited for room")

    @property
    def withdrawn(self) -> bool:
        """Whether the sender has given up."""
        return self._outcome == "withdrawn"

    def wake_with(self, wake: Callable[[], object]) -> bool:
        """Set what wakes the sender; False if the outcome is already there."""
        with self._lock:
            self._wake = wake
            return self._outcome is None

    def _decide(self, outcome: str) -> bool:
        with self._lock:
            if self._outcome is not None:
                return False
            self._outcome = outcome
            wake = self._wake
        if wake is not None and outcome != "withdrawn":
            wake()
        return True


def _pause_thread(putter: Putter, timeout: float | None) -> None:
    """Block this native thread, without its GIL."""
    gate = allocate_lock()
    gate.acquire()
    if putter.wake_with(gate.release):
        gate.acquire(True, -1 if timeout is None else timeout)


def _pause_greenlet(putter: Putter, hub: Any, timeout: float | None) -> None:
    """Block this greenlet, without its hub.

    The hub's loop runs as long as the async watcher is started, and ``send`` is the one call on it
    that another thread may make.
    """
    waiter: Waiter[object] = Waiter(hub)
    timer = None
    with hub.loop.async_() as woken:
        woken.start(waiter.switch, None)
        try:
            if timeout is not None:
                timer = hub.loop.timer(timeout)
                timer.start(waiter.switch, None)
            if putter.wake_with(woken.send):
                waiter.get()
        finally:
            if timer is not None:
                timer.close()
