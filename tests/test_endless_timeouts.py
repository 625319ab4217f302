"""Every timeout of the public API: as long as can be, and what is none."""

import contextlib
import importlib
import inspect
import pkgutil
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import gevent
import pytest
import zmq
from gevent.event import AsyncResult
from helpers import endpoint_of, in_thread, unique_inproc

import gzmqsource
from gzmqsource import Source, green
from gzmqsource.auth import Authenticator
from gzmqsource.broker import Broker
from gzmqsource.monitor import Monitor
from gzmqsource.proxy import Proxy
from gzmqsource.testing import in_forked_child, no_leaks, wait_until
from gzmqsource.workers import Requester, Responder

ENDLESS = [1e7, 10**400, float("inf"), sys.float_info.max]


class Rough(float):
    """A number with which nothing can be counted, as little as with a `numpy.float16`."""

    def _refuse(self, *_):
        raise ArithmeticError(repr(self))

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __rtruediv__ = __format__ = __int__ = _refuse
    __hash__: Any = None


#: Timeouts that are long enough, of other types.
ODD = [10, Fraction(20, 2), Rough(10)]

#: Not among the timeouts of a poll, where a negative one is endless.
NEGATIVE = [-1, -0.5, float("-inf")]

BAD = [float("nan"), "1", b"", [], 1j]

#: Public modules that cannot be had without more packages, or that nothing imports.
_NOT_IMPORTED = {"gunicorn", "cli", "__main__"}


def public_modules():
    for each in pkgutil.iter_modules(gzmqsource.__path__, "gzmqsource."):
        name = each.name.rpartition(".")[2]
        if not name.startswith("_") and name not in _NOT_IMPORTED:
            with contextlib.suppress(ImportError):  # prometheus_client may be missing
                yield importlib.import_module(each.name)
    yield gzmqsource


def functions_of(value, name):
    """Yield the functions of a public object, by their names."""
    if inspect.isclass(value):
        for own, each in inspect.getmembers(value, callable):
            if not own.startswith("_") or own == "__init__":
                yield f"{name}.{own}", each
    elif callable(value):
        yield name, value


def with_timeout():
    """Return the names of all public functions that take a timeout."""
    found = set()
    for module in public_modules():
        for name in getattr(module, "__all__", [each for each in vars(module) if each[0] != "_"]):
            value = getattr(module, name)
            if not getattr(value, "__module__", "").startswith("gzmqsource"):
                continue
            for path, function in functions_of(value, name):
                with contextlib.suppress(ValueError, TypeError):
                    parameters = inspect.signature(function).parameters
                    found |= {path for each in parameters if each.endswith("timeout")}
    return found


class Scene:
    """What the calls are made on."""

    def __init__(self, stack, context):
        self.context = context
        self.closing: Any = stack.enter_context
        address = unique_inproc()
        self.pull = Source.open(zmq.PULL, bind=address, context=context)
        self.push = Source.open(zmq.PUSH, connect=address, context=context)
        stack.callback(self.pull.close)
        stack.callback(self.push.close)
        self.stack = stack

    def soon(self, function, *arguments):
        """Call a function in a greenlet, once the caller waits."""
        self.stack.callback(gevent.spawn_later(0.01, function, *arguments).join)

    def send_soon(self):
        self.soon(self.push.send, b"x")

    def responder(self):
        responder = Responder.open(lambda payload: payload, bind=self.address, context=self.context)
        self.stack.callback(responder.close)
        responder.start()
        return responder

    address = property(lambda self: self.__dict__.setdefault("_address", unique_inproc()))

    def broker(self):
        ends = "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"
        broker = Broker.open(*ends, context=self.context, linger=0)
        self.stack.callback(broker.close)
        broker.start()
        return broker

    def requester(self):
        self.responder()
        requester = Requester.open(self.address, context=self.context)
        self.stack.callback(requester.close)
        return requester

    def socket(self, kind, bind=()):
        context: Any = green.Context(shadow=self.context)
        socket = self.closing(context.socket(kind))
        for each in [bind] if bind else []:
            socket.bind(each)
        return socket

    def readable(self):
        """Return a green socket that has a message soon."""
        address = unique_inproc()
        pull, push = self.socket(zmq.PULL, address), self.socket(zmq.PUSH)
        push.connect(address)
        self.soon(push.send, b"x")
        return pull


def source_recv(scene, timeout):
    scene.send_soon()
    scene.pull.recv(timeout=timeout)


def source_recv_many(scene, timeout):
    scene.send_soon()
    scene.pull.recv_many(5, timeout=timeout)


def source_send(scene, timeout):
    source = Source.open(zmq.PUSH, context=scene.context, outbox=1)
    scene.stack.callback(source.close)
    source.send(b"1")
    scene.soon(source.withdraw, b"1")
    source.send(b"2", timeout=timeout)


