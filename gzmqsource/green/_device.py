"""`proxy`, `device` and the devices of `zmq.devices`: libzmq's own loops, on native threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original
from zmq import device as plain_device
from zmq.backend import proxy as plain_proxy
from zmq.backend import proxy_steerable as plain_proxy_steerable
from zmq.devices import ThreadDevice as PlainThreadDevice
from zmq.devices import ThreadProxy as PlainThreadProxy
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.oneshot import Decision, allocate_lock
from gzmqsource.green._context import Context

_start_thread = get_original("_thread", "start_new_thread")


class NativeThread:
    """As much of `threading.Thread` as a device needs; native also where threads are patched.

    Parameters
    ----------
    target : callable
        What it runs, without arguments.
    """

    def __init__(self, target: Callable[[], Any]) -> None:
        self.daemon = True
        self.error: BaseException | None = None
        self.value: Any = None
        self._target = target
        self._started = False
        self._ended = False
        self._joiners: list[Decision] = []
        self._lock = allocate_lock()

    def start(self) -> None:
        """Begin."""
        self._started = True
        _start_thread(self._run, ())

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._started and not self._ended

    def join(self, timeout: float | None = None) -> None:
        """Wait in the hub until it has ended, or *timeout* in seconds."""
        joiner = Decision()
        with self._lock:
            if self._ended:
                return
            self._joiners.append(joiner)
        joiner.wait(timeout)

    def _run(self) -> None:
        try:
            self.value = self._target()
        except BaseException as error:
            self.error = error
        finally:
            with self._lock:
                self._ended = True
            for joiner in self._joiners:
                joiner.decide(True)


def pass_on(
    loop: Callable[[], Any], sockets: Iterable[Any], begun: Callable[[], None] = lambda: None
) -> Any:
    """Run a loop of libzmq between sockets to its end, on this thread.

    When a peer was authenticated libzmq puts its name into the pipe, in front of its first message.
    If that message is not there as a whole yet, ``POLLIN`` stands for the name alone, the receive
    fails, and libzmq 4.3.5 ends the loop with ``EAGAIN``. Nothing is lost by that, so the loop is
    run again, and *begun* called. A send that gives up after ``SNDTIMEO`` ends it the same way, and
    for good.
    """
    while True:
        try:
            return loop()
        except zmq.Again:
            if any(int(PlainSocket.get(each, zmq.SNDTIMEO)) >= 0 for each in sockets):
                raise
            begun()


def _call(loop: Callable[..., Any], *sockets: Any) -> Any:
    """Run a loop of libzmq in a thread of its own, and wait in the hub."""

    def run() -> Any:
        return pass_on(lambda: loop(*sockets), [each for each in sockets if each is not None])

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

    libzmq's own proxy runs on a native thread, which the sockets belong to from now on. If the
    greenlet is killed the proxy goes on.
    """
    return _call(plain_proxy, frontend, backend, capture)


def proxy_steerable(frontend: Any, backend: Any, capture: Any = None, control: Any = None) -> Any:
    """Pass messages, steered by a control socket; see `zmq.proxy_steerable` and `proxy`."""
    return _call(plain_proxy_steerable, frontend, backend, capture, control)


def device(device_type: int, frontend: Any, backend: Any = None) -> Any:
    """Run a device; see `zmq.device` and `proxy`."""
    loop: Callable[..., Any] = functools.partial(plain_device, device_type)  # type: ignore[arg-type]
    return _call(loop, frontend, backend or frontend)


def _plain_instance() -> PlainContext[Any]:
    return PlainContext(shadow=Context.instance())


class ThreadDevice(PlainThreadDevice):
    """A `zmq.devices.ThreadDevice` on a native thread, with plain sockets of the same context."""

    _launch_class: Any = NativeThread
    context_factory: Any = staticmethod(_plain_instance)


class ThreadProxy(PlainThreadProxy):
    """A `zmq.devices.ThreadProxy` on a native thread, with plain sockets of the same context."""

    _launch_class: Any = NativeThread
    context_factory: Any = staticmethod(_plain_instance)
