"""The events of a socket's connections, as libzmq reports them: zmq_socket_monitor(3)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.hub import get_hub
from gevent.queue import Empty
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.deadline import LONGEST, Deadline
from gzmqsource._base.late import LateText
from gzmqsource._socket.budget import yield_to_io
from gzmqsource._socket.reports import Report
from gzmqsource._source.source import Source
from gzmqsource.errors import InvalidThreadUseError, SourceBroken, SourceClosed, SourceForked

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NAMES", "PROTOCOL_ERRORS", "Monitor", "SocketEvent", "decode"]

#: The names of the events by their bits, such as ``"connected"`` or ``"handshake_failed_auth"``.
NAMES = {
    int(event): name.lower()
    for name, event in zmq.Event.__members__.items()
    if not name.startswith(("ALL", "PROTOCOL"))
}

#: The names of errors in a handshake by their codes, such as ``"zmtp_mechanism_mismatch"``.
PROTOCOL_ERRORS = {
    int(getattr(zmq, name)): name.removeprefix("PROTOCOL_ERROR_").lower()
    for name in dir(zmq)
    if name.startswith("PROTOCOL_ERROR_")
}

_ERRNO = zmq.EVENT_BIND_FAILED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_CLOSE_FAILED
_ERRNO |= zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class SocketEvent(NamedTuple):
    """One event of a socket."""

    name: str
    """``"connected"``, ``"disconnected"``, ``"accepted"``, ... as in zmq_socket_monitor(3)."""

    endpoint: str
    """The endpoint that it concerns."""

    value: int
    """The value that libzmq reports with it. It is a file descriptor, an errno, an interval in
    milliseconds, the status of a ZAP reply, or a protocol error, depending on the event."""

    errno: int | None
    """The errno of a failure, if libzmq reports one."""

    protocol_error: str | None
    """The fault in the peer's handshake, for ``"handshake_failed_protocol"``."""

    def __str__(self) -> str:
        detail = self.protocol_error or (os.strerror(self.errno) if self.errno else "")
        return f"{self.name} {self.endpoint}" + (f" ({detail})" if detail else "")


def decode(message: list[bytes]) -> SocketEvent:
    """Decode a message of a socket monitor.

    Parameters
    ----------
    message : list of bytes
        The two frames that a PAIR received from ``zmq.Socket.monitor``.

    Raises
    ------
    ValueError
        It is not such a message.
    """
    # pyzmq's parse_monitor_message mistakes an unknown event for several others.
    try:
        head, endpoint = message
        event, value = struct.unpack("=Hi", head)
    except (ValueError, struct.error) as error:
        raise ValueError(f"not a message of a monitor: {message!r:.100}") from error
    protocol_error = None
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        protocol_error = PROTOCOL_ERRORS.get(value, f"{value:#x}")
    return SocketEvent(
        name=NAMES.get(event, f"{event:#x}"),
        endpoint=endpoint.decode(errors="replace"),
        value=value,
        errno=value if event & _ERRNO else None,
        protocol_error=protocol_error,
    )


