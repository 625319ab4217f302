"""The state that a source, its receiver and its senders share: the socket and all its users."""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.queue import Full

from gzmqsource._base.event import Event
from gzmqsource._base.fork import abandon_in_child
from gzmqsource._base.hubs import call_in_hub, end_with_thread, idle_for
from gzmqsource._base.repairs import Repairs
from gzmqsource._socket import HubSocket
from gzmqsource._socket.budget import call_after_io
from gzmqsource._socket.linger import RECEIVES_NOTHING, close_and_free, close_and_wait
from gzmqsource._socket.view import SourceSocket, check_is_free
from gzmqsource._source import failures, refusals, registry
from gzmqsource._source.flusher import Flusher, Report, last_look
from gzmqsource._source.limits import Limits
from gzmqsource._source.lull import Lull
from gzmqsource._source.outbox import Outbox, Overflow
from gzmqsource._source.reader import Reader
from gzmqsource._source.underneath import close_underneath
from gzmqsource.errors import Severity, SourceClosed, severity
from gzmqsource.transfer.message import PER_PEER, AnyMessage

if TYPE_CHECKING:
    from gzmqsource._source.stats import Stats


class State(enum.Enum):
    """The stages in the life of a source."""

    OPEN = "not started"  #: has a handler that is not called yet: it sends, and reads nothing
    STARTED = "started"  #: reads: its handler is called with messages, or it is pulled
    DRAINING = "draining"  #: is about to stop, and continues to read until its peers are quiet
    STOPPING = "stopping"  #: does not read any more, and sends queued messages
    CLOSED = "closed"  #: its socket is gone
    FORKED = "forked"  #: its socket belongs to the parent process


