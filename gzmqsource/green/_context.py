"""`Context`: pyzmq's, which waits for its termination in a native thread."""

from __future__ import annotations

from typing import Any, TypeVar

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.event import AsyncResult

from gzmqsource.green._shadow import ShadowedContext
from gzmqsource.green._socket import Socket

_SocketT = TypeVar("_SocketT", bound=Socket[Any], covariant=True)


class Context(ShadowedContext[_SocketT]):
    """A `zmq.Context` that makes green sockets.

    `term`, and so `destroy` and the end of a ``with`` block, wait in the hub's threadpool while
    other greenlets run. A call that waits on a socket of this context raises
    `zmq.ContextTerminated`, and the socket must then be closed. If the greenlet that called `term`
    is killed, the termination continues.

    A shadow, also one of an address, keeps the original context alive. The two are terminated
    together.
    """

    __module__ = "gzmqsource.green"

    _socket_class: Any = Socket
    _repr_cls = "zmq.green.Context"

    #: Declared on the class, or `instance` would return a plain context if there is one.
    _instance: Any = None

    #: Declared on the class because pyzmq takes any other attribute for a context option.
    _ending: AsyncResult[None] | None = None
    _is_dropped = False

    def term(self) -> None:
        """Terminate the context; see `zmq.Context.term`."""
        hub = get_hub_if_exists()
        if self.closed:
            return
        if self._original is not None:
            self._original.term()
            return
        if hub is None or hub.loop is None or gevent.getcurrent() is hub or self._is_dropped:
            super().term()
            return
        if self._ending is None:
            # libzmq's own call may be made only once: a second caller waits for the first.
            self._ending = hub.threadpool.spawn(super().term)
        self._ending.get()

    def __del__(self) -> None:
        # The collector may run in any greenlet, so nothing may switch.
        self._is_dropped = True
        super().__del__()
