"""`PollSet`: sockets and descriptors that are polled together in one hub."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.hub import get_hub
from zmq.backend import zmq_poll as plain_poll
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base import fork
from gzmqsource._base.hubs import can_run
from gzmqsource._base.repairs import Repairs
from gzmqsource._base.waiters import Waiters
from gzmqsource.green._edges import Edges, edges_of
from gzmqsource.green._polling import Events, Polling
from gzmqsource.green._shared import known_socket, rechecks_itself, shared_socket
from gzmqsource.green._watched import Descriptor, Watched


class PollSet(Polling):
    """Sockets and descriptors that are polled together in one hub.

    A green socket is looked at only if its events may have changed: it was ready at the last look,
    a call was made on it, or its descriptor has had an edge. The descriptors of many sockets are in
    `Edges`, so that one watcher and one system call serve all of them. With 100 sockets, each
    socket that is not looked at saves 0.6 us. Without an epoll set, each socket has a watcher and
    is looked at.

    The other watchers run from the first wait of a greenlet until `rest`. In between, only watchers
    of sockets that come, go or change are started or stopped.

    Parameters
    ----------
    sockets : iterable of (socket, mask)
        Sockets, plain or green, descriptors, and objects with a ``fileno``; each of them once.

    Raises
    ------
    InvalidThreadUseError
        Greenlets of another thread's hub wait on one of the sockets.
    """

    #: The most sockets that have watchers of their own.
    few = 4

    #: Seconds after which plain sockets are looked at again: their calls are not rechecked, and
    #: each of them may consume the edge.
    interval = 0.1

    def __init__(self, sockets: Iterable[tuple[Any, int]]) -> None:
        self._hub = get_hub()
        self._made_in = fork.generation
        self._registrations: dict[Any, _Registration] = {}
        self._descriptors: dict[Any, Descriptor] = {}
        #: The errors of sockets that were already closed when they were added, or whose context had
        #: ended.
        self._refused: dict[Any, zmq.ZMQError] = {}
        self._stale: dict[_Registration, None] = {}
        #: Plain sockets, whose calls are not rechecked.
        self._opaque: dict[_Registration, None] = {}
        self._edges: Edges | None = None
        self._may_have_edges = Edges.exist
        self._waiters = Waiters()
        #: How many greenlets poll: they wait, or have yielded.
        self._polls = 0
        self._is_watching = False
        #: The entries that have come or changed since the watchers were started.
        self._unwatched: dict[Watched, None] = {}
        self._wake_scheduled = False
        self._order = itertools.count()
        self._repairs = Repairs.of(self._hub)
        self._repairs.add(self)
        try:
            for socket, mask in sockets:
                self.put(socket, mask)
        except BaseException:
            self.close()
            raise

    @property
    def is_here(self) -> bool:
        """Whether it was made in this process, and in the hub of the current thread."""
        return get_hub_if_exists() is self._hub and self._made_in == fork.generation

    @property
    def is_valid(self) -> bool:
        """Whether a greenlet polls, or no socket was closed, or used in another hub, since then."""
        # Other sockets are marked as stale by that.
        entries = self._registrations.values() if self._edges is None else self._stale
        return self._polls > 0 or all(
            known_socket(entry.socket) is entry.shared for entry in entries
        )

    @property
    def is_waiting(self) -> bool:
        """Whether a greenlet waits, and its hub and thread can still wake it."""
        return bool(self._waiters) and self._made_in == fork.generation and can_run(self._hub)

    def poll(self, timeout: float | None) -> Events:
        """See `Polling.poll`."""
        self._polls += 1
        try:
            return super().poll(timeout)
        finally:
            self._polls -= 1

    def put(self, socket: Any, mask: int) -> None:
        """Add a socket or a descriptor, or replace its mask."""
        if not isinstance(socket, PlainSocket):
            self._put_descriptor(socket, mask)
        elif socket in self._registrations:
            self._change_mask(self._registrations[socket], mask)
        else:
            self._put_socket(socket, mask)
        self.wake()

    def remove(self, socket: Any) -> None:
        """Remove a socket or a descriptor, which may be closed at once."""
        self._refused.pop(socket, None)
        removed = self._descriptors.pop(socket, None) or self._remove_socket(socket)
        if removed is not None:
            removed.stop()
            self._unwatched.pop(removed, None)

    def wait(self, timeout: float | None, again: bool) -> None:
        """See `Polling.wait`; `rest` follows."""
        io = self._hub.loop.io
        self._repairs.begin()
        if len(self._registrations) > self.few:
            self._gather_edges()
        unwatched = self._unwatched if self._is_watching else self._watched()
        self._is_watching = True
        if self._edges is not None:
            self._edges.start(self)
        for watched in unwatched:
            watched.start(io, self.wake_now)
        self._unwatched.clear()
        if self._opaque:
            timeout = self.interval if timeout is None else min(timeout, self.interval)
        self._waiters.wait(self._hub, timeout, first=again)

    def rest(self) -> None:
        """Stop the watchers unless another greenlet waits, which has its turn now."""
        if self._waiters:
            self.wake()
        elif self._is_watching:
            self._unwatch()

    def mark_stale(self, entry: _Registration) -> None:
        """Include a socket in the next look."""
        self._stale[entry] = None

    def wake(self) -> None:
        """Make the first greenlet that waits look again, soon."""
        if self._waiters and not self._wake_scheduled:
            self._wake_scheduled = True
            self._hub.loop.run_callback(self.wake_now)

    def wake_now(self) -> None:
        """Make the first greenlet that waits look again; call this in the hub."""
        self._wake_scheduled = False
        self._waiters.wake(1)

    def wake_all(self) -> None:
        """Make all greenlets that wait look again, soon."""
        self._waiters.wake_all()

    def repair(self) -> None:
        """Make the first greenlet look at all again, soon, and start its watchers again."""
        if self.is_waiting:
            self._stale.update(dict.fromkeys(self._registrations.values()))
            for descriptor in self._descriptors.values():
                descriptor.stop()  # libev has stopped the watcher of a callback that has raised
                self._unwatched[descriptor] = None
            self._hub.loop.run_callback(self.wake_now)

    def stop_edges(self, entry: _Registration) -> None:
        """Stop watching the descriptor of a socket, unless it now belongs to another one."""
        entry.stop()
        if self._edges is not None:
            self._edges.discard(entry)

    def abandon(self) -> None:
        """Stop the inherited watchers in a forked child; see `Readiness.abandon`."""
        self._waiters.clear()
        if self._hub.loop is not None:
            self._hub.loop.run_callback(self._unwatch)

    def close(self) -> None:
        """Release the sockets, and leave no reference cycle."""
        if self._is_watching and self.is_here:
            self._unwatch()
        for entry in self._registrations.values():
            entry.leave()
        if self._edges is not None:
            self._edges.leave(self, self._registrations.values())
            self._edges = None
        for held in (self._registrations, self._stale, self._opaque, self._unwatched):
            held.clear()

    def _put_descriptor(self, key: Any, mask: int) -> None:
        descriptor = self._descriptors.get(key)
        if descriptor is None:
            descriptor = self._descriptors[key] = Descriptor(key, mask, next(self._order))
        else:
            descriptor.stop()
            descriptor.mask = mask
        self._unwatched[descriptor] = None

    def _put_socket(self, socket: PlainSocket[Any], mask: int) -> None:
        try:
            entry = _Registration(self, socket, mask, next(self._order))
        except zmq.ZMQError as error:  # for the greenlets that poll, as with pyzmq
            self._refused[socket] = error.with_traceback(None)  # which refers to this set
            return
        if self._edges is not None:
            self._edges.add(entry)
        self._registrations[socket] = entry
        self._stale[entry] = None
        if not rechecks_itself(socket):
            self._opaque[entry] = None
        if self._edges is not None:
            entry.shared.readiness.pollers.watch(entry)
        else:
            self._unwatched[entry] = None

    def _change_mask(self, entry: _Registration, mask: int) -> None:
        self._stale[entry] = None
        if self._edges is None:
            entry.stop()  # it queues for its mask
            self._unwatched[entry] = None
        entry.mask = int(mask)

    def _remove_socket(self, socket: Any) -> _Registration | None:
        entry = self._registrations.pop(socket, None)
        if entry is not None:
            self.stop_edges(entry)
            entry.leave()
            self._stale.pop(entry, None)
            self._opaque.pop(entry, None)
        return entry

    def look(self) -> Events:
        """See `Polling.look`."""
        for error in self._refused.values():
            raise type(error)(error.errno)
        stale = self._stale
        ready: Events = []
        for entry in self._due():
            readiness = entry.shared.readiness
            if entry.socket._closed or readiness.closed:
                raise zmq.ZMQError(zmq.ENOTSOCK)
            try:
                events = entry.shared.transfer.events()
            except zmq.ZMQError:
                readiness.recheck()  # this has consumed the edge for which the others wait
                raise
            pollers = readiness.pollers
            others = readiness.readers or readiness.writers or len(pollers) > (entry in pollers)
            is_ready = events & entry.mask
            if others or self._waiters:  # this has consumed their edge
                if is_ready:
                    readiness.recheck()  # for the events that this greenlet leaves
                else:
                    readiness.notify(events)
            if self._edges is not None:
                self._edges.listen(entry.fd)
            if is_ready:
                ready.append((entry.socket, is_ready))
                stale[entry] = None
            else:
                stale.pop(entry, None)
        if not self._descriptors:
            return ready
        items = [(key, descriptor.mask) for key, descriptor in self._descriptors.items()]
        found: Events = plain_poll(items, 0)
        return self._in_order(ready, found) if ready and found else ready or found

    def _due(self) -> Iterable[_Registration]:
        """Return the sockets to look at, in their order."""
        if len(self._registrations) > self.few:
            self._gather_edges()
        if self._edges is None:
            return list(self._registrations.values())
        for poll_set in self._edges.report():
            poll_set.wake()
        stale = self._stale
        stale.update(self._opaque)
        return sorted(stale) if len(stale) > 1 else list(stale)

    def _in_order(self, sockets: Events, descriptors: Events) -> Events:
        """Merge the ready entries in the order of registration, which is pyzmq's."""
        merged = [(self._registrations[event[0]].order, event) for event in sockets]
        following = iter(self._descriptors.values())
        for event in descriptors:
            order = next((each.order for each in following if each.fd == event[0]), 0)
            merged.append((order, event))
        return [event for _, event in sorted(merged, key=itemgetter(0))]

    def _gather_edges(self) -> None:
        """Have the sockets in an epoll set from now on, if possible: there are many."""
        if self._edges is not None or not self._may_have_edges:
            return
        entries = self._registrations.values()
        try:
            edges = edges_of(self._hub)
            edges.join(self, entries)
        except OSError:  # the process, or the system, is at its limit of descriptors
            self._may_have_edges = False
            return
        self._edges = edges
        for entry in entries:
            entry.stop()
            self._unwatched.pop(entry, None)
            entry.shared.readiness.pollers.watch(entry)
            self._stale[entry] = None

    def _watched(self) -> list[Watched]:
        sockets = self._registrations.values() if self._edges is None else ()
        return [*sockets, *self._descriptors.values()]

    def _unwatch(self) -> None:
        self._is_watching = False
        if self._edges is not None:
            self._edges.stop(self)
        for watched in self._watched():
            watched.stop()

    @property
    def _is_empty(self) -> bool:
        return not (self._registrations or self._descriptors)


