"""What lets greenlets wait on one libzmq socket, whichever Python objects stand for it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.hub import get_hub
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.event import Event
from gzmqsource._socket.budget import Turn, let_io_in
from gzmqsource._socket.readiness import Readiness
from gzmqsource.errors import InvalidThreadUseError
from gzmqsource.transfer import transfer_for

#: Tries to send without waiting; False for ``EAGAIN``.
Attempt = Callable[[], bool]

#: Sends one frame with the given flags, and the flags.
Frame = tuple[Callable[[int], None], int]

_NEVER = Deadline(None)


class Waits:
    """Readiness, transfer and turn of a libzmq socket, in the hub that uses it.

    It knows the socket by its address, so that it does not keep it from being collected.

    Parameters
    ----------
    socket : zmq.Socket
        Any Python object that stands for the socket.
    """

    #: The most messages of one turn, and its longest time in seconds; see `gzmqsource.Source`.
    max_messages = 5000
    max_seconds = 0.001

    def __init__(self, socket: PlainSocket[Any]) -> None:
        self.hub = get_hub()
        self._socket = weakref.ref(socket)
        self._shadow = PlainSocket(shadow=socket.underlying)
        self.transfer = transfer_for(self._shadow)
        self.readiness = Readiness(socket, self.transfer.events)
        self.turn = Turn(self.hub, self.transfer, self.max_messages, self.max_seconds)
        #: Frames that libzmq has taken of a message whose last frame is yet to come: what sends
        #: each, and its flags.
        self.begun: list[Frame] = []
        #: Who waits until libzmq has taken their message, in FIFO order.
        self._pending: dict[_Pending, None] = {}
        self._sender: gevent.Greenlet[[], None] | None = None
        self.transfer.pulls = True
        self.transfer.guard(
            self._pending,
            (),
            0,
            self.readiness.readers,
            self.readiness.writers,
            self.readiness.pollers,
            self.readiness.check,
            1,
        )

    @property
    def is_here(self) -> bool:
        """Whether they serve the current hub."""
        return get_hub_if_exists() is self.hub and not self.readiness.closed

    @property
    def is_over(self) -> bool:
        """Whether their socket is known to be closed: its address may be another's by now."""
        socket = self._socket()
        return self.readiness.closed or (socket is not None and bool(socket._closed))

    @property
    def is_sending(self) -> bool:
        """Whether somebody waits for libzmq to take a message."""
        return bool(self._pending)

    def deadline(self, option: int) -> Deadline:
        """Give the deadline of a call that begins now: ``RCVTIMEO`` or ``SNDTIMEO`` tells it."""
        timeout = self.transfer.option(option)
        return _NEVER if timeout < 0 else Deadline(timeout / 1000)

    def is_between_messages(self) -> bool:
        """Whether the frame that was received last, if any, was the last of its message."""
        return not self.transfer.option(zmq.RCVMORE)

    def take_turn(self, is_between_messages: Callable[[], bool]) -> None:
        """Count a call of a greenlet that need not wait; let other I/O in when it is time.

        Never between the frames of a message: another greenlet might take the rest.
        """
        transfer = self.transfer
        if transfer.turn_left <= 0 and self.turn.is_over():
            if gevent.getcurrent() is self.hub or not is_between_messages():
                return
            let_io_in(self.hub)
            self.turn.is_over()
        transfer.goes_on()

    def wait_readable(self, deadline: Deadline) -> bool:
        """Wait until a receive should be tried; False if the deadline came first."""
        if self.readiness.closed:
            return True
        came = self.readiness.wait_readable(deadline.left())
        self.turn.renew()
        return came

    def send(self, attempt: Attempt, deadline: Deadline) -> bool:
        """Wait until *attempt* succeeds; False if the deadline came first.

        If the greenlet is killed its message is not sent.
        """
        pending = _Pending(attempt)
        self._pending[pending] = None
        try:
            if self._sender is None or self._sender.dead:
                self._sender = gevent.spawn(self._send_pending)
            elif not self.readiness.pollout_is_exact:
                # It waits for other peers, and this one may have room.
                self.readiness.wake_writers()
            # It may have been sent in the very moment in which the time was over.
            if not pending.done.wait(deadline.left()) and not pending.done.is_set():
                return False
        finally:
            self._pending.pop(pending, None)
            if not self._pending:
                self.readiness.wake_writers()  # that greenlet has nothing to do any more
        if pending.error is not None:
            raise pending.error
        return True

    def forget_socket(self) -> None:
        """Use its handle no more, which is freed memory once it is closed; in any thread."""
        self._shadow._closed = True

    def close(self) -> None:
        """Stop the watcher, then wake everybody who waits; their calls find the socket closed."""
        self.forget_socket()
        self.transfer.close()
        self.turn.close()
        self.readiness.close()

    def __del__(self) -> None:
        # Nobody waits, for who waits holds the socket; but the turn's timer may be active.
        if "turn" not in vars(self):
            return  # the context had ended before it was made
        if get_hub_if_exists() is self.hub:
            self.turn.close()
        elif self.hub.loop:
            self.hub.loop.run_callback_threadsafe(self.turn.close)

    def _send_pending(self) -> None:
        try:
            while self._pending and not self.readiness.closed:
                self.readiness.write(self._attempt_pending)
            for pending in list(self._pending):  # it is closed, as each attempt tells
                self._pending.pop(pending)
                pending.error = zmq.ZMQError(zmq.ENOTSOCK)
                pending.done.set()
        finally:
            self._sender = None

    def _attempt_pending(self) -> bool:
        """Try for those who wait, in order; True if one has left, or nobody waits."""
        progress = False
        for pending in list(self._pending):
            try:
                sent = pending.attempt()
            except Exception as error:
                pending.error = error
                sent = True
            if sent:
                progress = True
                self._pending.pop(pending, None)
                pending.done.set()
            elif self.readiness.pollout_is_exact:
                break
        return progress or not self._pending


