"""pyzmq's collector of the frames that it has lent to libzmq, where threads are patched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.monkey import is_module_patched


class Collector:
    """What keeps pyzmq's collector from stopping the thread that it runs in.

    Each frame that libzmq is done with is a message to the collector, which is a thread of pyzmq's.
    Where threads are patched it is a greenlet. Its two sockets hold 2,000 messages together: the
    main thread, if it frees more frames than that without a switch, would wait for itself. So there
    they get a context whose sockets have no bound.
    """

    def __init__(self) -> None:
        self._is_making = False

    def unbind(self, make_context: Callable[[], Any]) -> None:
        """Give it a context, if threads are patched and it has none yet."""
        if self._is_making or not is_module_patched("threading"):
            return
        from zmq.utils.garbage import gc

        if gc._context is not None:
            return
        self._is_making = True
        try:
            context = make_context()
        finally:
            self._is_making = False
        context.sndhwm = context.rcvhwm = 0
        gc.context = context


collector = Collector()
