"""Native threads that a greenlet can wait for, even where threads are patched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original

from gzmqsource._base import fork
from gzmqsource._base.deadline import check_timeout
from gzmqsource._base.oneshot import OneShot, allocate_lock

start_thread = get_original("_thread", "start_new_thread")

_T = TypeVar("_T")


def call_in_pool(function: Callable[[], _T]) -> _T:
    """Call a function on a thread of the hub's pool, which would write the traceback of an error.

    Raises
    ------
    Exception
        That of the function, here only.
    """

    def call() -> tuple[Any, Exception | None]:
        try:
            return function(), None
        except Exception as error:
            return None, error

    value: _T
    value, error = gevent.get_hub().threadpool.apply(call)
    if error is not None:
        raise error
    return value


class NativeThread:
    """As much of `threading.Thread` as a device needs; native even where threads are patched.

    In a forked child it has ended, as has any thread of the parent.

    Parameters
    ----------
    target : callable
        The function that it runs, without arguments.
    """

    def __init__(self, target: Callable[[], Any]) -> None:
        self.daemon = True
        #: The exception that *target* raised.
        self.error: BaseException | None = None
        #: The value that *target* returned.
        self.value: Any = None
        self._target = target
        self._started = False
        self._ended = False
        self._joiners: list[OneShot] = []
        self._lock = allocate_lock()
        fork.abandon_in_child(self)

    def start(self) -> None:
        """Start the thread.

        Raises
        ------
        RuntimeError
            The interpreter is shutting down, and starts no more threads.
        """
        start_thread(self.run, ())
        self._started = True

    def run(self) -> None:
        """Call the target on the current thread; an exception that it raises is in `error`."""
        try:
            self.value = self._target()
        except BaseException as error:
            self.error = error
        finally:
            with self._lock:
                self._ended = True
                joiners = list(self._joiners)
            for joiner in joiners:
                joiner.set(True)
            # The traceback refers to this frame: the error must not refer to itself.
            del self

    def is_alive(self) -> bool:
        """Return whether the thread was started and has not ended."""
        return self._started and not self._ended

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, at most *timeout* seconds.

        A greenlet lets its hub run. The hub itself, and a thread without one, block.
        """
        timeout = check_timeout(timeout)
        joiner = OneShot()
        with self._lock:
            if self._ended:
                return
            self._joiners.append(joiner)
        try:
            if gevent.getcurrent() is get_hub_if_exists():
                joiner.block(timeout)
            else:
                joiner.wait(timeout)
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._joiners.remove(joiner)

    def abandon(self) -> None:
        """Mark it as ended in a forked child, which has none of the parent's threads."""
        self._lock = allocate_lock()
        self._ended = True
