"""`Socket`: pyzmq's, whose calls wait in the hub and not in libzmq."""

from __future__ import annotations

import contextlib
import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar, overload

import zmq
from zmq.backend import Socket as BackendSocket
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base import fork
from gzmqsource._base.deadline import Deadline
from gzmqsource._socket.calls import override_calls
from gzmqsource.green._calls import checked
from gzmqsource.green._parts import as_part, check_parts, untracked
from gzmqsource.green._poll import Poller
from gzmqsource.green._relay import Relay
from gzmqsource.green._shared import SharedSocket, known_socket, shared_socket

if TYPE_CHECKING:
    from typing_extensions import Self

_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)

_ReturnT = TypeVar("_ReturnT", covariant=True)
_CallT = TypeVar("_CallT")

_serial = itertools.count()


def _typed_as(plain: _CallT) -> Callable[[Callable[..., Any]], _CallT]:
    """Decorate a method to have the type of pyzmq's, whose result depends on ``copy``."""
    return lambda method: method  # type: ignore[return-value]


class Socket(PlainSocket[_ReturnT]):
    """A `zmq.Socket` whose waiting calls let other greenlets run.

    Any number of greenlets may wait in `recv`, `send` and `poll`; they are served in FIFO order.
    Nothing is read ahead. ``RCVTIMEO`` and ``SNDTIMEO`` apply. If a greenlet is killed while it
    waits, no message is lost, and the one that it was sending is not sent.

    Methods have the parameters and errors of pyzmq's. A call also raises
    `gzmqsource.InvalidThreadUseError` while greenlets of another thread's hub wait on the socket,
    unless it closes or monitors the socket, sets ``LINGER``, or reads an option other than
    ``EVENTS``: another thread may do that.
    In a forked child, an inherited socket raises ``ZMQError(ENOTSOCK)``, from ``poll`` ENOTSUP;
    make a new one.
    """

    __module__ = "gzmqsource.green"
    _poller_class = Poller

    #: pyzmq's, which polls by `_poller_class`: the poller repairs the edge.
    poll = PlainSocket.poll

    #: Declared on the class because pyzmq treats any other attribute as a socket option, and for
    #: subclasses that do not call ``__init__``.
    _shared: SharedSocket | None = None
    _made_in: int | None = None
    _relay: Relay | None = None

    # Of pyzmq's, which make it a socket whose calls return at once.
    @overload
    def __init__(
        self: Socket[bytes],
        ctx_or_socket: zmq.Context[Any],
        socket_type: int,
        *,
        copy_threshold: int | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: Socket[bytes],
        *,
        shadow: PlainSocket[Any] | int,
        copy_threshold: int | None = None,
    ) -> None: ...

    @overload
    def __init__(self: Socket[bytes], ctx_or_socket: PlainSocket[Any]) -> None: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[misc]
        self._made_in = fork.generation
        _live.sockets.add(self)

    @_typed_as(PlainSocket.recv)
    def recv(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        """Receive one frame; see `zmq.Socket.recv`."""
        shared = self._shared
        if shared is not None and not flags:
            receive: Callable[[], Any] = shared.shortcuts.receive_frame
            if not copy:
                receive = functools.partial(shared.shortcuts.receive_uncopied, track)
            frame = receive()
            if frame is False:
                slow = functools.partial(BackendSocket.recv, self)
                frame = self._wait_for(shared, receive, slow, copy, track)
            if frame is not None:
                return frame
        return self._receive(functools.partial(BackendSocket.recv, self), flags, copy, track)

    @_typed_as(PlainSocket.recv_multipart)
    def recv_multipart(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        """Receive one message, as a list of its frames; see `zmq.Socket.recv_multipart`."""
        shared = self._shared
        if shared is not None and copy and not flags and type(self).recv is Socket.recv:
            message = shared.shortcuts.receive()
            if message is False:
                receive = shared.shortcuts.receive
                message = self._wait_for(shared, receive, shared.receive_whole, copy)
            if message is not None:
                return message
        shared = self._enter()
        if shared is not None and not track and type(self).recv is Socket.recv:
            return self._receive(shared.receive_whole, flags, copy)
        message = [self.recv(flags, copy=copy, track=track)]
        shared = self._enter()
        while shared is not None and shared.transfer.option(zmq.RCVMORE):
            message.append(self.recv(flags, copy=copy, track=track))
        return message

    if hasattr(PlainSocket, "recv_into"):  # pyzmq 26.4; a program may check that, too

        def recv_into(self, buffer: Any, /, *, nbytes: int = 0, flags: int = 0) -> int:
            """Receive one frame into a buffer; see `zmq.Socket.recv_into`."""

            def receive(flags: int) -> int:
                return BackendSocket.recv_into(self, buffer, nbytes=nbytes, flags=flags)

            received: int = self._receive(receive, flags)
            return received

    @_typed_as(PlainSocket.send)
    def send(  # type: ignore[override]
        self,
        data: Any,
        flags: int = 0,
        copy: bool = True,
        track: bool = False,
        routing_id: int | None = None,
        group: str | None = None,
    ) -> Any:
        """Send one frame; see `zmq.Socket.send`.

        With ``SNDMORE`` the frame is held for this greenlet until the last one of its message, and
        only that one waits for libzmq and its errors. If it raises, nothing of the message was
        sent; the greenlet can repeat the last frame, or the whole message.
        """
        shared = self._shared
        # Inlined, here and in `send_multipart`: a call would take 0.07 us of a send's 0.5.
        if (
            shared is not None
            and type(data) is bytes
            and not track
            and routing_id is None
            and group is None
            and (
                shared.shortcuts.send_frames(data, flags) if flags else shared.shortcuts.send(data)
            )
        ):
            return None if copy else untracked(data, copy, self.copy_threshold)
        shared = self._enter()
        if shared is None:
            return PlainSocket.send(self, data, flags | _NOBLOCK)
        if routing_id is not None or group is not None:
            data = self._draft_frame(data, copy, track, routing_id, group)
        part, tracker = as_part(data, copy, track, self.copy_threshold)
        shared.outgoing.send(shared, [part], flags)
        return tracker

    @_typed_as(PlainSocket.send_multipart)
    def send_multipart(
        self,
        msg_parts: Sequence[Any],
        flags: int = 0,
        copy: bool = True,
        track: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Send one message; see `zmq.Socket.send_multipart`.

        Frames that this greenlet has sent with ``SNDMORE`` are sent in front of it.
        """
        if type(self).send is not Socket.send:
            return self._send_each(msg_parts, flags, copy, track)
        shared = self._shared
        if (
            shared is not None
            and type(msg_parts) is list
            and not track
            and (
                shared.shortcuts.send_frames(msg_parts, flags)
                if flags
                else shared.shortcuts.send(msg_parts)
            )
        ):
            return None if copy else untracked(msg_parts[-1], copy, self.copy_threshold)
        check_parts(msg_parts)
        parts = [*msg_parts[:-1], msg_parts[-1]]  # with the errors of pyzmq
        shared = self._enter()
        if shared is None:
            return PlainSocket.send_multipart(self, parts, flags | _NOBLOCK)
        tracker = None
        for index, part in enumerate(parts):
            parts[index], tracker = as_part(part, copy, track, self.copy_threshold)
        shared.outgoing.send(shared, parts, flags)
        return tracker

    def close(self, linger: int | None = None) -> None:
        """Close the socket; calls that wait on it raise ``ZMQError(ENOTSOCK)``.

        In another thread, it waits until the hub of these calls has closed it, or is held up.
        """
        shared = known_socket(self)
        if shared is None or shared.readiness.closed:
            super().close(linger)
            return
        if linger is not None:
            # First: its errors must not come when the greenlets that wait are already released.
            number: Any = int(linger) if isinstance(linger, Real) else linger
            with contextlib.suppress(zmq.ZMQError):
                PlainSocket.set(self, zmq.LINGER, number)
        shared.release(functools.partial(super().close, linger))

    def monitor(self, addr: str | bytes | None, events: int = int(zmq.EVENT_ALL)) -> None:
        """Report events to a PAIR that connects to *addr*; see `zmq.Socket.monitor`.

        Events are held while there is no PAIR, and while it is full. Beyond 10,000 events the
        oldest are dropped, and that is logged.
        """
        has_none: Any = self.context is None  # as of a shadow of an address: for no further socket
        if addr is None or self._closed or has_none or not _is_inproc(addr):
            super().monitor(addr, events)
            return
        if self._relay is not None:
            super().monitor(None, 0)
            self._relay.end_before(addr)  # which takes a millisecond
        try:
            self._relay = Relay(self, addr, events)
        except zmq.ZMQError as error:
            if error.errno == zmq.ETERM:
                raise zmq.ContextTerminated from None
            raise

    def get_monitor_socket(self, events: int | None = None, addr: str | None = None) -> Self:
        """Return a PAIR that receives the socket's events; see `zmq.Socket.get_monitor_socket`."""
        # pyzmq's default is the address of the monitor that a closed socket had.
        return super().get_monitor_socket(events, addr or f"inproc://monitor-{next(_serial)}")

    def _enter(self) -> SharedSocket | None:
        """Return the shared socket in the current hub; None if this socket is closed."""
        if self._made_in not in (None, fork.generation):
            raise zmq.ZMQError(
                zmq.ENOTSOCK, f"{self!r} was made in the parent process: make a new one"
            )
        shared = self._shared
        if self._closed:
            return None
        if shared is None or not shared.is_here:
            shared = shared_socket(self)
        return shared

    def _wait_for(
        self,
        shared: SharedSocket,
        shortcut: Callable[[], Any],
        receive: Callable[..., Any],
        *arguments: Any,
    ) -> Any:
        """Wait until *shortcut* has received, or *receive* where it declines.

        Return None if the socket belongs to another hub by then.
        """
        deadline = shared.deadline(zmq.RCVTIMEO)
        has_waited = False
        while shared.is_here:
            if not shared.wait_readable(deadline.left(), again=has_waited):
                raise zmq.Again
            has_waited = True
            received = shortcut()
            if received is None:  # others wait, perhaps, and this greenlet is before them
                return self._receive_in_turn(shared, deadline, True, receive, 0, *arguments)
            if received is not False:
                return received
        return None

    def _receive(self, receive: Callable[..., Any], flags: int, *arguments: Any) -> Any:
        """Call *receive* until there is a message, or until ``RCVTIMEO``."""
        shared = self._enter()
        if shared is None:
            return receive(flags | _NOBLOCK, *arguments)
        deadline: Deadline | None = None
        has_waited = False
        if not flags & _NOBLOCK:

            def time_left() -> float | None:
                nonlocal deadline  # the time in the queue of busy sockets counts, too
                deadline = shared.deadline(zmq.RCVTIMEO)
                return deadline.left()

            shared.budget.take(shared.may_yield, receives=True, left=time_left)
            if shared.readiness.readers and shared.is_between_messages():
                deadline = deadline or shared.deadline(zmq.RCVTIMEO)
                if not shared.wait_behind_readers(deadline.left()):
                    raise zmq.Again
                has_waited = True
        return self._receive_in_turn(shared, deadline, has_waited, receive, flags, *arguments)

    def _receive_in_turn(
        self,
        shared: SharedSocket,
        deadline: Deadline | None,
        has_waited: bool,
        receive: Callable[..., Any],
        flags: int,
        *arguments: Any,
    ) -> Any:
        """Receive, and wait while there is nothing, before the greenlets that wait by now."""
        transfer = shared.transfer
        while True:
            shared.readiness.recheck()
            transfer.last_receive = transfer.calls  # one of the transfer counts itself once more
            try:
                received = receive(flags | _NOBLOCK, *arguments)
            except zmq.Again:
                if flags & _NOBLOCK:
                    raise
            else:
                if has_waited:  # greenlets that wait for each other are busy, too
                    shared.budget.spend()
                return received
            deadline = deadline or shared.deadline(zmq.RCVTIMEO)
            if not shared.wait_readable(deadline.left(), again=has_waited):
                raise zmq.Again
            has_waited = True

    def _send_each(self, parts: Sequence[Any], flags: int, copy: bool, track: bool) -> Any:
        """Send a message by the subclass's `send`; forget all of it if that raises."""
        shared = self._enter()
        held = 0
        if shared is not None:
            more = _SNDMORE if len(parts) > 1 else 0
            held = shared.outgoing.held(list(parts[:1]), flags | more)
        try:
            return super().send_multipart(parts, flags, copy, track)
        except BaseException:
            if shared is not None:
                shared.outgoing.forget(held)
            raise

    def _draft_frame(
        self, data: Any, copy: bool, track: bool, routing_id: int | None, group: str | None
    ) -> zmq.Frame:
        """Return a frame for one of the draft types, as pyzmq makes it."""
        frame = data
        if not isinstance(frame, zmq.Frame):
            frame = zmq.Frame(data, track, copy or None, self.copy_threshold)
        if routing_id is not None:
            frame.routing_id = routing_id
        if group is not None:
            frame.group = group
        return frame


def _is_inproc(address: Any) -> bool:
    prefix: Any = b"inproc://" if isinstance(address, bytes) else "inproc://"
    return isinstance(address, (str, bytes)) and address.startswith(prefix)


class _Live:
    """All green sockets: those that a forked child inherits are closed for it."""

    def __init__(self) -> None:
        self.sockets: weakref.WeakSet[Socket[Any]] = weakref.WeakSet()
        fork.abandon_in_child(self)

    def abandon(self) -> None:
        """Mark the sockets closed for pyzmq: libzmq would never return from some calls on them."""
        for socket in list(self.sockets):
            socket._closed = True
        self.sockets.clear()
        fork.abandon_in_child(self)


_live = _Live()


override_calls(Socket, checked)
