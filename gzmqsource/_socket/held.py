"""Sockets that a loop of libzmq uses on another thread: their close is put off to its end.

Otherwise `zmq.Context.destroy`, or a close, would have libzmq crash in that thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from gzmqsource._base import fork
from gzmqsource._base.hubs import allocate_rlock


class Held:
    """Sockets that stay open until they are let go.

    Parameters
    ----------
    sockets : iterable of zmq.Socket
        The sockets, all of them open.
    closing : callable
        Called when one of them is to be closed, with a lock held.
    """

    def __init__(self, sockets: Iterable[Any], closing: Callable[[], object]) -> None:
        self.sockets = list(dict.fromkeys(sockets))
        #: Those that are to be closed, with the milliseconds of linger that were passed.
        self.closed: dict[Any, int | None] = {}
        self._closing = closing
        self._lock = allocate_rlock()
        for socket in self.sockets:
            socket.close = functools.partial(self._close_later, socket)
        fork.abandon_in_child(self)

    def let_go(self) -> None:
        """Let the sockets be closed as ever from now on."""
        with self._lock:
            self.abandon()

    def abandon(self) -> None:
        """Leave the loop to the parent process, in a forked child."""
        for socket in self.sockets:
            vars(socket).pop("close", None)

    def _close_later(self, socket: Any, linger: int | None = None) -> None:
        with self._lock:
            if "close" not in vars(socket):  # it was let go meanwhile
                socket.close(linger)
                return
            self.closed[socket] = linger
            self._closing()
