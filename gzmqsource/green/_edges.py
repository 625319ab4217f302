"""`Edges`: the edges of the sockets that are polled in large sets, in one hub."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterable
from typing import Any, Protocol

from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original

from gzmqsource._base import fork
from gzmqsource._base.hubs import call_in_hub

#: libev's number, which gevent passes to any loop.
_READ = 1

try:
    # gevent removes it from `select` when it patches.
    _epoll: Any = get_original("select", "epoll")
    _ONCE = select.EPOLLIN | select.EPOLLONESHOT
except AttributeError:
    _epoll = None


class Waiting(Protocol):
    """A set of sockets that are polled together."""

    def wake(self) -> None:
        """Make the first greenlet that waits look again, soon."""

    def wake_now(self) -> None:
        """Make the first greenlet that waits look again; this is called in the hub."""


class Edged(Protocol):
    """A socket in such a set."""

    #: Its descriptor.
    fd: int

    @property
    def poll_set(self) -> Waiting:
        """The set."""

    def mark_stale(self) -> None:
        """Include the socket in the next look."""


class Edges:
    """The descriptors of sockets in one epoll set, with one watcher, for all poll sets of a hub.

    An edge is reported once, to all sets that have the socket: it is marked as stale there, and its
    descriptor is silent until one of them has looked at it. So a socket that is used while it is
    not polled wakes the hub once.

    The watcher stays active while no greenlet waits, except over libuv. To start the watcher of an
    epoll set, the kernel goes through all members of the set: with 10,000 sockets that takes 400
    us. And it refuses one descriptor in more than 500 watched sets, at which libev aborts the
    process.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The hub of this thread.

    Raises
    ------
    OSError
        No epoll set is available.
    """

    #: Whether the system has epoll.
    exist = _epoll is not None

    #: The most edges that one system call reports.
    most = 256

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self._made_in = fork.generation
        self._epoll = _epoll()
        self._watcher = hub.loop.io(self._epoll.fileno(), _READ, ref=False)
        # libuv's watchers for I/O keep the loop running in any case, and gevent cannot destroy a
        # hub that has one.
        self._must_stop = bool(self._watcher.ref)
        # The sets that use it, and those in which a greenlet waits.
        self._sets: dict[Waiting, None] = {}
        self._waiting: dict[Waiting, None] = {}
        self._entries: dict[int, dict[Edged, None]] = {}
        # The descriptors whose edge was reported and whose sockets were not looked at since.
        self._silent: set[int] = set()
        fork.abandon_in_child(self)

    @property
    def is_usable(self) -> bool:
        """Whether sets can join."""
        return not self._epoll.closed and self._made_in == fork.generation

    def join(self, poll_set: Waiting, entries: Iterable[Edged]) -> None:
        """Let a set use this until it leaves, with sockets that have not been looked at yet.

        Raises
        ------
        OSError
            The system has no more descriptors. The set has not joined.
        """
        self._sets[poll_set] = None
        try:
            for entry in entries:
                self.add(entry)
        except OSError:
            self.leave(poll_set, entries)
            raise

    def leave(self, poll_set: Waiting, entries: Iterable[Edged]) -> None:
        """Remove a set with its sockets, in any thread; the last one ends this."""
        self._sets.pop(poll_set)
        self._waiting.pop(poll_set, None)
        is_inherited = self._made_in != fork.generation
        if not self._sets and not is_inherited and get_hub_if_exists() is self.hub:
            self._end()
            return
        for entry in entries:
            self.discard(entry)
        if self._sets or is_inherited:
            return
        # libev aborts if a descriptor is closed under its watcher.
        if not call_in_hub(self.hub, self._end):
            self._end()

    def add(self, entry: Edged) -> None:
        """Add a socket of a set, which has not been looked at yet; see `join`."""
        with contextlib.suppress(FileExistsError):  # it is polled in another set, too
            self._epoll.register(entry.fd, _ONCE)
        self._entries.setdefault(entry.fd, {})[entry] = None

    def discard(self, entry: Edged) -> None:
        """Remove a socket, if it is here, in any thread."""
        entries = self._entries.get(entry.fd, {})
        if entries.pop(entry, entry) is entry or entries:
            return
        del self._entries[entry.fd]
        self._silent.discard(entry.fd)
        if self._made_in == fork.generation:
            with contextlib.suppress(OSError):  # the kernel has removed a closed one
                self._epoll.unregister(entry.fd)

    def report(self) -> list[Waiting]:
        """Mark the sockets that have an edge as stale, and return the sets that they are in."""
        found: dict[Waiting, None] = {}
        try:
            while True:
                edges = self._epoll.poll(0, self.most)
                self._note(fd for fd, _ in edges)
                for fd, _ in edges:
                    found.update((each.poll_set, None) for each in tuple(self._entries.get(fd, ())))
                if len(edges) < self.most:
                    return list(found)
        except BaseException:  # of a signal handler: no edge is reported twice
            self._note(tuple(self._entries))
            raise

    def _note(self, fds: Iterable[int]) -> None:
        """Note that the edges of these descriptors are reported."""
        for fd in fds:
            self._silent.add(fd)
            for entry in tuple(self._entries.get(fd, ())):
                entry.mark_stale()

    def listen(self, fd: int) -> None:
        """Report the next edge of a socket, which has just been looked at."""
        if fd in self._silent:
            self._silent.discard(fd)
            self._epoll.modify(fd, _ONCE)

    def start(self, poll_set: Waiting) -> None:
        """Wake a set with each edge, and keep the loop running: a greenlet waits there."""
        self._waiting[poll_set] = None
        if not self._watcher.active:
            self._watcher.start(self._on_edges)
        self._watcher.ref = True

    def stop(self, poll_set: Waiting) -> None:
        """Note that no greenlet waits in a set."""
        self._waiting.pop(poll_set, None)
        if self._waiting:
            return
        if self._must_stop:
            self._watcher.stop()
        else:
            self._watcher.ref = False

    def abandon(self) -> None:
        """Leave the epoll set to the parent, in a forked child; see `Readiness.abandon`."""
        if self.hub.loop is not None:
            self.hub.loop.run_callback(self._watcher.stop)

    def _on_edges(self) -> None:
        for poll_set in self.report():
            poll_set.wake_now()

    def _end(self) -> None:
        if not self._sets and not self._epoll.closed:
            if self.hub.loop is not None:
                self._watcher.stop()
                self._watcher.close()
            self._epoll.close()
            self._entries.clear()


class _Here(get_original("_thread", "_local")):  # type: ignore[misc]
    """The variables of this thread."""

    edges: Edges | None = None


_here = _Here()


def edges_of(hub: Any) -> Edges:
    """Return the edges of the hub of this thread.

    Raises
    ------
    OSError
        No epoll set is available.
    """
    edges = _here.edges
    if edges is None or edges.hub is not hub or not edges.is_usable:
        edges = _here.edges = Edges(hub)
    return edges
