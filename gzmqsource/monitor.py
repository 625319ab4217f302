"""What happens to a socket's connections, as libzmq reports it: zmq_socket_monitor(3)."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import zmq

from gzmqsource._base.deadline import Deadline
from gzmqsource._source.source import Source
from gzmqsource.errors import SourceClosed

__all__ = ["NAMES", "PROTOCOL_ERRORS", "Monitor", "SocketEvent", "decode"]

#: The names of the events by their bits: ``"connected"``, ``"handshake_failed_auth"``, ...
NAMES = {
    int(event): name.lower()
    for name, event in zmq.Event.__members__.items()
    if not name.startswith(("ALL", "PROTOCOL"))
}

#: The names of the errors in a peer's handshake by their codes: ``"zmtp_mechanism_mismatch"``, ...
PROTOCOL_ERRORS = {
    int(getattr(zmq, name)): name.removeprefix("PROTOCOL_ERROR_").lower()
    for name in dir(zmq)
    if name.startswith("PROTOCOL_ERROR_")
}

_ERRNO = zmq.EVENT_BIND_FAILED | zmq.EVENT_ACCEPT_FAILED | zmq.EVENT_CLOSE_FAILED
_ERRNO |= zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

_serial = itertools.count()


class SocketEvent(NamedTuple):
    """One event of a socket."""

    name: str
    """``"connected"``, ``"disconnected"``, ``"accepted"``, ... as in zmq_socket_monitor(3)."""

    endpoint: str
    """The endpoint that it concerns."""

    value: int
    """What libzmq reports with it: a file descriptor, an errno, an interval in milliseconds, the
    status of a ZAP reply, or a protocol error."""

    errno: int | None
    """The errno of a failure, if libzmq reports one."""

    protocol_error: str | None
    """What was wrong with the peer's handshake, for ``"handshake_failed_protocol"``."""

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
    zmq.ZMQError
        The socket is closed, or has no such events.
    InvalidThreadUseError, SourceClosed
        The source belongs to the hub of another thread, or is closed.
    """

    def __init__(
        self, socket: Source | zmq.Socket[Any], events: int = zmq.EVENT_ALL, ref: bool = True
    ) -> None:
        self._watched = socket
        plain = self._socket()
        address = f"inproc://gzmqsource-monitor-{next(_serial)}"
        # Without a bound: while a monitor is full, libzmq blocks whichever thread reports an event.
        self._events = Source.open(
            zmq.PAIR, connect=address, context=plain.context, ref=ref, rcvhwm=0
        )
        try:
            plain.monitor(address, events)
        except BaseException:
            self._events.close()
            raise

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
            The monitor is closed, or the socket that it watched.
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            The monitor belongs to the hub of another thread.
        """
        event = decode(self._events.recv(timeout=timeout))
        if event.name == "monitor_stopped":
            self._events.close()
            raise SourceClosed(f"{self!r}: the socket is closed, or has another monitor")
        return event

    def __iter__(self) -> Iterator[SocketEvent]:
        """Iterate over the events, until the monitor or the socket is closed.

        Raises
        ------
        InvalidThreadUseError
            The monitor belongs to the hub of another thread.
        """
        while True:
            try:
                event = self.recv()
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
            raise ValueError(f"{name!r} is no event: use one of {', '.join(NAMES.values())}")
        deadline = Deadline(timeout)
        while (event := self.recv(timeout=deadline.left())).name != name:
            pass
        return event

    def close(self) -> None:
        """Stop watching; the socket stays open. Closing again does nothing.

        Raises
        ------
        InvalidThreadUseError
            The monitor belongs to the hub of another thread.
        """
        if not self._events.closed:
            # In this order: libzmq would wait forever for a monitor that is gone.
            if not self._watched.closed:
                self._socket().disable_monitor()
            self._events.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if "_events" in self.__dict__:
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._watched!r}>"

    def _socket(self) -> Any:
        return self._watched.socket if isinstance(self._watched, Source) else self._watched
