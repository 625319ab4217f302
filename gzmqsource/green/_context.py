"""`Context`: pyzmq's, which waits for its termination in a native thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import is_module_patched
from zmq.sugar.context import Context as PlainContext

from gzmqsource._base import fork
from gzmqsource._base.threads import NativeThread
from gzmqsource.green._shadow import ShadowedContext
from gzmqsource.green._socket import Socket

_SocketT = TypeVar("_SocketT", bound=Socket[Any], covariant=True)
_ContextT = TypeVar("_ContextT", bound="Context[Any]")


def prepare_collector() -> None:
    """Have pyzmq's collector run on a native thread where threads are patched.

    Call it before another thread makes a context: this imports a module, and the lock of an import
    is patched then, too. Two threads at it, each with a hub to make, would wait for each other.
    """
    if is_module_patched("threading"):
        from gzmqsource.green import _collector

        _collector.make_native()


class Context(ShadowedContext[_SocketT]):
    """A `zmq.Context` that makes green sockets.

    `term`, and so `destroy` and the end of a ``with`` block, let other greenlets run until the
    context has ended. Any number of greenlets may wait for that, in any threads. A call that waits
    on a socket of this context raises `zmq.ContextTerminated`, and the socket must then be closed.
    If a greenlet that waits is killed, the termination continues.

    A shadow, even of an address, keeps the original context alive. The two are terminated together.
    """

    __module__ = "gzmqsource.green"

    _socket_class: Any = Socket

    #: Declared on the class, or `instance` would return a plain context if there is one.
    _instance: Any = None

    #: Declared on the class because pyzmq treats any other attribute as a context option.
    _made_in: int | None = None
    _is_dropped = False

    # Of pyzmq's arguments, those that make it a context of plain sockets.
    @overload
    def __init__(self: Context[Socket[bytes]], io_threads: int = 1) -> None: ...

    @overload
    def __init__(self: Context[Socket[bytes]], io_threads: PlainContext[Any], /) -> None: ...

    @overload
    def __init__(self: Context[Socket[bytes]], *, shadow: PlainContext[Any] | int) -> None: ...

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._made_in = fork.generation
        prepare_collector()

    @classmethod
    def instance(cls: type[_ContextT], io_threads: int = 1) -> _ContextT:
        """Return the global context; see `zmq.Context.instance`."""
        made = cls._instance
        if isinstance(made, Context) and made._has_ended:
            made.closed = True
        return super().instance(io_threads)

    if not TYPE_CHECKING:  # pyzmq's has the types

        def socket(self, *args: Any, **kwargs: Any) -> Any:
            """Make a socket; see `zmq.Context.socket`."""
            if self._has_ended:
                raise zmq.ZMQError(zmq.EFAULT)  # as libzmq, which would look into freed memory
            return super().socket(*args, **kwargs)

    def term(self) -> None:
        """Terminate the context; see `zmq.Context.term`.

        A native thread waits for libzmq. The hub itself, a thread without a hub, and an interpreter
        that is shutting down and starts no more threads (from 3.12 on) block instead, and none of
        their greenlets runs: close the sockets first.
        """
        if self.closed or self._made_in != fork.generation:
            super().term()  # which does not wait
            return
        if self._original is not None:
            self._original.term()
            return
        # libzmq's own call may be made only once: a second caller waits for the first.
        own = NativeThread(self._terminate)
        ending: NativeThread = vars(self).setdefault("_ending", own)
        if ending is own:
            try:
                start = own.start if self._may_switch() else own.run
                start()
            except RuntimeError:
                own.run()
        ending.join()
        if ending.error is not None:
            raise ending.error

    def _terminate(self) -> None:
        try:
            super().term()
        finally:
            del vars(self)["_ending"]

    def _may_switch(self) -> bool:
        return get_hub_if_exists() not in (None, gevent.getcurrent()) and not self._is_dropped

    def __del__(self) -> None:
        # The collector may run in any greenlet, so nothing may switch.
        self._is_dropped = True
        super().__del__()