def source_flush(scene, timeout):
    source = Source.open(zmq.PUSH, context=scene.context)
    scene.stack.callback(source.close)
    source.send(b"1")
    scene.soon(source.withdraw, b"1")
    assert source.flush(timeout)


def source_stop(scene, timeout):
    pull = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=scene.context)
    scene.stack.callback(pull.close)
    endpoint = endpoint_of(pull)
    push = Source.open(zmq.PUSH, connect=endpoint, context=scene.context, linger=1000)
    scene.stack.callback(push.close)
    push.send(b"x")
    push.stop(timeout)
    assert push.closed
    assert pull.recv(timeout=10) == [b"x"]


def source_serve_forever(scene, timeout):
    source = Source.open(zmq.PULL, print, bind=unique_inproc(), context=scene.context)
    scene.stack.callback(source.close)
    scene.soon(source.close)
    source.serve_forever(timeout)


def sender_send(scene, timeout):
    scene.soon(lambda: None)
    with scene.push.sender() as sender:
        sender.send(b"x", timeout=timeout)
        assert not isinstance(in_thread(lambda: sender.send(b"x", timeout=timeout)), Exception)


def request(scene, timeout):
    requester = scene.requester()
    assert requester.request(b"x", timeout=timeout) == [b"x"]
    assert in_thread(lambda: requester.request(b"x", timeout=timeout)) == [b"x"]


def submit(scene, timeout):
    result: AsyncResult[Any] = scene.requester().submit(b"x", timeout=timeout)
    assert result.get(timeout=10) == [b"x"]


def requester_stop(scene, timeout):
    requester = scene.requester()
    result = requester.submit(b"x")
    requester.stop(timeout)
    assert result.get(timeout=10) == [b"x"]
    assert requester.closed


def responder_serve_forever(scene, timeout):
    responder = Responder.open(lambda payload: payload, bind=scene.address, context=scene.context)
    scene.stack.callback(responder.close)
    scene.soon(responder.close)
    responder.serve_forever(timeout)


def responder_leave(scene, timeout):
    broker = scene.broker()
    worker = Responder.join(
        endpoint_of(broker.back), lambda payload: payload, context=scene.context
    )
    scene.stack.callback(worker.close)
    worker.start()
    worker.leave(timeout)


def broker_serve_forever(scene, timeout):
    broker = scene.broker()
    scene.soon(broker.close)
    broker.serve_forever(timeout)


def a_proxy(scene):
    proxy = Proxy(scene.socket(zmq.ROUTER), scene.socket(zmq.DEALER))
    proxy.start()
    return proxy


def proxy_join(scene, timeout):
    proxy = a_proxy(scene)
    scene.stack.callback(proxy.stop)
    scene.soon(proxy.stop)
    assert proxy.join(timeout)


def proxy_stop(scene, timeout):
    proxy = a_proxy(scene)
    scene.stack.callback(proxy.stop)
    assert proxy.stop(timeout)


def authenticator_stop(scene, timeout):
    authenticator = Authenticator(scene.context)
    authenticator.start()
    scene.stack.callback(authenticator.stop)
    authenticator.stop(timeout)
    assert not authenticator.started


def monitor_recv(scene, timeout):
    with Monitor(scene.pull) as monitor:
        scene.soon(scene.pull.socket.bind, "tcp://127.0.0.1:*")
        assert monitor.recv(timeout).name == "listening"


def monitor_wait_for(scene, timeout):
    with Monitor(scene.pull) as monitor:
        scene.soon(scene.pull.socket.bind, "tcp://127.0.0.1:*")
        monitor.wait_for("listening", timeout)


def device_join(make, *types):
    def call(scene, timeout):
        context = zmq.Context()
        scene.stack.callback(context.term)
        device = make(*types)
        device.context_factory = lambda: context
        device.bind_in(unique_inproc())
        device.bind_out(unique_inproc())
        set_up, is_set_up = device._setup_sockets, []

        def note():
            sockets = set_up()
            is_set_up.append(True)
            return sockets

        device._setup_sockets = note
        device.start()
        wait_until(lambda: is_set_up)  # before that, a context that ends is an error
        scene.soon(context.term)
        device.join(timeout)

    return call


def no_leaks_of(timeout):
    with no_leaks(timeout):
        pass