class Core:
    """A socket with its outbox and its state, from the time it is taken over until it is closed.

    Parameters
    ----------
    name : str
        The name that error texts use for it.
    socket, outbox, outbox_bytes, overflow, copy, on_error, ref
        As for `gzmqsource.Source`.
    serves : bool
        Whether a handler takes the messages; if not the source is pulled.
    limits : Limits
        The tunables.
    """

    #: Seconds without a poll after which its hub is late: nothing is received in that time.
    late = 3.0
    #: The object that holds up the intake instead of a pool, if its owner has one.
    gate: Any = None
    #: Returns whether a message that was not read is lost, if its owner knows that.
    is_loss: Callable[[list[Any]], bool] | None = None
    #: Called with a message whose handler has raised, and with that exception.
    salvage: Callable[[list[Any], BaseException], object] | None = None
    #: The owner of the source, which counts more about it.
    owner: registry.Owner | None = None
    #: The greenlet that sends queued messages, once there was one.
    flusher: Flusher | None = None
    #: Whether libzmq has given up messages that it had taken, because the linger time was over.
    gave_up = False
    #: libzmq's error that ended it.
    cause: zmq.ZMQError | None = None

    def __init__(
        self,
        name: str,
        socket: zmq.Socket[Any],
        *,
        outbox: int,
        outbox_bytes: int,
        overflow: Overflow,
        copy: bool,
        on_error: Report | None,
        ref: bool,
        serves: bool,
        limits: Limits,
    ) -> None:
        check_is_free(socket, "a source owns a zmq.Socket")
        self.kind = zmq.SocketType(int(socket.get(zmq.TYPE)))
        self.name = name
        if serves:
            self._check_receives()
        self.outbox = Outbox(
            outbox, overflow, self.kind in PER_PEER, outbox_bytes, limits.max_outbox_bytes
        )
        self.socket = HubSocket(
            socket,
            copy=copy,
            ref=ref,
            max_messages=limits.max_messages,
            max_seconds=limits.max_seconds,
        )
        self._reader = Reader(self.socket, limits, self)
        self.socket.allow_shortcuts(self.outbox)
        self.hub = self.socket.hub
        #: Set while it is not paused.
        self.resumed = Event()
        self.resumed.set()
        #: Set when the socket is gone.
        self.done = Event()
        #: The time without a message.
        self.lull = Lull()
        #: Messages that were read and not dispatched yet, the next one last: at most one batch.
        self.prefetched: list[list[Any]] = []
        #: Whether a handler takes the messages; if not the source is pulled.
        self.serves = serves
        self.errors = 0
        #: The socket itself, whose calls are not rechecked.
        self.raw = socket
        self._view: SourceSocket | None = None
        self._endpoint: Any = socket.get(zmq.LAST_ENDPOINT)
        self._on_error = on_error
        self._accepter: gevent.Greenlet[..., None] | None = None  # waits to take over more arrivals
        self.enter_state(State.OPEN if serves else State.STARTED)
        registry.live[id(self)] = self
        abandon_in_child(self)
        end_with_thread(self, self.hub)
        Repairs.of(self.hub).add(self)
        # `zmq.Context.destroy` closes the original, and nothing else would report it.
        socket.close = close_underneath(weakref.ref(self), socket)  # type: ignore[assignment,method-assign]
        self._watch_if_debugging()

    def enter_state(self, state: State | None = None) -> None:
        """Change the state, if one is passed, and the flags that depend on it and on a pause."""
        if state is not None:
            self.state = state
        #: Whether messages are received.
        self.started = self.state in (State.STARTED, State.DRAINING)
        #: Whether the socket is gone, or belongs to the parent process.
        self.closed = self.state in (State.CLOSED, State.FORKED)
        if self.state in (State.STOPPING, State.CLOSED):
            self.resumed.set()
        may_pull = self.state is State.STARTED and not self.serves and self.resumed.is_set()
        self.socket.shortcuts.may_pull = may_pull

    @property
    def is_draining(self) -> bool:
        """Whether a stop waits while messages are received, which they are not in a pause."""
        return self.state is State.DRAINING and self.resumed.is_set()

    def enter(self) -> None:
        """Raise the error of a call in another thread, or of a call that comes too late."""
        if get_hub_if_exists() is not self.hub:
            raise refusals.wrong_hub(self)
        if self.closed:
            raise self.closed_error()

    def closed_error(self) -> SourceClosed:
        """Return the error of a call that comes too late."""
        return refusals.too_late(self, self.state is State.FORKED, self.state.value)

    def view(self) -> SourceSocket:
        """Return the socket for the user, and have it rechecked before the loop polls."""
        if self._view is None:
            self._view = SourceSocket.of(self.raw, self.socket)
        self.socket.readiness.recheck()
        return self._view

    def receive(self, into: list[list[Any]], limit: int) -> None:
        """Receive without waiting.

        Raises
        ------
        zmq.ZMQError, MemoryError
            libzmq refuses, and no message came before; the socket still works. If the socket is
            gone, nothing is raised: the core is closed then.
        """
        before = len(into)
        try:
            self._reader.receive(into, limit)
        except zmq.ZMQError as error:
            if severity(error) is Severity.FATAL:
                self.fail(error)
            elif len(into) == before:
                if error.errno == zmq.ENOTSUP:
                    raise refusals.receives_nothing(self) from None
                raise
        except MemoryError:
            if len(into) == before:
                raise

    def spend(self, may_yield: Callable[[], bool] | None = None) -> None:
        """Count one message of a greenlet that can go on; yield to I/O when it is time."""
        if self.socket.budget.take(may_yield):
            self.enter()

    def send(self, message: AnyMessage, block: bool, timeout: float | None) -> None:
        """Send or queue a message; see `gzmqsource.Source.send`."""
        checked = self.outbox.checked(message)
        if self.outbox.is_free(checked):
            try:
                if self.socket.send(checked):
                    return
            except zmq.ZMQError as error:
                if severity(error) is Severity.FATAL:
                    self.fail(error)
                    raise self.closed_error() from error
                raise refusals.not_sent(self, error, checked) from None
        self.flush_soon()  # this may wait below, and a flusher may have died when memory ran out
        look = functools.partial(last_look, self.socket, self.flush_soon)
        try:
            self.outbox.put(checked, block, timeout, look, self.flush_soon)
        except SourceClosed:
            raise self.closed_error() from self.cause
        except Full as full:
            full.args = (refusals.no_room(self, timeout if block else None),)
            raise

    def accept(self) -> None:
        """Take over the messages that other threads have posted; call this in the owner's hub."""
        if not self.closed:
            try:
                are_left = self.outbox.accept_arrivals()
                self.flush_soon()
                # In turns: 160,000 arrivals would hold up other greenlets too long.
                if are_left and not self._accepter:
                    self._accepter = call_after_io(self.hub, self.accept)
            except BaseException:  # of a signal handler: other threads do not notify the hub again
                self.hub.loop.run_callback(self.accept)
                raise

    def flush_soon(self) -> None:
        """Ensure that queued messages are sent, even while the flusher waits for other lanes."""
        outbox, flusher = self.outbox, self.flusher
        if not outbox.has_queued:
            return
        if not flusher or flusher.is_over:
            self._new_flusher().start()
        elif outbox.filled:
            self.socket.readiness.wake_writers()

    def wait_until_flushed(self, timeout: float | None) -> bool:
        """Wait until libzmq has taken all queued messages; return False if *timeout* ran out."""
        self.accept()
        look = last_look(self.socket, self.flush_soon, lambda: self.outbox.depth)
        return self.outbox.wait_until_empty(timeout, look)

    def serve(self) -> None:
        """Let a handler take the messages, once started; the source is no longer pulled."""
        self._check_receives()
        if self.socket.readiness.readers:
            raise ValueError(f"{self!r} cannot have a handler while a greenlet waits in recv")
        self.serves = True
        self.enter_state(State.OPEN)

    def pause(self) -> None:
        """Stop receiving until `resume`."""
        self.resumed.clear()
        self.enter_state()
        self.socket.readiness.wake_all()
        self.lull.end()

    def resume(self) -> None:
        """Receive messages again."""
        self.resumed.set()
        self.enter_state()

    def stop_receiving(self) -> None:
        """Stop receiving for good; greenlets that wait for a message look at the state."""
        self.enter_state(State.STOPPING)
        self.socket.readiness.wake_all()
        self.lull.end()

    def report(self, error: BaseException, message: list[Any] | None) -> None:
        """Pass an error to ``on_error``, or otherwise to the log or the hub."""
        self.errors += 1
        if self._on_error is not None and not failures.is_for_hub(self, error):
            try:
                self._on_error(error, message)
                return
            except BaseException as raised:
                error = raised
        failures.report(self, error, message)

    def fail(self, error: zmq.ZMQError) -> None:
        """Close, because the socket is gone."""
        if not self.closed:
            self._close(error, lambda: self.raw.close())

    def socket_closed(self) -> None:
        """Note that code other than the source is closing the socket."""
        if not self.closed:
            self._close(zmq.ZMQError(zmq.ENOTSOCK, "something else closed it"), lambda: None)

    def close(self) -> None:
        """Close everything now, and wait a short time until the endpoints are free."""
        self._close(None, lambda: close_and_free(self.raw))

    def close_elsewhere(self, close: Callable[[], object]) -> None:
        """Close in another thread, which leaves the hub's part to the hub, or after its end."""
        registry.closing(self)
        self.enter_state(State.CLOSED)
        del self.raw.close
        self.socket.release(close)
        if not call_in_hub(self.hub, self._refuse_putters):
            self._refuse_putters()

    def close_lingering(self, timeout: float | None) -> list[list[Any]]:
        """Close, and wait while libzmq sends its messages; return those that it has not taken."""

        def close() -> None:
            try:
                self.gave_up = close_and_wait(self.raw, timeout, self.socket.transfer.sent > 0)
            except zmq.ZMQError:
                self.raw.close()

        return self._release(None, close)

    def finalize(self, reason: str = "") -> None:
        """Close a source that the user dropped, and warn; this may run in any thread."""
        if self.state is State.FORKED:
            self.socket.budget.close()
            self.raw._closed = True  # or pyzmq would warn, and only the parent can close it
        elif not self.closed:
            try:
                if self.state is State.OPEN:
                    reason += ", whose handler was never called: start() was not"
                warnings.warn(f"unclosed {self!r}{reason}", ResourceWarning, stacklevel=3)
            finally:
                if get_hub_if_exists() is self.hub:
                    self._close(None, lambda: self.raw.close())
                else:
                    self.close_elsewhere(lambda: self.raw.close())

    def thread_ended(self) -> None:
        """Close a source that was left open in a thread that ends, and warn."""
        self.finalize(", whose thread has ended")

    def abandon(self) -> None:
        """Leave the socket and the prefetched messages to the parent process."""
        if not self.closed:
            self.prefetched.clear()
            self.enter_state(State.FORKED)

    def count_dropped(self, reason: str, count: int) -> None:
        """Count messages that were given up."""
        if count:
            self.outbox.dropped[reason] += count

    def snapshot(self) -> Stats:
        """Return the counters."""
        # Imported when needed: `dataclasses` takes a third of this package's import time.
        from gzmqsource._source.stats import stats_of

        return stats_of(self)

    @property
    def endpoint(self) -> str:
        """The endpoint bound or connected last; in another thread, the last known one."""
        # Not after it was closed: in a forked child, libzmq would never return.
        if not self.closed and get_hub_if_exists() is self.hub:
            with contextlib.suppress(zmq.ZMQError):  # the context may have ended
                self._endpoint = self.raw.get(zmq.LAST_ENDPOINT)
        return str(self._endpoint.rstrip(b"\0").decode(errors="replace"))

    def __repr__(self) -> str:
        paused = "" if self.resumed.is_set() else "paused"
        words = (self.name, self.kind.name, self.endpoint, self.state.value, paused)
        idle = 0.0 if self.closed else idle_for(self.hub)
        late = f", and the hub has not run for {idle:.0f} s" if idle >= self.late else ""
        return f"<{' '.join(filter(None, words))}{late}>"

    def _new_flusher(self) -> Flusher:
        refused = functools.partial(refusals.not_sent, self)
        calls = self.report, self.fail, refused, self.flush_soon, self._flusher_ended
        self.flusher = flusher = Flusher(self.socket, self.outbox, *calls)
        return flusher

    def _flusher_ended(self, flusher: Flusher) -> None:
        """Start another one, some time later, if it was ended by an exception or a kill."""
        was_ended = flusher.exception is not None or flusher.value is not None
        if was_ended and flusher is self.flusher and not self.closed:
            self.outbox.revisit()
            if self.outbox.has_queued:
                self._new_flusher().start_later(flusher.pause)

    def repair(self) -> None:
        """Move on all that waits in the outbox: a callback that was to do so may have ended."""
        if not self.closed:
            self.outbox.revisit()
            self.accept()

    def _watch_if_debugging(self) -> None:
        if os.environ.get("GZMQSOURCE_DEBUG", "0") not in ("", "0"):
            from gzmqsource._socket.watchdog import watch

            watch(self.socket.readiness, self.raw)

    def _check_receives(self) -> None:
        if self.kind in RECEIVES_NOTHING:
            text = f"{self.name} with a handler: a {self.kind.name} socket receives nothing"
            raise ValueError(text)

    def _close(self, cause: zmq.ZMQError | None, close: Callable[[], None]) -> None:
        """Release everything; report the cause, unless the source is pulled: its calls raise it."""
        was_serving = self.serves and self.started
        self.count_dropped("unsent", len(self._release(cause, close)))
        if was_serving and cause is not None:
            self.report(cause, None)

    def _refuse_putters(self) -> None:
        self.count_dropped("unsent", len(self.outbox.close()))
        self.done.set()

    def _release(self, cause: zmq.ZMQError | None, close: Callable[[], None]) -> list[list[Any]]:
        """Release the socket and all greenlets that wait; return the messages not sent."""
        _ = self.endpoint  # the last chance to read it
        registry.closing(self)
        self.cause = cause
        self.enter_state(State.CLOSED)
        unsent = self.outbox.close()
        del self.raw.close
        if self._view is not None:
            self._view.mark_closed()
        self.lull.end()
        try:
            self.socket.release(close)
        except BaseException:  # a kill, while it waits for libzmq
            self.count_dropped("unsent", len(unsent))
            raise
        finally:
            self.done.set()
        return unsent
