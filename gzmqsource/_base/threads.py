"""Native threads that a greenlet can wait for, even where threads are patched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.monkey import get_original

from gzmqsource._base.oneshot import OneShot, allocate_lock

start_thread = get_original("_thread", "start_new_thread")


class NativeThread:
    """As much of `threading.Thread` as a device needs; native even where threads are patched.

    Parameters
    ----------
    target : callable
        What it runs, without arguments.
    """

    def __init__(self, target: Callable[[], Any]) -> None:
        self.daemon = True
        #: What *target* raised.
        self.error: BaseException | None = None
        #: What *target* returned.
        self.value: Any = None
        self._target = target
        self._started = False
        self._ended = False
        self._joiners: list[OneShot] = []
        self._lock = allocate_lock()

    def start(self) -> None:
        """Start the thread."""
        self._started = True
        start_thread(self._run, ())

    def is_alive(self) -> bool:
        """Return whether the thread was started and has not ended."""
        return self._started and not self._ended

    def join(self, timeout: float | None = None) -> None:
        """Wait in the hub until the thread has ended, at most *timeout* seconds."""
        joiner = OneShot()
        with self._lock:
            if self._ended:
                return
            self._joiners.append(joiner)
        joiner.wait(timeout)

    def _run(self) -> None:
        try:
            self.value = self._target()
        except BaseException as error:
            self.error = error
        finally:
            with self._lock:
                self._ended = True
            for joiner in self._joiners:
                joiner.set(True)