#: A call for each of `with_timeout`: it waits where it can, and returns.
CALLS: dict[str, Callable[[Any, Any], object]] = {
    "Source.recv": source_recv,
    "Source.recv_many": source_recv_many,
    "Source.send": source_send,
    "Source.flush": source_flush,
    "Source.stop": source_stop,
    "Source.serve_forever": source_serve_forever,
    "Sender.send": sender_send,
    "Requester.request": request,
    "Requester.submit": submit,
    "Requester.stop": requester_stop,
    "Responder.stop": lambda scene, timeout: scene.responder().stop(timeout),
    "Responder.serve_forever": responder_serve_forever,
    "Responder.leave": responder_leave,
    "Broker.stop": lambda scene, timeout: scene.broker().stop(timeout),
    "Broker.serve_forever": broker_serve_forever,
    "Proxy.join": proxy_join,
    "Proxy.stop": proxy_stop,
    "Authenticator.stop": authenticator_stop,
    "ThreadDevice.join": device_join(green.ThreadDevice, zmq.QUEUE, zmq.ROUTER, zmq.DEALER),
    "ThreadProxy.join": device_join(green.ThreadProxy, zmq.ROUTER, zmq.DEALER),
    "ThreadProxySteerable.join": device_join(
        green.ThreadProxySteerable, zmq.ROUTER, zmq.DEALER, zmq.PUB, zmq.PAIR
    ),
    "ThreadMonitoredQueue.join": device_join(green.ThreadMonitoredQueue, zmq.ROUTER, zmq.DEALER),
    "Monitor.recv": monitor_recv,
    "Monitor.wait_for": monitor_wait_for,
    "wait_until": lambda scene, timeout: wait_until(lambda: True, timeout),
    "in_forked_child": lambda scene, timeout: in_forked_child(lambda: None, timeout),
    "no_leaks": lambda scene, timeout: no_leaks_of(timeout),
}

#: Those of the drop-in, in pyzmq's units.
POLLS: dict[str, Callable[[Any, Any], object]] = {
    "Poller.poll": lambda scene, timeout: polled(scene.readable(), timeout),
    "zmq_poll": lambda scene, timeout: green.zmq_poll([(scene.readable(), zmq.POLLIN)], timeout),
    "select": lambda scene, timeout: green.select([scene.readable()], [], [], timeout),
    "Socket.poll": lambda scene, timeout: scene.readable().poll(timeout),
    "MessageTracker.wait": lambda scene, timeout: tracked(scene).wait(timeout),
}


def polled(socket, timeout):
    poller = green.Poller()
    poller.register(socket, zmq.POLLIN)
    return poller.poll(timeout)


def tracked(scene):
    address = unique_inproc()
    pull, push = scene.socket(zmq.PULL, address), scene.socket(zmq.PUSH)
    push.connect(address)
    tracker = push.send(b"x" * 100_000, copy=False, track=True)
    scene.soon(pull.recv)
    return tracker


@pytest.fixture
def scene(context):
    with contextlib.ExitStack() as stack:
        yield Scene(stack, context)


def test_each_call_with_a_timeout_is_in_this_test():
    assert with_timeout() == CALLS.keys() | POLLS.keys()


@pytest.mark.parametrize("timeout", ENDLESS + ODD, ids=str)
@pytest.mark.parametrize("name", [*CALLS, *POLLS])
def test_a_timeout_may_be_as_long_as_can_be(scene, name, timeout):
    with gevent.Timeout(15):
        {**CALLS, **POLLS}[name](scene, timeout)


@pytest.mark.once
@pytest.mark.parametrize("timeout", [*NEGATIVE, *BAD], ids=repr)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_timeout_is_refused_by_its_name(scene, name, timeout):
    with gevent.Timeout(15), pytest.raises((ValueError, TypeError), match=r"timeout=.* seconds"):
        CALLS[name](scene, timeout)


@pytest.mark.once
@pytest.mark.parametrize("timeout", BAD, ids=repr)
@pytest.mark.parametrize("name", POLLS)
def test_what_is_no_timeout_of_a_poll_is_refused_by_its_name(scene, name, timeout):
    with gevent.Timeout(15), pytest.raises((ValueError, TypeError), match="timeout="):
        POLLS[name](scene, timeout)


@pytest.mark.parametrize("name", POLLS)
def test_a_negative_timeout_of_a_poll_is_endless(scene, name):
    with gevent.Timeout(15):
        POLLS[name](scene, -1)


def test_a_call_that_is_refused_has_changed_nothing(scene):
    for call in (
        lambda: scene.push.stop(float("nan")),
        lambda: scene.push.send(b"x", timeout=-1),
        lambda: scene.push.send(b"x", block=False, timeout=-1),
        lambda: scene.push.flush(-1),
        lambda: scene.pull.serve_forever(-1),
    ):
        with pytest.raises(ValueError, match=r"timeout=.* seconds from 0 up"):
            call()
    scene.push.send(b"after")
    assert scene.pull.recv(timeout=10) == [b"after"]
    assert scene.push.started


def test_options_of_a_socket_may_be_as_long_as_can_be(scene):
    socket = scene.readable()
    socket.rcvtimeo = socket.sndtimeo = 2**31 - 1
    assert socket.recv() == b"x"
    assert threading.TIMEOUT_MAX > 2**31 / 1000
