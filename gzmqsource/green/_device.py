"""`proxy`, `device` and the devices of `zmq.devices`: libzmq's own loops, on native threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import zmq
from gevent._hub_local import get_hub_if_exists
from zmq.backend import Socket as BackendSocket
from zmq.backend import proxy_steerable as plain_proxy_steerable
from zmq.devices import ThreadDevice as PlainThreadDevice
from zmq.devices import ThreadMonitoredQueue as PlainThreadMonitoredQueue
from zmq.devices import ThreadProxy as PlainThreadProxy
from zmq.devices import ThreadProxySteerable as PlainThreadProxySteerable
from zmq.devices import monitored_queue as plain_monitored_queue
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.threads import NativeThread
from gzmqsource._socket.loops import run_loop
from gzmqsource.green._context import Context, prepare_collector
from gzmqsource.green._held import HeldLoop


def _call(loop: Callable[[], Any], sockets: Iterable[Any]) -> Any:
    """Run a loop of libzmq on a native thread, and wait for its end in the hub."""
    if any(isinstance(each, PlainSocket) and each._closed and each.underlying for each in sockets):
        # Inherited by a forked child, where libzmq would interrupt the loop forever.
        raise zmq.ZMQError(zmq.ENOTSOCK)
    thread = NativeThread(loop)
    if get_hub_if_exists() is None:
        thread.run()
    else:
        thread.start()
    thread.join()
    error, thread.error = thread.error, None
    try:
        if error is not None:
            raise error
        return thread.value
    finally:
        del error  # its traceback would refer to itself, and keep the sockets open


def _call_held(loop: Callable[[Any], Any], sockets: Iterable[Any], steers: bool) -> Any:
    """Run a loop to whose end its sockets are held; it is called with its `HeldLoop.control`."""
    for each in sockets:
        if not isinstance(each, BackendSocket):  # pyzmq 25 takes None for one, and crashes
            raise TypeError(f"{each!r} is not a socket: a proxy passes messages between sockets")
    if not all(isinstance(each, PlainSocket) and not each.closed for each in sockets):
        return _call(lambda: loop(None), sockets)  # its own error
    held = HeldLoop(sockets, steers)
    try:
        return _call(lambda: held.run(lambda: loop(held.control)), sockets)
    except RuntimeError:  # there is no thread for it
        held.end()
        raise


def _call_proxy(frontend: Any, backend: Any, capture: Any = None, control: Any = None) -> Any:
    """Run libzmq's proxy. Without a control, the close of a socket ends it through one."""
    # pyzmq passes those that are closed as none at all.
    capture, control = (
        None if isinstance(each, PlainSocket) and each.closed else each
        for each in (capture, control)
    )
    given = [frontend, backend, *(each for each in (capture, control) if each is not None)]

    def loop(steering: Any) -> Any:
        steered = steering if control is None else control
        return run_loop(lambda: plain_proxy_steerable(frontend, backend, capture, steered), given)

    return _call_held(loop, given, steers=control is None)


def proxy(
    frontend: PlainSocket[Any], backend: PlainSocket[Any], capture: PlainSocket[Any] | None = None
) -> Any:
    """Pass messages until the context ends, or one of the sockets is closed; see `zmq.proxy`.

    libzmq's own proxy runs on a native thread, which owns the sockets from now on: it closes them
    once it has ended. If the greenlet is killed, the proxy continues.

    Parameters
    ----------
    frontend : zmq.Socket
        One of the two sockets.
    backend : zmq.Socket
        The other one.
    capture : zmq.Socket, optional
        Is sent a copy of each message.

    Raises
    ------
    zmq.ZMQError
        The error that ended the proxy: ``ETERM`` if the context was terminated, ``ENOTSOCK`` if
        one of the sockets was closed.
    """
    return _call_proxy(frontend, backend, capture)


def proxy_steerable(
    frontend: PlainSocket[Any],
    backend: PlainSocket[Any],
    capture: PlainSocket[Any] | None = None,
    control: PlainSocket[Any] | None = None,
) -> Any:
    """Pass messages, steered by a control socket; see `zmq.proxy_steerable`.

    A socket that is closed meanwhile is open until a command, or the end of the context, ends it.

    Parameters
    ----------
    frontend : zmq.Socket
        As for `proxy`.
    backend : zmq.Socket
        As for `proxy`.
    capture : zmq.Socket, optional
        As for `proxy`.
    control : zmq.Socket, optional
        Receives the commands ``PAUSE``, ``RESUME``, ``TERMINATE`` and ``STATISTICS``.

    Raises
    ------
    zmq.ZMQError
        As for `proxy`.
    """
    return _call_proxy(frontend, backend, capture, control)


