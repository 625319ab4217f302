"""`MessageTracker`: waits in the hub until libzmq has finished with a zero-copy message."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original
from zmq.sugar.tracker import MessageTracker as PlainTracker

from gzmqsource._base.deadline import Deadline, check_poll_timeout
from gzmqsource._base.oneshot import OneShot

NativeEvent = get_original("threading", "Event")

_TrackerT = TypeVar("_TrackerT", bound="PlainTracker | None")


class MessageTracker(PlainTracker):
    """A `zmq.MessageTracker` whose `wait` lets other greenlets run."""

    __module__ = "gzmqsource.green"

    def wait(self, timeout: float | None = -1) -> None:
        """Wait until libzmq has finished with the message; see `zmq.MessageTracker.wait`.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None or a negative number waits forever.

        Raises
        ------
        zmq.NotDone
            *timeout* ran out.
        """
        timeout = None if timeout is False else check_poll_timeout(timeout, 1)
        if get_hub_if_exists() in (None, gevent.getcurrent()):
            super().wait(-1 if timeout is None else timeout)
            return
        deadline = Deadline(timeout)
        for event in _events_of(self):
            if not _wait_for(event, deadline.left()):
                raise zmq.NotDone


def _events_of(tracker: PlainTracker) -> Iterator[Any]:
    yield from tracker.events
    for peer in tracker.peers:
        yield from _events_of(peer)


def _wait_for(event: Any, timeout: float | None) -> bool:
    """Wait in the hub until an event is set, by any thread; return whether it is."""
    told = OneShot()
    wake = functools.partial(told.set, True)
    if not event.is_set() and timeout != 0:
        link = _native_link if isinstance(event, NativeEvent) else _gevent_link
        with link(event, wake):
            told.wait(timeout)
    return bool(event.is_set())


@contextlib.contextmanager
def _native_link(event: Any, wake: Callable[[], object]) -> Iterator[None]:
    """Have a `threading.Event` call *wake*, which replaces the lock of a waiting thread.

    pyzmq sets it in a native thread, and has no callback for that. Polling it every millisecond
    took 3 % of the CPU, and all of the CPU for a thousand greenlets.
    """
    waiter = types.SimpleNamespace(release=wake)
    condition = event._cond
    with condition:
        condition._waiters.append(waiter)
        if event.is_set():
            wake()
    try:
        yield
    finally:
        with condition, contextlib.suppress(ValueError):
            condition._waiters.remove(waiter)


@contextlib.contextmanager
def _gevent_link(event: Any, wake: Callable[[], object]) -> Iterator[None]:
    """Have gevent's event call *wake*; pyzmq has gevent's where threads are patched.

    Its own ``wait`` does not keep the loop of another thread's hub running.
    """

    def link(_: object) -> None:
        wake()

    event.rawlink(link)
    try:
        yield
    finally:
        event.unlink(link)


def cooperative(tracker: _TrackerT) -> _TrackerT:
    """Give one of pyzmq's trackers the cooperative `MessageTracker.wait`, and return it.

    It stays the same object, because a `zmq.Frame` has one tracker for all its sends. A subclass
    keeps its own ``wait``.
    """
    if type(tracker) is PlainTracker:
        tracker.__class__ = MessageTracker
    return tracker


# The result of a send is an instance of the drop-in's class, even if it was copied at once.
cooperative(zmq._FINISHED_TRACKER)
