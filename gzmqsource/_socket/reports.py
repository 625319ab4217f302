"""libzmq's events of sockets, zmq_socket_monitor(3), read by one native thread.

libzmq sends each event on the thread on which it happens, its I/O thread and the one that releases
closed sockets included, and waits without a limit while there is no reader, or no room. No message
of any socket of the context passes meanwhile. So neither a hub nor a user reads libzmq's own
report. A thread does, whatever happens to the greenlets, until libzmq itself has ended the report.
There is one thread for all sockets of the process, as long as there is a report.

The end is that of the pipe, which closes with or without a ``MONITOR_STOPPED``: a socket that has
a pipe can be written to.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq
from gevent.monkey import get_original
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base import fork
from gzmqsource._base.hubs import allocate_rlock, call_in_hub
from gzmqsource._base.oneshot import OneShot
from gzmqsource._base.threads import start_thread
from gzmqsource._base.waiters import Waiters
from gzmqsource._base.warning import LimitedWarning
from gzmqsource.transfer import transfer_for

try:
    _epoll: Any = get_original("select", "epoll")
except AttributeError:
    _epoll = None

_sleep = get_original("time", "sleep")

#: The most events and bytes that are read from one socket before another has its turn.
_BATCH = 1000
_BATCH_BYTES = 1 << 20

#: Seconds after which a report that lingers is looked at again.
_PATIENCE = 1.0

_serial = itertools.count()

_warn_dropped = LimitedWarning(
    logging.getLogger("gzmqsource.monitor"), "the oldest events of a monitor were dropped: %s"
)


class Report:
    """The events of one socket, from now until the end of the socket or of its monitor.

    Parameters
    ----------
    hub : gevent.hub.Hub or None
        The hub whose greenlets wait for events.
    socket : zmq.Socket
        The socket to watch; a monitor that it has ends.
    events : int
        The events to report, as bits of ``zmq.Event``.
    most : int
        How many events are held; of more, the oldest are dropped.
    fds : sequence of int
        The descriptors of other sockets, for which `read` is called, too.

    Raises
    ------
    zmq.ZMQError
        The socket is closed, or has no such events.
    """

    def __init__(
        self,
        hub: Any,
        socket: zmq.Socket[Any],
        events: int,
        most: int,
        fds: Sequence[int] = (),
    ) -> None:
        #: The events that were read, oldest first, as libzmq's two frames.
        self.queue: deque[list[Any]] = deque()
        #: How many events were dropped.
        self.dropped = 0
        #: The greenlets that wait for an event.
        self.waiters = Waiters()
        #: Whether no more events come, and the error if the context has ended.
        self.ended = False
        self.error: zmq.ZMQError | None = None
        #: Whether it belongs to the parent of this process.
        self.forked = False
        #: Whether it has ended, and waits for its reader, whose end may come without an edge.
        self.lingers = False
        #: Set when its sockets are closed.
        self.released = OneShot()
        self._hub = hub
        self._most = most
        self._unread = False  # events are dropped at once: the reader is gone
        self._notified = False
        self._told = 0  # how many dropped events were logged
        self._name = repr(socket)
        # Not one of the sockets that `Context.destroy` closes: the thread does, when it ends.
        self._pair = PlainSocket(socket.context, zmq.PAIR)
        try:
            self._pair.linger = 0
            self._pair.rcvhwm = 0  # libzmq must never wait
            #: The descriptors to wait for.
            self.fds = [self._pair.fileno(), *fds]
            self._transfer = transfer_for(self._pair)
            address = f"inproc://gzmqsource-monitor-{next(_serial)}"
            self._pair.connect(address)
            PlainSocket.monitor(socket, address, events)
            try:
                _reader.add(self)
                self._address = int(socket.underlying)
                _current[self._address] = self
            except BaseException:
                _reader.forget(self)
                PlainSocket.monitor(socket, None, 0)
                raise
        except BaseException:
            self._pair.close()
            raise

    @property
    def has_news(self) -> bool:
        """Whether more events were dropped than were logged."""
        return self.dropped != self._told

    def stop(self, socket: Any = None) -> None:
        """Drop events, read and future; in another thread than the socket's, do no more.

        Parameters
        ----------
        socket : zmq.Socket, optional
            The socket that is watched, whose monitor ends unless it is a later one.
        """
        self._unread = True
        self.queue.clear()
        if socket is None or self.ended or socket.closed:
            return
        if _current.get(self._address) is self:
            with contextlib.suppress(zmq.ZMQError):  # the context ends all monitors
                PlainSocket.monitor(socket, None, 0)

    def read(self) -> tuple[bool, bool]:
        """Read some events, in the thread; return whether more are there, and whether it ended."""
        messages: list[list[Any]] = []
        more = False
        try:
            is_all = self._transfer.receive(messages, _BATCH, _BATCH_BYTES)
            left = self._transfer.events()
            more = not is_all or bool(left & zmq.POLLIN)
            is_over = not left
        except zmq.ZMQError as error:
            self.error, is_over = error, True
        if not self._unread:
            self._hold(messages)
        self.ended = is_over  # after the last event is in the queue
        if self.queue or is_over:  # also if the last notification failed
            self._notify()
        return more, is_over

    def release(self) -> None:
        """Close the sockets, in the thread."""
        self._pair.close()
        self.released.set(True)

    def abandon(self) -> None:
        """Leave the sockets to the parent process, in a forked child."""
        self._pair._closed = True  # or pyzmq would warn
        self.forked = self.ended = True

    def _hold(self, messages: list[list[Any]]) -> None:
        queue = self.queue
        if len(queue) + len(messages) <= self._most:
            queue.extend(messages)
            return
        for message in messages:
            if len(queue) >= self._most:
                with contextlib.suppress(IndexError):  # the hub has taken them meanwhile
                    queue.popleft()
                    self.dropped += 1
            queue.append(message)

    def _notify(self) -> None:
        """Have the hub wake greenlets, soon."""
        if not self._notified and self._hub is not None:
            self._notified = True  # before the hub may look
            try:
                call_in_hub(self._hub, self._wake)
            except MemoryError:
                self._notified = False
                raise

    def _wake(self) -> None:
        self._notified = False  # before the look: events that are read after it are notified again
        if self.has_news:
            self._told = self.dropped
            _warn_dropped(f"{self.dropped} of {self._name}")
        if self.ended:
            self.waiters.wake_all()
        else:
            self.waiters.wake(len(self.queue))


#: The report of the monitor that a socket has, by the address of the libzmq socket.
_current: weakref.WeakValueDictionary[int, Report] = weakref.WeakValueDictionary()


def is_watched(socket: zmq.Socket[Any]) -> bool:
    """Return whether a socket has a monitor that was made here."""
    report = _current.get(int(socket.underlying))
    return report is not None and not report.ended


class _Reader:
    """The thread that reads all reports; it ends with the last one.

    Signal handlers may raise in whatever other threads call, and may call the same.
    """

    _lock: Any
    _reports: dict[int, Report]
    _busy: dict[Report, None]
    _lingering: dict[Report, None]
    _starting: bool
    _running: bool
    _poll: _Poll | None

    def __init__(self) -> None:
        self._renew()

    def add(self, report: Report) -> None:
        """Read a report from now on.

        Raises
        ------
        RuntimeError, OSError
            No thread or descriptor is available; the report is not read.
        """
        with self._lock:
            if self._poll is None:
                self._poll = _Poll()
            if not (self._running or self._starting):
                start_thread(self._run, ())
                self._starting = True
            for fd in report.fds:
                self._reports[fd] = report
                self._poll.register(fd)

    def forget(self, report: Report) -> None:
        """Read a report no more."""
        with self._lock:
            for fd in report.fds:
                if self._reports.pop(fd, None) is not None and self._poll is not None:
                    self._poll.unregister(fd)
            self._busy.pop(report, None)
            self._lingering.pop(report, None)

    def abandon(self) -> None:
        """Leave all reports to the parent process, in a forked child."""
        for report in {*self._reports.values()}:
            report.abandon()
        if self._poll is not None:
            self._poll.close()
        self._renew()

    def _renew(self) -> None:
        self._lock = allocate_rlock()
        self._reports = {}
        self._busy = {}
        self._lingering = {}
        #: Whether a thread is about to begin, and whether one has begun.
        self._starting = self._running = False
        self._poll = None
        fork.abandon_in_child(self)

    def _run(self) -> None:
        with self._lock:
            self._starting = False
            if self._running or self._poll is None:
                return  # an exception has come into the call that has started another one
            self._running, poll = True, self._poll
        while True:
            try:
                fds = poll.wait(0 if self._busy else _PATIENCE if self._lingering else -1)
                with self._lock:
                    if not fds:
                        self._busy.update(self._lingering)
                    for fd in fds:
                        if fd in self._reports:
                            self._busy[self._reports[fd]] = None
                for report in list(self._busy):
                    with self._lock:
                        self._read(report)
                with self._lock:
                    if not self._reports:
                        self._running, self._poll = False, None
                        poll.close()
                        return
            except Exception:  # such as a lack of memory: without this thread no socket works
                _sleep(0.01)

    def _read(self, report: Report) -> None:
        if report not in self._busy:
            return  # it was forgotten meanwhile
        more, is_over = report.read()
        if is_over:
            self.forget(report)
            report.release()
            return
        if report.lingers:
            self._lingering[report] = None
        if not more:
            del self._busy[report]


class _Poll:
    """Waits for descriptors that other threads may add meanwhile."""

    #: Where there is no epoll, seconds from one look at all descriptors to the next.
    interval = 0.05

    def __init__(self) -> None:
        self._fds: dict[int, None] = {}
        self._set = None if _epoll is None else _epoll()

    def register(self, fd: int) -> None:
        self._fds[fd] = None
        if self._set is not None:
            self._set.register(fd, zmq.POLLIN)  # EPOLLIN is the same bit

    def unregister(self, fd: int) -> None:
        self._fds.pop(fd, None)
        if self._set is not None:
            with contextlib.suppress(OSError):  # it was not registered yet
                self._set.unregister(fd)

    def wait(self, timeout: float) -> list[int]:
        """Return the descriptors that may be ready; wait for one unless *timeout* is 0."""
        if self._set is not None:
            return [fd for fd, _ in self._set.poll(timeout)]
        if timeout:
            _sleep(self.interval)
        return list(self._fds)

    def close(self) -> None:
        if self._set is not None:
            self._set.close()


_reader = _Reader()
