"""What a source, its intake and its senders share: the socket, and all that hangs on it."""

from __future__ import annotations

import contextlib
import enum
import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import zmq
from gevent import getcurrent
from gevent._hub_local import get_hub_if_exists
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.event import Event
from gzmqsource._socket.budget import Turn, let_io_in
from gzmqsource._socket.linger import close_and_wait
from gzmqsource._socket.readiness import Readiness
from gzmqsource._socket.view import OwnedSocket
from gzmqsource._source import registry as census
from gzmqsource._source.flusher import Outflow, Report
from gzmqsource._source.outbox import Outbox, Overflow
from gzmqsource.errors import (
    InvalidThreadUseError,
    SendError,
    Severity,
    SourceBroken,
    SourceClosed,
    SourceForked,
    severity,
)
from gzmqsource.transfer import transfer_for
from gzmqsource.transfer.message import AnyMessage, as_frames

_PER_PEER = frozenset({zmq.ROUTER, zmq.STREAM})
_RECEIVES_NOTHING = frozenset({zmq.PUSH, zmq.PUB})


class State(enum.Enum):
    """Where a source is in its life."""

    OPEN = "open"  #: has a handler and is not started: it sends, and reads nothing
    STARTED = "started"  #: reads: hands messages to its handler, or gives them to who pulls
    STOPPING = "stopping"  #: reads nothing more, and sends what is queued
    CLOSED = "closed"  #: its socket is gone


