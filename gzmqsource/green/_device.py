"""`proxy`, `device` and the devices of `zmq.devices`: libzmq's own loops, on native threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gevent._hub_local import get_hub_if_exists
from zmq import device as plain_device
from zmq.backend import proxy as plain_proxy
from zmq.backend import proxy_steerable as plain_proxy_steerable
from zmq.devices import ThreadDevice as PlainThreadDevice
from zmq.devices import ThreadProxy as PlainThreadProxy
from zmq.sugar.context import Context as PlainContext

from gzmqsource._base.threads import NativeThread
from gzmqsource._socket.loops import run_loop
from gzmqsource.green._context import Context


def _call(loop: Callable[..., Any], *sockets: Any) -> Any:
    """Run a loop of libzmq on a native thread, and wait for its end in the hub."""

    def run() -> Any:
        return run_loop(lambda: loop(*sockets), [each for each in sockets if each is not None])

    if get_hub_if_exists() is None:
        return run()
    thread = NativeThread(run)
    thread.start()
    thread.join()
    if thread.error is not None:
        raise thread.error
    return thread.value


def proxy(frontend: Any, backend: Any, capture: Any = None) -> Any:
    """Pass messages between two sockets until their context ends; see `zmq.proxy`.

    libzmq's own proxy runs on a native thread, which owns the sockets from now on. If the greenlet
    is killed, the proxy continues.

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
        What ended the proxy: ``ETERM`` if the context was terminated.
    """
    return _call(plain_proxy, frontend, backend, capture)


def proxy_steerable(frontend: Any, backend: Any, capture: Any = None, control: Any = None) -> Any:
    """Pass messages, steered by a control socket; see `zmq.proxy_steerable`.

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
    return _call(plain_proxy_steerable, frontend, backend, capture, control)


def device(device_type: int, frontend: Any, backend: Any = None) -> Any:
    """Run a device; see `zmq.device`.

    Parameters
    ----------
    device_type : int
        ``zmq.QUEUE``, ``zmq.FORWARDER`` or ``zmq.STREAMER``.
    frontend : zmq.Socket
        As for `proxy`.
    backend : zmq.Socket, optional
        As for `proxy`; *frontend* if not passed.

    Raises
    ------
    zmq.ZMQError
        As for `proxy`.
    """
    loop: Callable[..., Any] = functools.partial(plain_device, device_type)  # type: ignore[arg-type]
    return _call(loop, frontend, backend or frontend)


def _plain_instance() -> PlainContext[Any]:
    return PlainContext(shadow=Context.instance())


class ThreadDevice(PlainThreadDevice):
    """A `zmq.devices.ThreadDevice` on a native thread, with plain sockets of the same context."""

    __module__ = "gzmqsource.green"

    _launch_class: Any = NativeThread
    #: Returns the context of the device's sockets: a plain view of `Context.instance`.
    context_factory: Any = staticmethod(_plain_instance)


class ThreadProxy(PlainThreadProxy):
    """A `zmq.devices.ThreadProxy` on a native thread, with plain sockets of the same context."""

    __module__ = "gzmqsource.green"

    _launch_class: Any = NativeThread
    #: Returns the context of the device's sockets: a plain view of `Context.instance`.
    context_factory: Any = staticmethod(_plain_instance)