class _Pending:
    """A message whose sender waits."""

    __slots__ = ("attempt", "done", "error")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.done = Event()
        self.error: BaseException | None = None


#: By the address of the libzmq socket, for as long as a Python object that used it lives.
_known: weakref.WeakValueDictionary[int, Waits] = weakref.WeakValueDictionary()
_held: weakref.WeakKeyDictionary[PlainSocket[Any], Waits] = weakref.WeakKeyDictionary()


def waits_for(socket: PlainSocket[Any]) -> Waits:
    """Give the waits of a socket for the current hub.

    Raises
    ------
    zmq.ZMQError
        The socket is closed.
    gevent.exceptions.InvalidThreadUseError
        Greenlets of another thread's hub wait on it: libzmq allows one thread at a time.
    """
    if socket.closed:
        raise zmq.ZMQError(zmq.ENOTSOCK)
    address = int(socket.underlying)
    waits = _known.get(address)
    if waits is not None and not waits.is_over:
        if waits.hub is get_hub():
            _hold(socket, waits)
            return waits
        if waits.readiness.waiting:
            raise InvalidThreadUseError(
                f"{socket!r} is waited for in the hub of another thread: "
                "a socket is used by one thread at a time"
            )
        for polled in waits.readiness.pollers:
            polled.suspect()  # of what is done here they will not hear
    waits = _known[address] = Waits(socket)
    _hold(socket, waits)
    return waits


def reports_calls(socket: PlainSocket[Any]) -> bool:
    """Whether it is a green socket, each call of which calls `Readiness.check`."""
    return hasattr(type(socket), "_waits")


def _hold(socket: PlainSocket[Any], waits: Waits) -> None:
    """Let the waits live as long as the socket."""
    if reports_calls(socket):
        socket._waits = waits
    else:
        _held[socket] = waits


def known_waits(socket: PlainSocket[Any]) -> Waits | None:
    """Give the waits of a socket, if it has any and is open."""
    return None if socket.closed else _known.get(int(socket.underlying))


def check_waits(socket: PlainSocket[Any]) -> None:
    """Repair the edge of a socket after a call that may have eaten it."""
    waits = known_waits(socket)
    if waits is not None and waits.is_here:
        waits.readiness.check()


def generation() -> int:
    """Count the forks that lie between this process and the first."""
    return _generation


_generation = 0


def _forget_inherited() -> None:
    global _generation
    _generation += 1
    _known.clear()
    _held.clear()


os.register_at_fork(after_in_child=_forget_inherited)
