"""A value that one thread sets, and that another thread or one of its greenlets waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter
from gevent.monkey import get_original

from gzmqsource._base.hubs import wake_hub

# A waiting native thread must block itself, also where patching made locks cooperative.
allocate_lock = get_original("_thread", "allocate_lock")


class OneShot:
    """A value that is set once, or replaced, by the thread that comes first.

    The lock decides between the hub that sets an outcome and the waiter whose timeout ends at the
    same moment: exactly one of them wins.
    """

    __slots__ = ("_lock", "_wake", "value")

    def __init__(self) -> None:
        #: The value; None until it is set.
        self.value: Any = None
        self._lock = allocate_lock()
        self._wake: Callable[[], object] | None = None

    def set(self, value: object = True) -> bool:
        """Set the value and wake the waiter; return False if a value was set before."""
        return self.replace(None, value)

    def replace(self, old: object, new: object) -> bool:
        """Replace one value by another and wake the waiter; return False if it is not *old*."""
        with self._lock:
            if self.value is not old:
                return False
            try:
                self.value = new
                # Under the lock, because the waiter may be about to close the watcher that wakes
                # it.
                if self._wake is not None:
                    self._wake()
            except BaseException:  # of a signal handler, and nothing would wake the waiter later
                if self._wake is not None:
                    with contextlib.suppress(RuntimeError):  # it was woken before
                        self._wake()
                raise
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the value is set, at most *timeout* seconds; return whether it is.

        A native thread releases the GIL while it waits, and a greenlet lets its hub run.
        """
        hub = get_hub_if_exists()
        if hub is None:
            self.block(timeout)
        else:
            self._pause_greenlet(hub, timeout)
        return self.value is not None

    def block(self, timeout: float | None = None) -> None:
        """Wait as `wait` does, but block the whole thread."""
        gate = allocate_lock()
        gate.acquire()
        if self._wake_with(gate.release):
            gate.acquire(True, -1 if timeout is None else timeout)
            self._wake_with(None)

    def _wake_with(self, wake: Callable[[], object] | None) -> bool:
        """Set the function that wakes the waiter; return False if the value is already there."""
        with self._lock:
            self._wake = wake
            return self.value is None

    def _pause_greenlet(self, hub: Any, timeout: float | None) -> None:
        """Pause the greenlet; the started async watcher keeps the hub's loop running.

        Its ``send`` is the one call that another thread may make.
        """
        waiter: Waiter[object] = Waiter(hub)
        timer = None
        with hub.loop.async_() as woken:
            woken.start(waiter.switch, None)
            try:
                if timeout is not None:
                    timer = hub.loop.timer(timeout)
                    # The loop's clock stands still while a greenlet holds up the hub.
                    timer.start(waiter.switch, None, update=True)
                if self._wake_with(lambda: wake_hub(hub, woken)):
                    waiter.get()
            finally:
                self._wake_with(None)
                if timer is not None:
                    timer.close()
