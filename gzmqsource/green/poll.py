"""`Poller`, `zmq_poll` and `select`: waiting for any of several sockets and descriptors."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter, get_hub
from gevent.monkey import get_original
from zmq.backend import zmq_poll as plain_poll
from zmq.sugar.poll import Poller as PlainPoller
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource.deadline import Deadline
from gzmqsource.green.waits import check_waits, generation, known_waits, reports_calls, waits_for

Events = list[tuple[Any, int]]

_POLLIN, _POLLOUT, _POLLERR = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.POLLERR)
_TIMED_OUT = object()

try:
    # gevent removes it from `select` when it patches.
    _epoll: Any = get_original("select", "epoll")
except AttributeError:
    _epoll = None


def zmq_poll(sockets: Sequence[tuple[Any, int]], timeout: int | float | None = -1) -> Events:
    """Wait until one of the sockets has one of its events; see `zmq.zmq_poll`.

    Parameters
    ----------
    sockets : sequence of (socket, mask)
        zmq sockets, plain or green, descriptors, or what has a ``fileno``.
    timeout : int
        Milliseconds; -1 for ever.

    Returns
    -------
    list of (socket, mask)
        Those that are ready, with what they are ready for.
    """
    events: Events = plain_poll(sockets, 0)
    for socket, _ in sockets:
        if isinstance(socket, PlainSocket):
            check_waits(socket)
    if events or timeout == 0 or not sockets:
        return events
    polled = _PollSet(sockets)
    try:
        return polled.poll(timeout)
    finally:
        polled.close()


def select(
    rlist: Sequence[Any], wlist: Sequence[Any], xlist: Sequence[Any], timeout: float | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Wait as `select.select` does, *timeout* in seconds, for zmq sockets too."""
    masks: dict[Any, int] = {}
    for sockets, mask in ((rlist, _POLLIN), (wlist, _POLLOUT), (xlist, _POLLERR)):
        for socket in sockets:
            masks[socket] = masks.get(socket, 0) | mask
    events = zmq_poll(list(masks.items()), None if timeout is None else timeout * 1000)
    readable, writable, failed = (
        [socket for socket, ready in events if ready & mask]
        for mask in (_POLLIN, _POLLOUT, _POLLERR)
    )
    return readable, writable, failed


class Poller(PlainPoller):
    """A `zmq.Poller` whose `poll` lets other greenlets run; several may poll at a time.

    It costs no more with many sockets than with few, as long as few of them are busy.
    """

    _made: _PollSet | None = None

    def register(self, socket: Any, flags: int = _POLLIN | _POLLOUT) -> None:
        """Add a socket, or change its events; see `zmq.Poller.register`."""
        super().register(socket, flags)
        polled = self._polled()
        if flags and polled is not None:
            polled.put(socket, flags)

    def unregister(self, socket: Any) -> None:
        """Remove a socket; see `zmq.Poller.unregister`."""
        super().unregister(socket)
        polled = self._polled()
        if polled is not None:
            polled.remove(socket)

    def poll(self, timeout: int | float | None = None) -> Events:
        """Wait *timeout* milliseconds, or for ever; see `zmq.Poller.poll`."""
        polled = self._polled()
        if polled is None:
            polled = self._made = _PollSet(self.sockets)
        return polled.poll(timeout)

    def _polled(self) -> _PollSet | None:
        """Give the set that was made before, if it can still be used."""
        if self._made is not None and not self._made.is_valid:
            self._made.close()
            self._made = None
        return self._made

    def __del__(self) -> None:
        if self._made is not None:
            self._made.close()


