"""A loop of libzmq on another thread: the close of one of its sockets ends it first."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import zmq
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._socket.held import Held
from gzmqsource._socket.linger import close_on_thread

_serial = itertools.count()


class HeldLoop:
    """A loop, and its sockets, which are open until it has ended.

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
        #: The control socket for the loop.
        self.control: PlainSocket[Any] | None = None
        self._steering: PlainSocket[Any] | None = None
        if steers:
            self._make_control(next(iter(sockets)).context)
        self._held = Held(sockets, functools.partial(_terminate, self._steering))

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
        if self._held.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        return value

    def end(self) -> None:
        """Close the sockets that were closed meanwhile: the loop has ended, or never began."""
        self._held.let_go()
        for control in self.control, self._steering:
            if control is not None:
                PlainSocket.close(control)
        for socket, linger in self._held.closed.items():
            close_on_thread(socket, linger)

    def _make_control(self, of: Any) -> None:
        context = PlainContext(shadow=of)
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


def _terminate(steering: PlainSocket[Any] | None) -> None:
    if steering is not None:
        with contextlib.suppress(zmq.ZMQError):  # the context ends, and the loop with it
            PlainSocket.send(steering, b"TERMINATE", zmq.NOBLOCK)
