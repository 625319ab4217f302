"""The sockets of a loop of libzmq on another thread: a close of one ends the loop first.

Otherwise libzmq would crash in that thread. So the thread closes them at the end of the loop.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import zmq
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base import fork
from gzmqsource._base.hubs import allocate_rlock
from gzmqsource._socket.linger import close_on_thread

_serial = itertools.count()


class Held:
    """Sockets that are open until a loop has ended.

    Parameters
    ----------
    sockets : iterable of zmq.Socket
        The sockets, all of them open.
    steers : bool
        Whether a control socket is made, which ends the loop when one of them is to be closed. If
        not, it goes on until its context ends.

    Raises
    ------
    zmq.ZMQError
        The context has ended, or has no more sockets.
    """

    def __init__(self, sockets: Iterable[Any], steers: bool) -> None:
        self._sockets = list(dict.fromkeys(sockets))
        #: The control socket for the loop.
        self.control: PlainSocket[Any] | None = None
        self._steering: PlainSocket[Any] | None = None
        self._lingers: dict[Any, int | None] = {}
        self._lock = allocate_rlock()
        if steers:
            self._make_control()
        for socket in self._sockets:
            socket.close = functools.partial(self._close_later, socket)
        fork.abandon_in_child(self)

    def run(self, loop: Callable[[], Any]) -> Any:
        """Run the loop on this thread, then close the sockets that were closed meanwhile.

        Raises
        ------
        zmq.ZMQError
            The error of the loop; ``ENOTSOCK`` if one of the sockets was closed.
        """
        try:
            value = loop()
        finally:
            self.end()
        if self._lingers:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        return value

    def end(self) -> None:
        """Close the sockets that were closed meanwhile: the loop has ended, or never began."""
        with self._lock:
            self._let_go()
            for control in self.control, self._steering:
                if control is not None:
                    PlainSocket.close(control)
            self._steering = None
        for socket, linger in self._lingers.items():
            close_on_thread(socket, linger)

    def abandon(self) -> None:
        """Leave the loop to the parent process, in a forked child."""
        self._let_go()

    def _make_control(self) -> None:
        context = PlainContext(shadow=self._sockets[0].context)
        address = f"inproc://gzmqsource-device-{next(_serial)}"
        self.control = PlainSocket(context, zmq.PAIR)
        try:
            self.control.bind(address)
            self._steering = PlainSocket(context, zmq.PAIR)
            self._steering.connect(address)
        except BaseException:
            for each in self.control, self._steering:
                if each is not None:
                    each.close()
            raise

    def _close_later(self, socket: Any, linger: int | None = None) -> None:
        with self._lock:
            if "close" not in vars(socket):  # the loop has ended meanwhile
                socket.close(linger)
                return
            self._lingers[socket] = linger
            if self._steering is not None:
                with contextlib.suppress(zmq.ZMQError):  # the context ends, and the loop with it
                    PlainSocket.send(self._steering, b"TERMINATE", zmq.NOBLOCK)

    def _let_go(self) -> None:
        for socket in self._sockets:
            vars(socket).pop("close", None)