class _PollSet:
    """Sockets that are polled together, of one hub.

    A green socket is looked at only if something can have changed: it was ready at the last look,
    a call was made on it, or its descriptor shows an edge. The descriptors of many sockets are in
    an epoll set, so that one watcher and one system call serve all of them. Of 100 sockets, 0.6 us
    are saved for each that is left alone.
    """

    #: The most sockets that have watchers of their own.
    few = 4

    def __init__(self, sockets: Iterable[tuple[Any, int]]) -> None:
        self._hub = get_hub()
        self._made_in = generation()
        self._places: dict[Any, _Place] = {}
        #: Descriptors, and what has a ``fileno``, with their masks.
        self._others: dict[Any, int] = {}
        self._suspects: dict[_Place, None] = {}
        #: Plain sockets, whose calls nobody tells of.
        self._opaque: dict[_Place, None] = {}
        self._epoll: Any = None
        self._by_fd: dict[int, list[_Place]] = {}
        self._waiters: list[Waiter[object]] = []
        self._watchers: list[Any] = []
        self._wake_scheduled = False
        self._order = itertools.count()
        for socket, mask in sockets:
            self.put(socket, mask)

    @property
    def is_valid(self) -> bool:
        """Whether it serves this process and hub, and no socket was used in another since."""
        return (
            get_hub_if_exists() is self._hub
            and self._made_in == generation()
            and all(known_waits(place.socket) is place.waits for place in self._suspects)
        )

    @property
    def is_waiting(self) -> bool:
        """Whether a greenlet waits."""
        return bool(self._waiters)

    def put(self, socket: Any, mask: int) -> None:
        """Add a socket, or change what it is polled for."""
        if not isinstance(socket, PlainSocket):
            self._others[socket] = self._others.get(socket, 0) | mask
        elif socket in self._places:
            self._places[socket].mask = mask
            self.suspect(self._places[socket])
        else:
            place = self._places[socket] = _Place(self, socket, mask, next(self._order))
            place.waits.readiness.pollers.append(place)
            self._suspects[place] = None
            if not reports_calls(socket):
                self._opaque[place] = None
            self._by_fd.setdefault(place.fd, []).append(place)
            if self._epoll is not None:
                self._add_to_epoll(place.fd)
        self.wake()

    def remove(self, socket: Any) -> None:
        """Take a socket out."""
        self._others.pop(socket, None)
        place = self._places.pop(socket, None)
        if place is None:
            return
        place.leave()
        self._suspects.pop(place, None)
        self._opaque.pop(place, None)
        self._by_fd[place.fd].remove(place)
        if not self._by_fd[place.fd]:
            del self._by_fd[place.fd]
            if self._epoll is not None:
                with contextlib.suppress(OSError):  # a closed socket has left by itself
                    self._epoll.unregister(place.fd)

    def poll(self, timeout: int | float | None) -> Events:
        """Give what is ready, after waiting for it at most *timeout* milliseconds."""
        forever = timeout is None or timeout < 0
        deadline = Deadline(None if forever else int(timeout or 0) / 1000)
        has_waited = False
        while self._places or self._others:
            events = self._look()
            if events or deadline.left() == 0:
                self._take_turn(events, has_waited)
                return events
            has_waited = self._wait(deadline.left())
            if not has_waited:
                break
        return []

    def suspect(self, place: _Place) -> None:
        """Look at a socket with the next look."""
        self._suspects[place] = None

    def wake(self) -> None:
        """Let the greenlets that wait look, soon."""
        if self._waiters and not self._wake_scheduled:
            self._wake_scheduled = True
            self._hub.loop.run_callback(self._wake)

    def silence(self) -> None:
        """Let the inherited watchers of a forked child go; see `Readiness.silence`."""
        self._waiters.clear()
        if self._hub.loop is not None:
            self._hub.loop.run_callback(self._stop_watchers)

    def close(self) -> None:
        """Let the sockets go, and no cycle keep them."""
        for place in self._places.values():
            place.leave()
        for held in (self._places, self._suspects, self._opaque, self._by_fd):
            held.clear()
        if self._epoll is not None:
            self._epoll.close()

    @property
    def _is_large(self) -> bool:
        return len(self._by_fd) > self.few and _epoll is not None

    @property
    def _edges(self) -> Any:
        """Give the epoll set."""
        if self._epoll is None:
            self._epoll = _epoll()
            for fd in self._by_fd:
                self._add_to_epoll(fd)
        return self._epoll

    def _look(self) -> Events:
        suspects = self._suspects
        if not self._is_large:
            suspects.update(dict.fromkeys(self._places.values()))
        else:
            suspects.update(self._opaque)
            for fd, _ in self._edges.poll(0):
                suspects.update(dict.fromkeys(self._by_fd[fd]))
        ready: Events = []
        for place in sorted(suspects) if len(suspects) > 1 else list(suspects):
            if place.socket._closed:
                raise zmq.ZMQError(zmq.ENOTSOCK)
            readiness = place.waits.readiness
            try:
                events = place.waits.transfer.events()
            except zmq.ZMQError:
                readiness.wake_all()  # this has eaten the edge that would have told the others
                raise
            if readiness.readers or readiness.writers or len(readiness.pollers) > 1:
                readiness.tell(events)
            if events & place.mask:
                ready.append((place.socket, events & place.mask))
            else:
                suspects.pop(place, None)
        if self._others:
            ready += plain_poll(list(self._others.items()), 0)
        return ready

    def _wait(self, timeout: float | None) -> bool:
        """Wait until a look is worth while; False if the time has come first."""
        waiter: Waiter[object] = Waiter(self._hub)
        timer = None if timeout is None else self._hub.loop.timer(timeout)
        if not self._waiters:
            self._start_watchers()
        self._waiters.append(waiter)
        try:
            if timer is not None:
                # The loop's clock stands still while a greenlet holds up the hub.
                timer.start(waiter.switch, _TIMED_OUT, update=True)
            return waiter.get() is not _TIMED_OUT
        finally:
            if timer is not None:
                timer.close()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if not self._waiters:
                self._stop_watchers()

    def _start_watchers(self) -> None:
        io = self._hub.loop.io
        # libev's READ is 1 and its WRITE 2, as gevent passes them to any loop.
        for socket, mask in self._others.items():
            fd = socket if isinstance(socket, int) else socket.fileno()
            kind = (1 if mask & (_POLLIN | _POLLERR) else 0) | (2 if mask & _POLLOUT else 0)
            self._watchers.append(io(fd, kind or 1))
        fds = [self._edges.fileno()] if self._is_large else self._by_fd
        self._watchers += [io(fd, 1) for fd in fds]
        for watcher in self._watchers:
            watcher.start(self._wake)

    def _stop_watchers(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        self._watchers.clear()

    def _add_to_epoll(self, fd: int) -> None:
        with contextlib.suppress(FileExistsError):  # two Python objects for one socket
            self._epoll.register(fd, _POLLIN)  # EPOLLIN is the same bit

    def _wake(self) -> None:
        self._wake_scheduled = False
        for waiter in list(self._waiters):
            if waiter in self._waiters:
                waiter.switch(None)

    def _take_turn(self, events: Events, has_waited: bool) -> None:
        """Let other I/O in when a greenlet polls all the time and need not wait."""
        place = self._places.get(events[0][0] if events else next(iter(self._places), None))
        if place is None:
            return
        if has_waited:
            place.waits.turn.renew()
        else:
            place.waits.take_turn(place.waits.is_between_messages)


class _Place:
    """A socket's place in a poll set."""

    __slots__ = ("_poll_set", "fd", "mask", "order", "socket", "waits")

    def __init__(self, poll_set: _PollSet, socket: PlainSocket[Any], mask: int, order: int) -> None:
        self._poll_set = poll_set
        self.socket = socket
        self.mask = mask
        self.order = order
        self.waits = waits_for(socket)
        self.fd = socket.fileno()

    @property
    def is_waiting(self) -> bool:
        """Whether a greenlet waits."""
        return self._poll_set.is_waiting

    def suspect(self) -> None:
        """Look at the socket with the next look."""
        self._poll_set.suspect(self)

    def wake(self) -> None:
        """Let the greenlets that wait look at the socket, soon."""
        self._poll_set.suspect(self)
        self._poll_set.wake()

    def silence(self) -> None:
        """Let the watchers go, in a forked child."""
        self._poll_set.silence()

    def leave(self) -> None:
        """Be told no more."""
        with contextlib.suppress(ValueError):
            self.waits.readiness.pollers.remove(self)

    def __lt__(self, other: _Place) -> bool:
        return self.order < other.order
