"""The socket of a connection: a new DEALER each time its connection is lost.

libzmq would reconnect by itself, and then send the messages of the old pipe to the next process.
So its own attempts are put off forever, and a new connection gets a new socket. With ``IMMEDIATE``
or a ``RECONNECT_IVL`` of -1, it would drop replies that were not read yet at a disconnect.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import zmq
from gevent.queue import Empty

from gzmqsource._base.event import Event
from gzmqsource._base.lasting import Lasting
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.source import Source
from gzmqsource.errors import SourceClosed
from gzmqsource.monitor import Monitor, SocketEvent
from gzmqsource.workers._retries import Pace
from gzmqsource.workers._turns import hear_out

_log = logging.getLogger("gzmqsource.workers")

_warn_refused = LimitedWarning(_log, "no connection to a server: %s")

#: The events that show whether there is a connection. After ``CLOSED`` for a failed attempt there
#: is always a ``CONNECT_RETRIED``, over every transport.
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
_EVENTS |= zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_EVENTS |= zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

#: The socket options that a link sets.
OPTIONS = {
    "immediate": 0,
    "reconnect_ivl": 86_400_000,
    "reconnect_ivl_max": 0,
    "sndhwm": 0,
    "rcvhwm": 0,
}

#: The options that it sets if its user does not: milliseconds to connect, and for last messages.
DEFAULTS = {"connect_timeout": 5000, "linger": 1000}


class Linked(Protocol):
    """The connection that has a link."""

    def connected(self) -> None:
        """Note that messages reach the peer from now on."""

    def failed(self) -> None:
        """Note that an attempt to connect has failed."""

    def disconnected(self) -> None:
        """Note that the peer is gone; all its messages were received."""

    @property
    def read(self) -> Callable[[list[Any]], None]:
        """Called with each message."""

    def salvage(self, message: list[Any], error: BaseException) -> None:
        """Take a message again, if an exception came before it had an effect."""


class Opening:
    """Makes the sockets of a requester.

    Parameters
    ----------
    context : zmq.Context, optional
        Their context.
    options : mapping
        The options of `gzmqsource.Source.open`.
    opened : callable
        ``opened(source)`` is called with each source before it is connected.
    broken : callable
        ``broken(source)`` is called with a source that has lost its socket.
    """

    def __init__(
        self,
        context: zmq.Context[Any] | None,
        options: Mapping[str, Any],
        opened: Callable[[Source], object],
        broken: Callable[[Source], object],
    ) -> None:
        own = sorted({*OPTIONS, "outbox", "outbox_bytes"} & {name.lower() for name in options})
        if own:
            raise ValueError(
                f"{', '.join(own)}: a Requester sets this itself; max_outstanding is its bound"
            )
        self.context = context
        self.pace = Pace()
        self._options = {**DEFAULTS, **options, **OPTIONS, "outbox": 1 << 30}
        self._options["outbox_bytes"] = 1 << 60  # the requester itself bounds its requests
        self._opened = opened
        self.broken = broken

    def open(self, handle: Callable[[list[Any]], None]) -> Source:
        """Make a source, which its owner starts next."""
        return Source.open(zmq.DEALER, handle, context=self.context, **self._options)

    def start(self, source: Source) -> None:
        """Start a source that is not connected yet."""
        self._opened(source)
        source.rawlink(self.broken)
        source.start()


class Link:
    """One socket after another, each with one connection to an address.

    Parameters
    ----------
    address : str
        An endpoint that libzmq can connect to.
    opening : Opening
        Makes the sockets.
    owner : Linked
        Takes the messages.
    patience : float
        Seconds after which an attempt to connect counts as failed, and a connection as lasting.
    """

    is_bound = False

    #: After how many short connections in a row the pauses after them stop growing.
    max_short = 4

    #: The most turns for replies that are already there when a connection is lost.
    max_turns = 100

    def __init__(self, address: str, opening: Opening, owner: Linked, patience: float) -> None:
        self.address = address
        self.closed = False
        #: The socket, or None if none could be made.
        self.source: Source | None = None
        # Over the other transports, libzmq takes all messages until the link is renewed.
        self.is_inproc = self.may_queue = address.startswith("inproc:")
        self._opening = opening
        self._owner = owner
        self._patience = patience
        self._monitor: Monitor | None = None
        self._is_unused = False  # whether the socket has never been connected
        self._is_tried = False  # whether there was an attempt to connect the socket
        self._is_lost = Event()  # for losses that a monitor cannot report
        self._runs = Lasting(self._run)

    def start(self) -> None:
        """Make the socket.

        Raises
        ------
        zmq.ZMQError
            libzmq refuses an option, or the address.
        """
        self._open()
        self._runs.start()

    def lose(self) -> None:
        """Give up the connection, as if libzmq had reported its end."""
        self._is_lost.set()
        if self._monitor is not None:
            self._monitor.close()

    def close(self, linger: int | None = None) -> None:
        """Close the socket, and do not connect again.

        Parameters
        ----------
        linger : int, optional
            Milliseconds to use instead of the socket's.
        """
        self.closed = True
        self._drop(linger)
        self._runs.kill()

    def hear_out(self) -> None:
        """Take the messages that are there."""
        if self.source is not None:
            hear_out(self.source, self.max_turns)

    def _run(self) -> None:
        """Connect, again and again; after an exception, the connection counts as lost."""
        pace, failures = self._opening.pace, 0
        if self._is_tried:
            self._is_unused = False
            self._lose()
            self._renew()
        while not self.closed:
            self._is_tried = True
            pace.attempted += 1
            try:
                connects = self._connects()
            finally:
                pace.attempted -= 1
            if connects:
                began = time.monotonic()
                self._owner.connected()
                self._lasts()
                lasted = time.monotonic() - began > self._patience
                failures = 0 if lasted else min(failures + 1, self.max_short)
                self._lose()
            else:
                failures += 1
                self._owner.failed()
            if failures and not self.closed:
                pace.attempted += 1
                try:
                    pace.pause(failures)
                finally:
                    pace.attempted -= 1
            self._renew()

    def _lose(self) -> None:
        """Report that the peer is gone, once its messages were received."""
        if not self.closed:
            self.hear_out()
            self._owner.disconnected()

    def _connects(self) -> bool:
        """Wait until there is a connection; return False if the attempt fails."""
        self._is_unused = False
        event = None if self.is_inproc else self._next_event(self._patience)
        while event is not None and event.name.startswith("handshake_failed"):
            _warn_refused(event)
            event = self._next_event(None)
        if event is None:
            return self.is_inproc and self.source is not None
        self._is_unused = event.name == "connect_retried"
        return event.name == "handshake_succeeded"

    def _lasts(self) -> None:
        """Wait until the connection is lost."""
        if self.is_inproc:
            self._is_lost.wait()
        while (event := self._next_event(None)) is not None:
            if event.name == "disconnected":
                return

    def _next_event(self, patience: float | None) -> SocketEvent | None:
        """Wait for an event; return None if the monitor is closed."""
        monitor = self._monitor
        if monitor is None:
            return None
        try:
            try:
                return monitor.recv(timeout=patience)
            except Empty:
                self._owner.failed()  # calls that wait for this connection go elsewhere
                return monitor.recv()
        except SourceClosed:
            return None

    def _open(self) -> None:
        self.source = source = self._opening.open(self._owner.read)
        source._core.salvage = self._owner.salvage
        self._is_lost.clear()
        try:
            self._opening.start(source)
            if not self.is_inproc:
                self._monitor = Monitor(source, _EVENTS, ref=False)
            source.socket.connect(self.address)
        except BaseException:
            self._drop(0)
            raise

    def _renew(self) -> None:
        """Connect once more, with a new socket unless the old one has never been connected."""
        try:
            if self._is_unused and self.source is not None:
                self.source.socket.disconnect(self.address)
                self.source.socket.connect(self.address)
                return
            self._drop(0)
            if not self.closed:  # the drop may have waited
                self._open()
        except (zmq.ZMQError, OSError) as error:  # there are no more descriptors, for example
            _warn_refused(f"{self.address}: {error}")
            self._drop(0)
        except SourceClosed:  # the context has ended
            pass

    def _drop(self, linger: int | None) -> None:
        monitor, source = self._monitor, self.source
        if monitor is not None:
            monitor.close()
        if source is not None and not source.closed:
            source.unlink(self._opening.broken)
            if linger is not None:
                source.socket.linger = linger
            source.close()
        self._monitor = self.source = None  # last: an exception may come before
