"""Proxies and devices run beside the other greenlets."""

import contextlib
import errno
from typing import Any

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from zmq.sugar.context import Context as PlainContext

from gzmqsource.testing import all_blocked, wait_until

start_thread = get_original("_thread", "start_new_thread")
sleep = get_original("time", "sleep")


@pytest.fixture
def ends(context):
    """The two sides of a device, each with a peer."""
    frontend, backend = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    frontend.bind("inproc://front")
    backend.bind("inproc://back")
    source, sink = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    for socket in (frontend, backend, source, sink):
        socket.linger = 0
    source.connect("inproc://front")
    sink.connect("inproc://back")
    return frontend, backend, source, sink


def passes(source, sink):
    for number in range(100):
        source.send_multipart([b"%d" % number, b"x"])
        assert sink.recv_multipart() == [b"%d" % number, b"x"]


@pytest.mark.parametrize("how", ["proxy", "device"])
def test_a_proxy_passes_messages_while_greenlets_run(green, context, ends, how):
    frontend, backend, source, sink = ends
    running: gevent.Greenlet[..., Any]
    if how == "proxy":
        running = gevent.spawn(green.proxy, frontend, backend)
    else:
        running = gevent.spawn(green.device, zmq.STREAMER, frontend, backend)
    all_blocked()
    with gevent.Timeout(5):
        passes(source, sink)
    source.close()
    sink.close()
    ending = gevent.spawn(context.term)
    with pytest.raises(zmq.ContextTerminated):
        running.get(timeout=5)
    frontend.close()
    backend.close()
    ending.get(timeout=5)


def test_a_proxy_may_be_all_that_runs(green, context, ends):
    gevent.sleep(0)  # there is a hub

    def end_later():
        sleep(0.1)
        PlainContext.term(context)
        ended.append(True)

    ended: list[bool] = []
    start_thread(end_later, ())
    with pytest.raises(zmq.ContextTerminated):
        green.proxy(*ends[:2])
    for socket in ends:
        socket.close()
    wait_until(lambda: ended)


def test_a_steerable_proxy_obeys(green, context, ends):
    if not zmq.has("proxy_steerable") and not hasattr(zmq, "proxy_steerable"):
        pytest.skip("this libzmq has none")
    frontend, backend, source, sink = ends
    control, steer = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    control.bind("inproc://control")
    steer.connect("inproc://control")
    running = gevent.spawn(green.proxy_steerable, frontend, backend, None, control)
    with gevent.Timeout(5):
        passes(source, sink)
        steer.send(b"TERMINATE")
        with contextlib.suppress(zmq.ZMQError):
            running.get()
    assert running.ready()


def test_an_error_of_a_proxy_reaches_its_caller(green, context):
    closed = context.socket(zmq.PULL)
    closed.close()
    with pytest.raises(zmq.ZMQError) as raised, gevent.Timeout(5):
        green.proxy(closed, context.socket(zmq.PUSH))
    assert raised.value.errno == errno.EFAULT


def test_a_thread_device_runs_on_a_native_thread(green):
    device = green.ThreadDevice(zmq.QUEUE, zmq.ROUTER, zmq.DEALER)
    device.bind_in("inproc://device-front")
    device.bind_out("inproc://device-back")
    device.setsockopt_in(zmq.LINGER, 0)
    device.setsockopt_out(zmq.LINGER, 0)
    check_exchange(green, device)


def test_a_thread_proxy_runs_on_a_native_thread(green):
    proxy = green.ThreadProxy(zmq.ROUTER, zmq.DEALER)
    proxy.bind_in("inproc://device-front")
    proxy.bind_out("inproc://device-back")
    check_exchange(green, proxy)


def check_exchange(green, device):
    device.start()
    context = green.Context.instance()
    with context.socket(zmq.REQ) as client, context.socket(zmq.REP) as server:
        client.linger = server.linger = 0
        with gevent.Timeout(5):
            client.connect("inproc://device-front")
            server.connect("inproc://device-back")
            serving = gevent.spawn(lambda: server.send(server.recv().upper()))
            client.send(b"hello")
            assert client.recv() == b"HELLO"
            serving.get()
    with gevent.Timeout(5):
        context.term()
        device.join()
    assert not device.launcher.is_alive()
