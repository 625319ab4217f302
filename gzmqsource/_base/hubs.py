"""The hub of another thread, which may be destroyed, or end with its thread, at any moment.

gevent ends nothing when a thread ends. Unless the thread destroys its hub, the hub and everything
in it wait forever. Here each thread that has a hub has a `_ThreadEnd` among its variables, which
Python deletes in that thread when it ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from gevent._ffi.callback import callback  # type: ignore[import-not-found]
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original

from gzmqsource._base.repairs import Repairs

allocate_rlock = get_original("_thread", "RLock")


class Ending(Protocol):
    """An object that belongs to a hub, and ends with the thread."""

    def thread_ended(self) -> None:
        """Release its resources, in the thread that ends; no greenlet runs there any more."""


def can_run(hub: Any) -> bool:
    """Return whether a hub still exists, and its thread has not ended."""
    # Not by the thread's identifier, which another thread may have by now.
    return hub.loop is not None and not hub.dead and hub not in _over


def idle_for(hub: Any) -> float:
    """Return the seconds for which this thread's hub has not polled: something else has run."""
    loop = hub.loop
    if loop is None or hub is not get_hub_if_exists():
        return 0.0  # that of another thread may have nothing to do
    # libuv's loops count by the monotonic clock, libev's by that of the day.
    now: float = loop.now()
    clock = time.monotonic if type(loop).__module__.startswith("gevent.libuv") else time.time
    return max(0.0, clock() - now)


def call_in_hub(hub: Any, function: Callable[..., object], *args: object) -> bool:
    """Have a hub call a function, soon; any thread may call this.

    Returns
    -------
    bool
        False if the hub does not run any more, or is being destroyed: the function is not called.
    """
    loop = hub.loop
    if not can_run(hub):
        return False
    calls: HubCalls | None = vars(hub).get("gzmqsource_calls")
    if calls is not None and calls.add(loop, function, args):
        return True
    return _reaches(_schedule, loop, function, args)


def wake_hub(hub: Any, watcher: Any) -> bool:
    """Send to an async watcher of a hub, from any thread; return False if the hub is destroyed."""
    return hub.loop is not None and _reaches(watcher.send)


def end_with_thread(ending: Ending, hub: Any) -> None:
    """Have this thread call ``ending.thread_ended()`` when it ends, if *ending* is alive then.

    Parameters
    ----------
    ending : Ending
        The object that ends with it.
    hub : gevent.hub.Hub
        The hub of this thread.
    """
    end = _here.end
    if end is None:
        end = _here.end = _ThreadEnd()
    end.hubs.add(hub)
    end.all.add(ending)


class HubCalls:
    """The calls that other threads make into a hub that has sockets, taken over in its thread.

    gevent itself counts a call in the other thread. At the same time libev counts its watchers
    without the GIL, and one of the two updates may be lost: at zero the loop ends, whatever waits.
    Beside 300 timers, two threads that call all the time caused that within seconds.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of this thread.
    """

    def __init__(self, hub: Any) -> None:
        self._loop = hub.loop
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        # A finaliser may call, too, while its own thread is in here.
        self._lock = allocate_rlock()
        self._watcher: Any = None
        # Those that the loop is about to make, in order.
        self._begun: dict[int, tuple[Callable[..., object], tuple[object, ...]]] = {}
        hub.gzmqsource_calls = self
        Repairs.of(hub).add(self)

    def open(self) -> None:
        """Take over calls from now on; a loop over cffi has a watcher of its own for that."""
        if self._watcher is None and not _has_own(self._loop):
            watcher = self._loop.async_(ref=False)
            watcher.start(self._take_over)
            self._watcher = watcher

    def close(self) -> None:
        """Stop taking over; the calls that are queued are made."""
        with self._lock:
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            _reaches(watcher.close)
            _reaches(self._take_over)

    def add(self, loop: Any, function: Callable[..., object], args: tuple[object, ...]) -> bool:
        """Have a function called, soon; return False if that loop takes over no calls."""
        call = function, args
        with self._lock:
            if self._watcher is None or self._loop is not loop:
                return False
            self._calls.append(call)
            if _reaches(self._watcher.send):
                return True
            with contextlib.suppress(IndexError):
                self._calls.pop()
            return False

    def repair(self) -> None:
        """Make once more each call that an exception may have ended: it may come a second time."""
        begun, self._begun = self._begun, {}
        for function, args in begun.values():
            self._loop.run_callback(function, *args)
        self._take_over()

    def _take_over(self) -> None:
        while self._calls:
            call = self._calls[0]
            self._begun[id(call)] = call
            self._loop.run_callback(self._make, call)
            # Last: a call that has begun twice is made once.
            self._calls.popleft()

    def _make(self, call: tuple[Callable[..., object], tuple[object, ...]]) -> None:
        if id(call) in self._begun:
            function, args = call
            function(*args)
            self._begun.pop(id(call), None)


#: The hubs whose threads are over.
_over: weakref.WeakSet[Any] = weakref.WeakSet()


class _ThreadEnd:
    """A variable of a thread, with the objects that end when it is deleted."""

    def __init__(self) -> None:
        self.hubs: weakref.WeakSet[Any] = weakref.WeakSet()
        self.all: weakref.WeakSet[Ending] = weakref.WeakSet()
        self._pid = os.getpid()

    def __del__(self) -> None:
        # A forked child deletes the variables of the threads that it does not have, before all
        # else. And at the end of the interpreter, the main thread's are deleted.
        if sys.is_finalizing() or self._pid != os.getpid():
            return
        _over.update(self.hubs)
        with contextlib.ExitStack() as stack:
            for each in self.all:
                stack.callback(each.thread_ended)


class _Here(get_original("_thread", "_local")):  # type: ignore[misc]
    """The variables of this thread."""

    end: _ThreadEnd | None = None


_here = _Here()


def _has_own(loop: Any) -> bool:
    return hasattr(loop, "_threadsafe_async")


def _schedule(loop: Any, function: Callable[..., object], args: tuple[object, ...]) -> None:
    if _has_own(loop):
        # `run_callback_threadsafe` of a loop over cffi also starts a watcher, in this thread: if
        # libuv's is just being destroyed, the process crashes (in 10 of 25 runs that tried).
        loop._callbacks.append(callback(_call_in, (loop, function, args)))
        loop._threadsafe_async.send()
    else:
        loop.run_callback_threadsafe(function, *args)


def _call_in(loop: Any, function: Callable[..., object], args: tuple[object, ...]) -> None:
    # libev's loop subtracts one for each callback, which was not added by the caller: at zero it
    # ends, whatever waits.
    loop.ref()
    function(*args)


def _reaches(call: Callable[..., object], *args: object) -> bool:
    """Call a loop that may have been destroyed since it was looked at.

    Each loop then raises a different exception: libev's `ValueError`, libuv's `AttributeError`,
    `TypeError`, `AssertionError` or `Exception`.
    """
    try:
        call(*args)
    except MemoryError:
        raise
    except Exception:
        return False
    return True