class Core:
    """A socket with its readiness, its transfer and its outbox, from taking over to closing.

    Parameters
    ----------
    name : str
        What the texts of errors call it.
    socket : zmq.Socket
        The socket to take over.
    outbox, overflow, copy, on_error, ref
        As for `gzmqsource.Source`.
    serves : bool
        Whether a handler takes the messages, and nobody pulls them.
    max_messages : int
        The most messages of one turn.
    max_seconds : float
        The longest time of one turn, in seconds.
    max_bytes : int
        The most bytes of one call that receives.
    """

    def __init__(
        self,
        name: str,
        socket: zmq.Socket[Any],
        *,
        outbox: int,
        overflow: Overflow,
        copy: bool,
        on_error: Report | None,
        ref: bool,
        serves: bool,
        max_messages: int,
        max_seconds: float,
        max_bytes: int,
    ) -> None:
        if not isinstance(socket, PlainSocket):
            raise TypeError(f"socket={socket!r}: a source owns a zmq.Socket")
        if isinstance(socket, OwnedSocket) or "close" in vars(socket):
            raise ValueError(f"{socket!r} belongs to a source already")
        self.kind = zmq.SocketType(int(socket.get(zmq.TYPE)))
        self.name = name
        if serves:
            self._check_receives()
        self.state = State.OPEN if serves else State.STARTED
        self.outbox = Outbox(outbox, overflow, per_peer=self.kind in _PER_PEER)
        self.transfer = transfer_for(socket, copy)
        self.readiness = Readiness(socket, self.transfer.events, ref)
        self.hub = self.readiness.hub
        self.turn = Turn(self.hub, self.transfer, max_messages, max_seconds)
        self.outflow = Outflow(self.transfer, self.readiness, self.outbox, self.turn)
        #: Set while the intake is not paused.
        self.resumed = Event()
        self.resumed.set()
        #: Set when the socket is gone.
        self.done = Event()
        #: Messages that were read and not yet handed out, the next one last: one batch at most.
        self.in_hand: list[list[Any]] = []
        #: Whether a handler takes the messages, and nobody pulls them.
        self.serves = serves
        self.errors = 0
        #: How many turns ended at their bound, without those of the outflow.
        self.turns = 0
        #: libzmq's error that ended it.
        self.cause: zmq.ZMQError | None = None
        #: The socket itself, whose calls nobody repairs.
        self.raw = socket
        self._owned: OwnedSocket | None = None
        self._endpoint: Any = socket.get(zmq.LAST_ENDPOINT)
        self._on_error = on_error
        census.live[id(self)] = self
        self._max_bytes = max_bytes
        self.transfer.pulls = not serves
        self.transfer.guard(
            self.outbox.lanes,
            self.outbox.arrivals,
            self.outbox.maxsize,
            self.readiness.readers,
            self.readiness.writers,
            self.readiness.pollers,
            self.readiness.check,
            2 if self.kind in _PER_PEER else 1,
        )
        # `zmq.Context.destroy` closes the original, and nothing else would tell.
        socket.close = _closing(weakref.ref(self), socket)  # type: ignore[assignment,method-assign]
        if os.environ.get("GZMQSOURCE_DEBUG", "0") not in ("", "0"):
            from gzmqsource._socket.watchdog import watch

            watch(self.readiness, socket)

    @property
    def closed(self) -> bool:
        """Whether the socket is gone, or belongs to the parent process."""
        return self.readiness.closed

    def enter(self) -> None:
        """Turn away another thread, and whoever comes after the end."""
        if get_hub_if_exists() is not self.hub:
            raise InvalidThreadUseError(
                f"{self.name} belongs to the hub of another thread: "
                "send through a handle from its sender()"
            )
        if self.readiness.closed:
            raise self.closed_error()

    def closed_error(self) -> SourceClosed:
        """Make the error of a call that comes too late."""
        error: SourceClosed
        if self.readiness.forked:
            error = SourceForked(
                f"{self!r} was made in the parent process: make a new one after the fork"
            )
        elif self.cause is not None:
            error = SourceBroken(f"{self!r} lost its socket: {self.cause}")
        else:
            error = SourceClosed(f"{self!r} is {self.state.value}")
        error.__cause__ = self.cause
        return error

    def owned(self) -> OwnedSocket:
        """Give the socket for outside use, and repair what is done with it before a switch."""
        if self._owned is None:
            self._owned = OwnedSocket.of(self.raw, self.readiness)
        self.readiness.check()
        return self._owned

    def receive(self, into: list[list[Any]], limit: int) -> None:
        """Receive without waiting.

        Raises
        ------
        zmq.ZMQError
            libzmq refuses, and nothing came before; the socket goes on. If the socket is gone
            nothing is raised: the core is closed then.
        """
        held = len(into)
        try:
            self.transfer.receive(into, limit, self._max_bytes)
        except zmq.ZMQError as error:
            if severity(error) is Severity.FATAL:
                self.break_off(error)
            elif len(into) == held:
                raise
        finally:
            self.readiness.check()

    def send(self, message: AnyMessage, block: bool, timeout: float | None) -> None:
        """Send or queue a message; see `gzmqsource.Source.send`."""
        checked = self.outbox.checked(message)
        if self.outbox.is_free(checked):
            try:
                if self.outflow.send_now(checked):
                    return
            except zmq.ZMQError as error:
                if severity(error) is Severity.FATAL:
                    self.break_off(error)
                    raise self.closed_error() from error
                raise SendError(error, as_frames(checked)) from None
        self.flush_soon()  # it may wait below, and a flusher may have died for want of memory
        try:
            self.outbox.put(checked, block, timeout)
        except SourceClosed:
            raise self.closed_error() from self.cause
        self.flush_soon()

    def accept(self) -> None:
        """Take over what other threads have posted; in the hub that owns it."""
        if not self.closed:
            self.outbox.accept_arrivals()
            self.outbox.forget_withdrawn()
            self.flush_soon()

    def flush_soon(self) -> None:
        """See to it that what is queued is sent."""
        self.outflow.flush_soon(self.report, self.break_off)

    def begin_to_serve(self) -> None:
        """Let a handler take the messages, once it is started; nobody pulls them any more."""
        self._check_receives()
        if self.readiness.readers:
            raise ValueError(f"{self!r} gets no handler while a greenlet waits in recv")
        self.serves = True
        self.state = State.OPEN
        self.transfer.pulls = False

    def pause(self) -> None:
        """Take no more messages in."""
        self.transfer.pulls = False
        self.resumed.clear()
        self.readiness.wake_all()

    def resume(self) -> None:
        """Take messages in again."""
        self.transfer.pulls = not self.serves and self.state is State.STARTED
        self.resumed.set()

    def end_intake(self) -> None:
        """Take no more messages in, for good; who waits for one looks up."""
        self.state = State.STOPPING
        self.transfer.pulls = False
        self.resumed.set()
        self.readiness.wake_all()

    def take_turn(self) -> None:
        """Count one message of a greenlet that need not wait; let other I/O in when it is time."""
        transfer = self.transfer
        if transfer.turn_left <= 0 and self.turn.is_over() and getcurrent() is not self.hub:
            self.turns += 1
            let_io_in(self.hub)
            self.enter()
            self.turn.is_over()
        transfer.goes_on()

    def report(self, error: BaseException, message: list[Any] | None) -> None:
        """Give an error to ``on_error``, or to the hub."""
        self.errors += 1
        if self._on_error is not None and isinstance(error, (Exception, gevent.Timeout)):
            try:
                self._on_error(error, message)
                return
            except BaseException as raised:
                error = raised
        self.hub.handle_error(self, type(error), error, error.__traceback__)

    def break_off(self, error: zmq.ZMQError) -> None:
        """Close, for the socket is gone."""
        if not self.closed:
            self._release(error, self.raw.close)

    def close(self) -> None:
        """Close everything now."""
        self._release(None, self.raw.close)

    def release_lingering(self, timeout: float | None) -> list[list[Any]]:
        """Close and wait while libzmq sends what it holds; return what it has not taken."""
        unsent = self._detach(None)
        try:
            close_and_wait(self.raw, timeout)
        except zmq.ZMQError:
            self.raw.close()
        finally:
            self.done.set()
        return unsent

    def drop(self) -> None:
        """Close what the user dropped, and warn; this may run in any thread."""
        if self.readiness.forked:
            self.turn.close()
            self.raw._closed = True  # or pyzmq would warn of what only the parent can close
        elif not self.closed:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=3)
            finally:
                if get_hub_if_exists() is self.hub:
                    self.close()
                else:
                    self._close_elsewhere()

    def lose_socket(self) -> None:
        """Take note that somebody else closes the socket."""
        if not self.closed:
            self._release(zmq.ZMQError(zmq.ENOTSOCK, "somebody else closed it"), lambda: None)

    def count_dropped(self, reason: str, count: int) -> None:
        """Count messages that are given up."""
        if count:
            self.outbox.dropped[reason] += count

    @property
    def endpoint(self) -> str:
        """The endpoint that was bound or connected last; another thread gets what was known."""
        # Not asked once it is closed: a forked child would never get an answer.
        if not self.closed and get_hub_if_exists() is self.hub:
            with contextlib.suppress(zmq.ZMQError):  # the context may have ended
                self._endpoint = self.raw.get(zmq.LAST_ENDPOINT)
        return str(self._endpoint.rstrip(b"\0").decode(errors="replace"))

    def __repr__(self) -> str:
        state = State.CLOSED if self.closed else self.state
        paused = "" if self.resumed.is_set() else "paused"
        words = (self.name, self.kind.name, self.endpoint, state.value, paused)
        return f"<{' '.join(filter(None, words))}>"

    def _check_receives(self) -> None:
        if self.kind in _RECEIVES_NOTHING:
            raise ValueError(
                f"{self.name} with a handler: a {self.kind.name} socket receives nothing"
            )

    def _release(self, cause: zmq.ZMQError | None, close: Callable[[], None]) -> None:
        """Let go of everything; report the cause unless there are pullers, who are told."""
        was_serving = self.serves and self.state is State.STARTED
        self.count_dropped("unsent", len(self._detach(cause)))
        close()
        self.done.set()
        if was_serving and cause is not None:
            self.report(cause, None)

    def _close_elsewhere(self) -> None:
        if self.hub.loop:
            self.hub.loop.run_callback_threadsafe(self.readiness.close)
            self.hub.loop.run_callback_threadsafe(self.turn.close)
        census.closed(self)
        self.state = State.CLOSED
        self.transfer.close()
        del self.raw.close
        self.raw.close()

    def _detach(self, cause: zmq.ZMQError | None) -> list[list[Any]]:
        """Let go of the socket: watcher, then all who wait; return what was not sent."""
        _ = self.endpoint  # the last chance to learn it
        census.closed(self)
        self.state = State.CLOSED
        self.cause = cause
        self.transfer.close()
        self.turn.close()
        self.readiness.close()
        unsent = self.outbox.close()
        del self.raw.close
        if self._owned is not None:
            self._owned.mark_closed()
        self.resumed.set()
        return unsent


def _closing(owner: weakref.ref[Core], socket: zmq.Socket[Any]) -> Callable[[int | None], None]:
    """Give a ``close`` for a socket that tells its owner first.

    In another thread it leaves all to the owner's hub: pyzmq lets go of the GIL in a call, and to
    close a socket that the hub is just using crashes libzmq. `zmq.Context.destroy` waits then.
    """

    def close(linger: int | None = None) -> None:
        core = owner()
        if core is not None and get_hub_if_exists() is not core.hub:
            core.hub.loop.run_callback_threadsafe(socket.close, linger)
            return
        if core is not None:
            core.lose_socket()
        type(socket).close(socket, linger)

    return close


def _leave_to_the_parent() -> None:
    """Empty the hands of a forked child: what is in them is the parent's to handle."""
    for core in list(census.live.values()):
        core.in_hand.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)