class Monitor:
    """An iterable of the events of a socket, which ends when that socket is closed.

    A socket has one monitor: a second one ends the first. Several greenlets may wait; each event
    goes to one of them. As a context manager, a monitor is closed at the end of the block.

    A native thread reads the events, and holds `max_events` of them. So a monitor that is slow,
    closed, dropped, or whose reader was killed, never holds up its socket, another socket of the
    context, or the end of the context, whichever of them ends first.

    Parameters
    ----------
    socket : Source or zmq.Socket
        The socket to watch.
    events : int
        The events to report, as bits of ``zmq.Event``.
    ref : bool
        Whether a greenlet that waits for an event keeps the hub's loop running.

    Raises
    ------
    TypeError
        *socket* is neither of these, or *events* is not an int.
    zmq.ZMQError
        The socket is closed, or has no such events.
    InvalidThreadUseError, SourceClosed
        The source belongs to the hub of another thread, or is closed.
    """

    #: The most events that are held, a few megabytes. Beyond that, the oldest are dropped.
    max_events = 10_000

    #: How many events a greenlet may take without a wait, before it yields to I/O.
    max_batch = 100

    def __init__(
        self, socket: Source[Any] | zmq.Socket[Any], events: int = zmq.EVENT_ALL, ref: bool = True
    ) -> None:
        if not isinstance(socket, (Source, PlainSocket)):
            own = ": pass its source" if hasattr(socket, "source") else ""
            raise TypeError(f"{socket!r}: a Monitor watches a Source or a zmq.Socket{own}")
        if not isinstance(events, int):
            raise TypeError(f"events={events!r}: bits of zmq.Event, as zmq.EVENT_CONNECTED")
        if isinstance(socket, PlainSocket) and socket.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK, f"{socket!r} is closed: it has no events")
        self._watched = socket
        self._hub = get_hub()
        self._ref = ref
        self._closed = False
        self._taken = 0
        # The end of a socket is noticed without its event.
        events &= ~zmq.EVENT_MONITOR_STOPPED
        self._report = Report(self._hub, self._socket(), events, self.max_events)

    @property
    def dropped(self) -> int:
        """How many events were dropped because `max_events` were held; this is logged, too."""
        return self._report.dropped

    def recv(self, timeout: float | None = None) -> SocketEvent:
        """Wait for the next event. If the greenlet is killed meanwhile, no event is lost.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None waits forever.

        Raises
        ------
        gevent.queue.Empty
            No event came within *timeout*.
        SourceClosed
            The monitor is closed, or the socket that it watched, or the socket has another one.
        SourceForked
            This is a forked child, and the monitor belongs to the parent process.
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            The monitor belongs to the hub of another thread.
        """
        self._wait(timeout)
        queue = self._report.queue
        event = queue.popleft()
        try:
            return decode(event)
        except BaseException:  # memory has run out, or a signal handler raises
            queue.appendleft(event)
            raise

    def __iter__(self) -> Iterator[SocketEvent]:
        """Iterate over the events, until the monitor or the socket is closed.

        Raises
        ------
        SourceForked, InvalidThreadUseError
            As for `recv`.
        """
        while True:
            try:
                event = self.recv()
            except SourceForked:
                raise
            except SourceClosed:
                return
            yield event

    def wait_for(self, name: str, timeout: float | None = None) -> SocketEvent:
        """Wait for an event of one name, and drop those before it.

        Parameters
        ----------
        name : str
            The name of the event, as in `SocketEvent`.
        timeout : float or None
            Seconds to wait at most; None waits forever.

        Raises
        ------
        gevent.queue.Empty
            No such event came within *timeout*.
        ValueError
            There is no event of that name, or *timeout* is negative.
        SourceClosed, InvalidThreadUseError
            As for `recv`.
        """
        if name not in NAMES.values():
            raise ValueError(f"{name!r} is not an event: use one of {', '.join(NAMES.values())}")
        deadline = Deadline(timeout)
        try:
            while (event := self.recv(timeout=deadline.left())).name != name:
                pass
        except Empty as empty:
            empty.args = (LateText(_why_empty, self, timeout, f"{name!r} event"),)
            raise
        return event

    def close(self) -> None:
        """Stop watching; the socket stays open. Closing again does nothing.

        Events that were not received are dropped. Calls that wait raise `gzmqsource.SourceClosed`.

        Raises
        ------
        InvalidThreadUseError
            The monitor belongs to the hub of another thread.
        """
        if self._closed or self._report.forked:
            return
        self._enter()
        self._closed = True
        self._report.stop(None if self._watched.closed else self._socket())
        self._report.waiters.wake_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        report = self.__dict__.get("_report")
        if report is None or self._closed or report.forked:
            return
        if get_hub_if_exists() is self._hub:
            self.close()
        else:  # any thread may collect it, but only its own may use the socket
            report.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._watched!r}>"

    def _wait(self, timeout: float | None) -> None:
        """Wait until there is an event; `recv` describes the exceptions."""
        deadline = Deadline(timeout)
        self._enter()
        report = self._report
        self._taken += 1
        if self._taken > self.max_batch:
            self._taken = 1
            yield_to_io(self._hub)
        while not self._closed:
            has_ended = report.ended  # before the look: it is set after the last event
            if report.queue:
                return
            if has_ended:
                break
            left = deadline.left()
            if left == 0:
                raise Empty(LateText(_why_empty, self, timeout, "event"))
            self._taken = 0
            # A timer keeps the loop running; nothing else here could.
            report.waiters.wait(self._hub, LONGEST if left is None else left, self._ref)
        error = SourceBroken if report.error is not None else SourceClosed
        raise error(f"{self!r}: {self._why_ended()}") from report.error

    def _why_ended(self) -> str:
        if self._closed:
            return "it is closed: make a new one"
        if self._watched.closed:
            return "its socket is closed"
        return "its socket has another monitor: a socket has one at a time"

    def _socket(self) -> Any:
        return self._watched.socket if isinstance(self._watched, Source) else self._watched

    def _enter(self) -> None:
        """Raise unless this is the hub of the monitor, in the process that made it."""
        if self._report.forked:
            raise SourceForked(f"{type(self).__name__} of the parent process: make a new one")
        if get_hub_if_exists() is not self._hub:
            raise InvalidThreadUseError(
                f"{self!r} belongs to the hub of another thread: receive and close there"
            )


def _why_empty(monitor: Monitor, timeout: float | None, what: str) -> str:
    return f"{monitor!r}: no {what} within {0 if timeout is None else timeout:g} s"