def device(
    device_type: int,
    frontend: PlainSocket[Any] | None = None,
    backend: PlainSocket[Any] | None = None,
    *,
    isocket: PlainSocket[Any] | None = None,
    osocket: PlainSocket[Any] | None = None,
) -> Any:
    """Run a device; see `zmq.device`.

    Parameters
    ----------
    device_type : int
        ``zmq.QUEUE``, ``zmq.FORWARDER`` or ``zmq.STREAMER``.
    frontend : zmq.Socket
        As for `proxy`.
    backend : zmq.Socket, optional
        As for `proxy`; *frontend* if not passed.
    isocket, osocket : zmq.Socket, optional
        The names of *frontend* and *backend* in `zmq.green`.

    Raises
    ------
    zmq.ZMQError
        As for `proxy`.
    """
    frontend = frontend or isocket
    return _call_proxy(frontend, backend or osocket or frontend)


def monitored_queue(
    in_socket: PlainSocket[Any],
    out_socket: PlainSocket[Any],
    mon_socket: PlainSocket[Any],
    in_prefix: bytes = b"in",
    out_prefix: bytes = b"out",
) -> Any:
    """Pass messages, and send a copy of each behind a prefix; see `zmq.devices.monitored_queue`.

    A socket that is closed meanwhile is open until the context ends.

    Parameters
    ----------
    in_socket : zmq.Socket
        One of the two sockets.
    out_socket : zmq.Socket
        The other one.
    mon_socket : zmq.Socket
        Is sent the copies.
    in_prefix : bytes
        The first frame of a copy from *in_socket*.
    out_prefix : bytes
        The first frame of a copy from *out_socket*.

    Raises
    ------
    zmq.ZMQError
        As for `proxy`.
    """
    given = (in_socket, out_socket, mon_socket)
    return _call_held(
        lambda _: plain_monitored_queue(*given, in_prefix, out_prefix), given, steers=False
    )


class _DeviceContext(Context[Any]):
    """A context whose sockets are plain, and whose end lets other greenlets run."""

    _socket_class = PlainSocket


def _plain_instance() -> _DeviceContext:
    return _DeviceContext(shadow=Context.instance())


class _DeviceThread(NativeThread):
    """A thread that reports its error as `threading.Thread` does: it may never be joined."""

    def run(self) -> None:
        """Run the device; see `NativeThread.run`."""
        super().run()
        if self.error is not None:
            parts = (type(self.error), self.error, self.error.__traceback__, None)
            threading.excepthook(threading.ExceptHookArgs(parts))


class ThreadDevice(PlainThreadDevice):
    """A `zmq.devices.ThreadDevice` on a native thread, with plain sockets of the same context."""

    __module__ = "gzmqsource.green"

    _launch_class: Any = _DeviceThread
    #: Returns the context of the device's sockets: a plain view of `Context.instance`.
    context_factory: Any = staticmethod(_plain_instance)

    def start(self) -> None:
        """Start the device; see `zmq.devices.ThreadDevice`."""
        prepare_collector()
        super().start()


# As in pyzmq, each of them is a `ThreadDevice`, and the last two are a `ThreadProxy`.


class ThreadProxy(PlainThreadProxy, ThreadDevice):
    """A `zmq.devices.ThreadProxy` on a native thread; see `ThreadDevice`."""

    __module__ = "gzmqsource.green"


class ThreadProxySteerable(PlainThreadProxySteerable, ThreadProxy):
    """A `zmq.devices.ThreadProxySteerable` on a native thread; see `ThreadDevice`."""

    __module__ = "gzmqsource.green"


class ThreadMonitoredQueue(PlainThreadMonitoredQueue, ThreadProxy):
    """A `zmq.devices.ThreadMonitoredQueue` on a native thread; see `ThreadDevice`."""

    __module__ = "gzmqsource.green"
