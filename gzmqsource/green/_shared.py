"""One libzmq socket of the drop-in, shared by all Python objects that stand for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.hub import get_hub
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.hubs import call_in_hub, can_run
from gzmqsource._base.oneshot import OneShot
from gzmqsource._socket import HubSocket
from gzmqsource.errors import InvalidThreadUseError
from gzmqsource.green._outgoing import Outgoing


class SharedSocket(HubSocket):
    """A libzmq socket in the hub that uses it, for all Python objects that stand for it.

    It refers to the socket by its address, so that the Python objects can be collected.

    Parameters
    ----------
    socket : zmq.Socket
        Any Python object that stands for the socket.
    partial : dict
        The frames that greenlets have sent, of messages whose last frame has not come yet.
    """

    #: Seconds that a call of `release` in another thread waits for the hub.
    patience = 1.0

    def __init__(self, socket: PlainSocket[Any], partial: dict[Any, list[Any]]) -> None:
        self._address = int(socket.underlying)
        self._socket = weakref.ref(socket)
        self._shadow = PlainSocket(shadow=self._address)
        super().__init__(self._shadow)
        #: The messages on their way out, for any number of greenlets.
        self.outgoing = Outgoing(self.hub, self.transfer, partial)
        self._was_taken_over = False
        self.allow_shortcuts(self.outgoing)
        self.shortcuts.may_pull = True

    @property
    def is_here(self) -> bool:
        """See `HubSocket.is_here`; False once another hub has used the socket."""
        return not self._was_taken_over and super().is_here

    def note_takeover(self) -> None:
        """Note that another hub uses the socket: each Python object that knows this looks again."""
        self._was_taken_over = True
        self.shortcuts.close()

    @property
    def is_over(self) -> bool:
        """Whether the socket is known to be closed: its address may be in use again."""
        socket = self._socket()
        # The hub of another thread has yet to stop what is closed; its Python object may be gone.
        is_closed = self._shadow._closed or (socket is not None and socket._closed)
        return self.readiness.closed or bool(is_closed)

    def may_yield(self) -> bool:
        """Return whether a receive may yield: not inside a message, nor if it has to wait."""
        return self.is_between_messages() and self.is_readable()

    def is_between_messages(self) -> bool:
        """Return whether the frame received last, if any, ended its message."""
        return not self.transfer.option(zmq.RCVMORE)

    def receive_whole(self, flags: int, copies: bool) -> list[Any]:
        """Receive a message without waiting; if this raises meanwhile, the next call gets it."""
        messages: list[list[Any]] = []
        if self.transfer.receive(messages, 1, 1, copies) and not messages:
            raise zmq.ZMQError(zmq.EFSM) if self.transfer.must_send_first else zmq.Again
        return messages[0]

    def release(self, close: Callable[[], object]) -> None:
        """Release the socket, whose handle becomes invalid; see `HubSocket.release`.

        If that is left to the hub of the greenlets that wait, this waits until the hub has done it.
        A hub that does not do it in `patience` seconds is held up, and not using the socket.
        """
        claimed, closed, answered = OneShot(), OneShot(), OneShot()

        def close_handle() -> None:
            if claimed.set(True):
                self._shadow._closed = True
                try:
                    close()
                finally:
                    closed.set(True)

        def close_and_answer() -> None:
            close_handle()
            answered.set(True)

        super().release(close_and_answer)
        if closed.value is None and gevent.getcurrent() is not get_hub_if_exists():
            # One that was held up, and has not come to that call since, still is.
            earlier = _answers.get(self.hub)
            if earlier is None or earlier.value:
                closed.wait(self.patience)
                _answers[self.hub] = answered
            close_handle()

    def abandon(self) -> None:
        """Leave the socket to the parent process, in a forked child."""
        super().abandon()
        _known.pop(self._address, None)

    def __del__(self) -> None:
        # No greenlet waits, or it would hold the socket; but the budget's timer may be active.
        # Without a budget, the context ended before this was made.
        if "budget" not in vars(self):
            return
        if get_hub_if_exists() is self.hub:
            self.budget.close()
        else:
            call_in_hub(self.hub, self.budget.close)


#: By the address of the libzmq socket, as long as a Python object that used it is alive.
_known: weakref.WeakValueDictionary[int, SharedSocket] = weakref.WeakValueDictionary()
_held: weakref.WeakKeyDictionary[PlainSocket[Any], SharedSocket] = weakref.WeakKeyDictionary()
#: By hub, whether it has come to the last close for which another thread has waited.
_answers: weakref.WeakKeyDictionary[Any, OneShot] = weakref.WeakKeyDictionary()


def shared_socket(socket: PlainSocket[Any]) -> SharedSocket:
    """Return the object that all handles of a libzmq socket share in the current hub.

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
    shared = _known.get(address)
    partial: dict[Any, list[Any]] = {}
    if shared is not None and not shared.is_over:
        if shared.hub is get_hub():
            _hold(socket, shared)
            return shared
        _check_is_free(socket, shared)
        # Calls in this hub do not notify them, and the other hub does not get its edges.
        shared.readiness.pollers.mark_stale()
        shared.readiness.pollers.unwatch()
        shared.note_takeover()
        partial = shared.outgoing.partial
    shared = _known[address] = SharedSocket(socket, partial)
    _hold(socket, shared)
    return shared


def known_socket(socket: PlainSocket[Any]) -> SharedSocket | None:
    """Return the shared socket, if there is one already and it is open."""
    return None if socket.closed else _known.get(int(socket.underlying))


def recheck(socket: PlainSocket[Any]) -> None:
    """Repair the edge of a socket that the following call may consume, with no switch in between.

    Raises
    ------
    gevent.exceptions.InvalidThreadUseError
        Greenlets of another thread's hub wait on it. The call would cost them their wake-up.
    """
    shared = known_socket(socket)
    if shared is None:
        return
    if shared.is_here:
        shared.readiness.recheck()
    elif not shared.is_over:
        _check_is_free(socket, shared)
        shared.readiness.pollers.mark_stale()


def rechecks_itself(socket: PlainSocket[Any]) -> bool:
    """Return whether it is a green socket, each call of which calls `Readiness.recheck`."""
    return hasattr(type(socket), "_shared")


def _check_is_free(socket: PlainSocket[Any], shared: SharedSocket) -> None:
    """Check that no greenlet of another hub, which can still wake it, waits on a socket."""
    if shared.readiness.waiting and can_run(shared.hub):
        raise InvalidThreadUseError(
            f"{socket!r} is waited for in the hub of another thread: "
            "a socket is used by one thread at a time"
        )


def _hold(socket: PlainSocket[Any], shared: SharedSocket) -> None:
    """Keep the shared socket alive as long as *socket*."""
    if rechecks_itself(socket):
        socket._shared = shared
    else:
        _held[socket] = shared
