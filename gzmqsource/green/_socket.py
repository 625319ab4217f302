"""`Socket`: pyzmq's, with calls that wait in the hub and not in libzmq."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import zmq
from gevent._hub_local import get_hub_if_exists
from zmq.backend import Socket as BackendSocket
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.deadline import Deadline
from gzmqsource.green._poll import Poller
from gzmqsource.green._shared import Frame, Waits, check_waits, generation, known_waits, waits_for
from gzmqsource.green._tracker import MessageTracker
from gzmqsource.transfer.pure import DROPPING_TYPES

_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)

_ReturnT = TypeVar("_ReturnT", covariant=True)


class Socket(PlainSocket[_ReturnT]):
    """A `zmq.Socket` whose waiting calls let other greenlets run.

    Any number of greenlets may wait in `recv`, `send` and `poll`; they are served in FIFO order.
    Nothing is read ahead. ``RCVTIMEO`` and ``SNDTIMEO`` hold. If a greenlet is killed while it
    waits, no message is lost, and the one it was to send is not sent.

    In a forked child an inherited socket raises ``ZMQError(ENOTSOCK)``; make a new one.
    """

    _repr_cls = "zmq.green.Socket"
    _poller_class = Poller

    #: Declared on the class, for pyzmq takes any other attribute for a socket option; and for a
    #: subclass that does not call ``__init__``.
    _waits: Waits | None = None
    _made_in: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[misc]
        self._made_in = generation()

    def recv(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        """Receive one frame; see `zmq.Socket.recv`."""
        waits = self._waits
        if waits is not None and copy and not flags:
            frame = self._pull(waits, waits.transfer.receive_frame_direct)
            if frame is not None:
                return frame
        return self._receive(functools.partial(BackendSocket.recv, self), flags, copy, track)

    def recv_multipart(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        """Receive one message, as a list of its frames; see `zmq.Socket.recv_multipart`."""
        waits = self._waits
        if waits is not None and copy and not flags and type(self).recv is Socket.recv:
            message = self._pull(waits, waits.transfer.receive_direct)
            if message is not None:
                return message
        return super().recv_multipart(flags, copy=copy, track=track)

    def recv_into(self, buffer: Any, /, *, nbytes: int = 0, flags: int = 0) -> int:
        """Receive one frame into a buffer; see `zmq.Socket.recv_into`."""

        def receive(flags: int) -> int:
            return BackendSocket.recv_into(self, buffer, nbytes=nbytes, flags=flags)

        received: int = self._receive(receive, flags)
        return received

    def send(  # type: ignore[override]
        self, data: Any, flags: int = 0, copy: bool = True, track: bool = False, **kwargs: Any
    ) -> Any:
        """Send one frame; see `zmq.Socket.send`."""
        waits = self._waits
        if (
            waits is not None
            and not flags
            and copy
            and not track
            and not kwargs
            and type(data) is bytes
            and not waits.begun
            and waits.transfer.send_direct(data)
        ):
            return None
        trackers: list[Any] = []

        def send(flags: int) -> None:
            trackers[:] = [PlainSocket.send(self, data, flags, copy, track, **kwargs)]

        self._send([(send, flags)])
        return MessageTracker(trackers[0]) if track else None

    def send_multipart(
        self,
        msg_parts: Sequence[Any],
        flags: int = 0,
        copy: bool = True,
        track: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Send one message; see `zmq.Socket.send_multipart`."""
        if type(self).send is not Socket.send:
            return super().send_multipart(msg_parts, flags, copy, track, **kwargs)
        waits = self._waits
        if (
            waits is not None
            and not flags
            and copy
            and not track
            and not kwargs
            and not waits.begun
            and waits.transfer.send_direct(msg_parts)
        ):
            return None
        parts = list(msg_parts)
        for index, part in enumerate(parts):
            if not isinstance(part, (zmq.Frame, bytes, memoryview)):
                try:
                    memoryview(part)
                except TypeError:
                    raise TypeError(
                        f"Frame {index} ({part!r:.60}) does not support the buffer interface."
                    ) from None
        if not parts:
            return None
        trackers: list[Any] = []

        def send(part: Any, flags: int) -> None:
            trackers[:] = [PlainSocket.send(self, part, flags, copy, track, **kwargs)]

        more = flags | _SNDMORE
        frames = [(functools.partial(send, part), more) for part in parts[:-1]]
        self._send([*frames, (functools.partial(send, parts[-1]), flags)])
        return MessageTracker(trackers[0]) if track else None

    def close(self, linger: int | None = None) -> None:
        """Close the socket; who waits on it gets ``ZMQError(ENOTSOCK)``."""
        waits = known_waits(self)
        if waits is not None:
            waits.forget_socket()
        try:
            super().close(linger)
        finally:
            if waits is not None and not waits.readiness.closed:
                if get_hub_if_exists() is waits.hub:
                    waits.close()
                elif waits.hub.loop:
                    waits.hub.loop.run_callback_threadsafe(waits.close)

    def _enter(self) -> Waits | None:
        """Give what this socket waits with in the current hub; None if it is closed."""
        if self._made_in not in (None, generation()):
            raise zmq.ZMQError(
                zmq.ENOTSOCK, f"{self!r} was made in the parent process: make a new one"
            )
        waits = self._waits
        if self._closed:
            return None
        if waits is None or not waits.is_here:
            waits = waits_for(self)
        return waits

    def _pull(self, waits: Waits, receive: Callable[[], Any]) -> Any:
        """Receive by a short cut, after a wait if there is nothing; None to take the long way."""
        found = receive()
        if found is False:
            deadline = waits.deadline(zmq.RCVTIMEO)
            while found is False:
                if not waits.wait_readable(deadline):
                    raise zmq.Again
                found = receive()
        return found

    def _receive(self, receive: Callable[..., Any], flags: int, *arguments: Any) -> Any:
        """Call *receive* until there is something, or ``RCVTIMEO`` is over."""
        waits = self._enter()
        if waits is None:
            return receive(flags | _NOBLOCK, *arguments)
        readiness = waits.readiness
        if not flags & _NOBLOCK:
            waits.take_turn(waits.is_between_messages)
        deadline: Deadline | None = None
        if readiness.readers and not flags & _NOBLOCK and waits.is_between_messages():
            # Others were here first: they are woken before this greenlet.
            readiness.check()
            deadline = waits.deadline(zmq.RCVTIMEO)
            if not waits.wait_readable(deadline):
                raise zmq.Again
        while True:
            try:
                return receive(flags | _NOBLOCK, *arguments)
            except zmq.Again:
                if flags & _NOBLOCK:
                    raise
            finally:
                readiness.check()
            deadline = deadline or waits.deadline(zmq.RCVTIMEO)
            if not waits.wait_readable(deadline):
                raise zmq.Again

    def _send(self, frames: list[Frame]) -> None:
        """Send frames of one message, all or none, until libzmq takes them or ``SNDTIMEO``."""
        waits = self._enter()
        flags = frames[-1][1]
        if waits is None:
            frames[0][0](flags | _NOBLOCK)
            return
        if not flags & _NOBLOCK and not waits.begun:
            waits.take_turn(lambda: not waits.begun)
        attempt = functools.partial(self._attempt, waits.begun, frames)
        try:
            # Nobody overtakes those who wait.
            sent = (flags & _NOBLOCK or not waits.is_sending) and attempt()
            if not sent and not flags & _NOBLOCK:
                sent = waits.send(attempt, waits.deadline(zmq.SNDTIMEO))
            if not sent:
                raise zmq.Again
        except BaseException:
            waits.begun.clear()
            raise
        finally:
            waits.readiness.check()
        if flags & _SNDMORE:
            waits.begun += frames
        else:
            waits.begun.clear()

    def _attempt(self, begun: list[Frame], frames: list[Frame]) -> bool:
        """Send frames without waiting; those that have *begun* their message were sent before.

        libzmq answers ``EAGAIN`` within a message if its pipe has died. It has forgotten the
        frames before, and a type that spreads messages over pipes drops those that follow, up to
        the last. So a last frame is given, and the message is sent again from its first frame.
        """
        done = len(begun)
        message = begun + frames
        while True:
            for index in range(done, len(message)):
                send, flags = message[index]
                try:
                    send(flags | _NOBLOCK)
                except zmq.Again:
                    if index == 0:
                        return False
                    if flags & _SNDMORE and self.get(zmq.TYPE) in DROPPING_TYPES:
                        BackendSocket.send(self, b"", _NOBLOCK)
                    # From now on there is nothing of it in libzmq.
                    frames[:0] = begun
                    begun.clear()
                    break
            else:
                return True
            done = 0


def _repairing(name: str) -> Callable[..., Any]:
    method = getattr(PlainSocket, name)

    @functools.wraps(method)
    def call(self: Socket[Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        finally:
            if self._waits is not None:
                self._waits.readiness.check()
            else:
                check_waits(self)  # another Python object may stand for the same socket

    return call


# The calls that read the mailbox, and each alias of them: pyzmq binds ``getsockopt`` past an
# overridden ``get``.
for _name in (
    *("bind", "connect", "unbind", "disconnect", "bind_to_random_port"),
    *("get", "getsockopt", "get_string", "getsockopt_string", "getsockopt_unicode"),
    *("set", "setsockopt", "set_string", "setsockopt_string", "setsockopt_unicode"),
    *("subscribe", "unsubscribe", "join", "leave", "monitor"),
):
    if hasattr(PlainSocket, _name):
        setattr(Socket, _name, _repairing(_name))