class _Registration(Watched):
    """A socket in a poll set: a `gzmqsource._socket.readiness.Pollable`."""

    __slots__ = ("_is_queued", "fd", "mask", "order", "poll_set", "shared", "socket")

    def __init__(self, poll_set: PollSet, socket: PlainSocket[Any], mask: int, order: int) -> None:
        self._is_queued = False
        self.poll_set = poll_set
        self.socket = socket
        self.mask = int(mask)  # an enum takes twenty times as long to compare
        self.order = order
        self.shared = shared_socket(socket)
        self.fd = socket.fileno()

    def start(self, io: Callable[[int, int], Any], wake: Callable[[], object]) -> None:
        """Queue for the socket's events from now on: one watcher serves all greenlets that wait."""
        self._is_queued = True
        self.shared.readiness.add_poller(self)

    def stop(self) -> None:
        """Stop queueing."""
        if self._is_queued:
            self._is_queued = False
            self.shared.readiness.remove_poller(self)

    @property
    def is_waiting(self) -> bool:
        """Whether a greenlet waits."""
        return self.poll_set.is_waiting

    def mark_stale(self) -> None:
        """Include the socket in the next look."""
        self.poll_set.mark_stale(self)

    def wake(self) -> None:
        """Make the first greenlet that waits look at the socket, soon."""
        self.poll_set.mark_stale(self)
        self.poll_set.wake()

    def wake_now(self) -> None:
        """Make the first greenlet that waits look again; call this in the hub."""
        self.poll_set.wake_now()

    def wake_all(self) -> None:
        """Make all greenlets that wait look again, soon."""
        self.poll_set.wake_all()

    def unwatch(self) -> None:
        """Stop watching the descriptor, which is about to be closed."""
        self.poll_set.stop_edges(self)

    def abandon(self) -> None:
        """Stop the inherited watchers in a forked child."""
        self.poll_set.abandon()

    def leave(self) -> None:
        """Remove this from the socket's pollers."""
        self._is_queued = False
        self.shared.readiness.pollers.discard(self)

    def __lt__(self, other: _Registration) -> bool:
        return self.order < other.order
