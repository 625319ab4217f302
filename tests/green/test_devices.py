"""Proxies and devices run beside the other greenlets."""

import contextlib
import errno
import functools
import threading

import gevent
import pytest
import zmq
import zmq.devices
from gevent.monkey import get_original
from helpers import line_of, python_process
from patching import run
from zmq.sugar.context import Context as PlainContext

from gzmqsource.testing import all_blocked, in_forked_child, wait_until

start_thread = get_original("_thread", "start_new_thread")


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


@pytest.mark.parametrize("sockets", [(1, 2), (None, None), (1, 2, 3)])
def test_what_is_no_socket_is_a_type_error(green, sockets):
    for call, given in ((green.proxy, sockets), (green.monitored_queue, (*sockets[:2], None))):
        with pytest.raises(TypeError, match=f"{sockets[0]} is not a socket"):
            call(*given)


@pytest.mark.parametrize("names", [(), ("frontend", "backend"), ("isocket", "osocket")])
def test_a_proxy_passes_messages_while_greenlets_run(green, context, ends, names):
    frontend, backend, source, sink = ends
    proxy = functools.partial(green.proxy, frontend, backend)
    device = functools.partial(green.device, zmq.STREAMER, **dict(zip(names, ends, strict=False)))
    running = gevent.spawn(device if names else proxy)
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
        source: zmq.Socket[bytes] = zmq.Socket.shadow(ends[2].underlying)
        sink: zmq.Socket[bytes] = zmq.Socket.shadow(ends[3].underlying)
        source.send(b"x")
        sink.recv()  # it runs
        PlainContext.term(context)
        ended.append(True)

    ended: list[bool] = []
    start_thread(end_later, ())
    with pytest.raises(zmq.ContextTerminated):
        green.proxy(*ends[:2])
    for socket in ends:
        socket.close()
    wait_until(lambda: ended)


@pytest.mark.parametrize("which", [0, 1], ids=["frontend", "backend"])
@pytest.mark.parametrize("how", ["proxy", "proxy_steerable", "device"])
def test_a_proxy_ends_when_one_of_its_sockets_is_closed(green, context, ends, how, which):
    frontend, backend, source, sink = ends
    before = [zmq.STREAMER] if how == "device" else []
    running = gevent.spawn(lambda: getattr(green, how)(*before, frontend, backend))
    with gevent.Timeout(5):
        passes(source, sink)
    ends[which].close(0)
    with pytest.raises(zmq.ZMQError) as raised:
        running.get(timeout=5)
    assert raised.value.errno == zmq.ENOTSOCK
    assert [each.closed for each in ends] == [number == which for number in range(4)]
    for each in ends:
        each.close()
        assert each.closed


@pytest.mark.parametrize("how", ["monitored_queue", "proxy_steerable"])
def test_a_socket_that_a_loop_uses_is_closed_at_its_end(green, context, ends, how):
    frontend, backend, source, sink = ends
    control, steer = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    control.bind("inproc://control")
    steer.connect("inproc://control")
    if how == "monitored_queue":
        running = gevent.spawn(lambda: green.monitored_queue(frontend, backend, control))
    else:
        running = gevent.spawn(lambda: green.proxy_steerable(frontend, backend, None, control))
    with gevent.Timeout(5):
        passes(source, sink)
        frontend.close(0)
        passes(source, sink)
    assert not frontend.closed
    if how == "monitored_queue":
        for socket in (source, sink, steer):
            socket.close(0)
        ending = gevent.spawn(context.term)
    else:
        steer.send(b"TERMINATE")
        ending = gevent.spawn(lambda: None)
    with pytest.raises(zmq.ZMQError) as raised:
        running.get(timeout=5)
    assert raised.value.errno == (zmq.ETERM if how == "monitored_queue" else zmq.ENOTSOCK)
    assert frontend.closed
    for socket in (backend, control, steer):
        socket.close(0)
    ending.get(timeout=5)


FLOODED = """
import os
import sys
import threading

import gevent
import zmq
from gzmqsource import green

how, ending = sys.argv[1:]

def send(context):
    with zmq.Socket(context, zmq.PUSH) as socket:
        socket.linger = 0
        socket.connect("inproc://front")
        while True:
            socket.send(b"x")

def receive(context, passed):
    with zmq.Socket(context, zmq.PULL) as socket:
        socket.connect("inproc://back")
        while True:
            socket.recv()
            passed.set()

def until_terminated(function, *arguments):
    try:
        function(*arguments)
    except zmq.ContextTerminated:
        pass

for number in range(8):
    context = green.Context()
    plain = zmq.Context(shadow=context.underlying)
    front, back = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    front.linger = back.linger = 0
    front.bind("inproc://front")
    back.bind("inproc://back")
    if how == "proxy":
        running = gevent.spawn(green.proxy, front, back)
    else:
        running = gevent.spawn(green.device, zmq.STREAMER, front, back)
    passed = threading.Event()
    threads = [
        threading.Thread(target=until_terminated, args=arguments)
        for arguments in [(send, plain), (send, plain), (receive, plain, passed)]
    ]
    for thread in threads:
        thread.start()
    while not passed.is_set():
        gevent.sleep(0.001)
    gevent.sleep(0.005 * number)
    if ending == "close":
        (front, back)[number % 2].close(0)
    context.destroy(0)
    for thread in threads:
        thread.join()
    running.join()
    assert isinstance(running.exception, zmq.ZMQError)
print("done")
"""


@pytest.mark.once
@pytest.mark.processes
@pytest.mark.limit(60)
@pytest.mark.parametrize("ending", ["close", "destroy"])
@pytest.mark.parametrize("how", ["proxy", "device"])
def test_a_flooded_proxy_ends_in_peace(how, ending):
    """libzmq crashes if a socket is closed that its loop uses on another thread."""
    with python_process(FLOODED, how, ending) as process:
        assert line_of(process) == "done"
        assert process.wait(20) == 0


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


@pytest.mark.parametrize("which", ["capture", "control"])
def test_a_proxy_goes_without_a_capture_or_control_that_is_closed(green, context, ends, which):
    frontend, backend, source, sink = ends
    closed = context.socket(zmq.PAIR)
    closed.close()
    given = {which: closed}
    running = gevent.spawn(lambda: green.proxy_steerable(frontend, backend, **given))
    with gevent.Timeout(5):
        passes(source, sink)
    frontend.close(0)
    with pytest.raises(zmq.ZMQError) as raised:
        running.get(timeout=5)
    assert raised.value.errno == zmq.ENOTSOCK
    assert frontend.closed


def test_a_monitored_queue_passes_messages_while_greenlets_run(green, context):
    # Two ROUTERs, whose first two frames it swaps; libzmq's own proxy cannot.
    front, back, monitor = (context.socket(kind) for kind in (zmq.ROUTER, zmq.ROUTER, zmq.PUSH))
    asking, answering, watching = (
        context.socket(kind) for kind in (zmq.DEALER, zmq.DEALER, zmq.PULL)
    )
    asking.identity, answering.identity = b"asking", b"answering"
    peers = {"inproc://front": asking, "inproc://back": answering, "inproc://monitor": watching}
    for socket, (address, peer) in zip((front, back, monitor), peers.items(), strict=True):
        socket.linger = peer.linger = 0
        socket.bind(address)
        peer.connect(address)
    running = gevent.spawn(green.monitored_queue, front, back, monitor, b"<", b">")
    with gevent.Timeout(5):
        asking.send_multipart([b"answering", b"?"])
        assert answering.recv_multipart() == [b"asking", b"?"]
        assert watching.recv_multipart() == [b"<", b"answering", b"asking", b"?"]
        answering.send_multipart([b"asking", b"!"])
        assert asking.recv_multipart() == [b"answering", b"!"]
        assert watching.recv_multipart() == [b">", b"asking", b"answering", b"!"]
    for peer in peers.values():
        peer.close()
    ending = gevent.spawn(context.term)
    with pytest.raises(zmq.ContextTerminated):
        running.get(timeout=5)
    for socket in (front, back, monitor):
        socket.close()
    ending.get(timeout=5)


THREAD_DEVICES = {
    "ThreadDevice": lambda kind: kind(zmq.QUEUE, zmq.ROUTER, zmq.DEALER),
    "ThreadProxy": lambda kind: kind(zmq.ROUTER, zmq.DEALER),
    "ThreadProxySteerable": lambda kind: kind(zmq.ROUTER, zmq.DEALER, ctrl_type=zmq.PAIR),
    "ThreadMonitoredQueue": lambda kind: kind(zmq.ROUTER, zmq.DEALER),
}


@pytest.mark.parametrize("name", THREAD_DEVICES)
def test_a_device_runs_on_a_native_thread(green, name):
    device = THREAD_DEVICES[name](getattr(green, name))
    device.bind_in("inproc://device-front")
    device.bind_out("inproc://device-back")
    device.setsockopt_in(zmq.LINGER, 0)
    device.setsockopt_out(zmq.LINGER, 0)
    check_exchange(green, device)


def test_the_devices_are_related_as_pyzmqs_are(green):
    for one in THREAD_DEVICES:
        for other in THREAD_DEVICES:
            assert issubclass(getattr(green, one), getattr(zmq.devices, one))
            assert issubclass(getattr(green, one), getattr(green, other)) == issubclass(
                getattr(zmq.devices, one), getattr(zmq.devices, other)
            )


def test_a_device_that_cannot_begin_says_so_as_a_thread_does(green, monkeypatch):
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    device = green.ThreadProxy(zmq.ROUTER, zmq.DEALER)
    device.bind_in("inproc://")
    device.start()
    device.join()
    wait_until(lambda: reported)
    assert isinstance(reported[0].exc_value, zmq.ZMQError)


def test_a_forked_child_waits_for_no_device_of_its_parent(green):
    device = green.ThreadProxy(zmq.ROUTER, zmq.DEALER)
    device.bind_in("inproc://device-front")
    device.start()

    def join():
        assert not device.launcher.is_alive()
        device.join()

    in_forked_child(join)
    assert device.launcher.is_alive()
    with gevent.Timeout(5):
        green.Context.instance().term()
        device.join()


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


PATCHED = """
import gevent.monkey
gevent.monkey.patch_all(zmq=True)
import gevent
import zmq
import zmq.devices
from zmq.devices import ThreadMonitoredQueue, monitored_queue
from gzmqsource import green

for name in set(dir(zmq.devices)) & set(green.REPLACED):
    assert getattr(zmq.devices, name) is green.REPLACED[name], name
assert zmq.devices.monitoredqueuedevice.monitored_queue is monitored_queue is green.monitored_queue

device = ThreadMonitoredQueue(zmq.PULL, zmq.PUSH, zmq.PUSH)
device.bind_in("inproc://in")
device.bind_out("inproc://out")
device.bind_mon("inproc://mon")
device.start()
context = zmq.Context.instance()
sink, monitor = context.socket(zmq.PULL), context.socket(zmq.PULL)
source = context.socket(zmq.PUSH)
for socket, address in ((sink, "out"), (monitor, "mon"), (source, "in")):
    socket.linger = 0
    socket.connect("inproc://" + address)
receiving = [gevent.spawn(each.recv_multipart) for each in (sink, monitor)]
source.send(b"x")
print([each.get(timeout=10) for each in receiving], flush=True)
for socket in (sink, monitor, source):
    socket.close()
context.term()
device.join()
"""


@pytest.mark.processes
@pytest.mark.limit(60)
def test_a_patched_process_has_these_devices():
    with python_process(PATCHED) as process:
        assert line_of(process) == "[[b'x'], [b'in', b'x']]"
        assert process.wait(20) == 0


@pytest.mark.processes
@pytest.mark.limit(60)
@pytest.mark.parametrize("patches", ["", "zmq=True"])
def test_the_context_of_a_device_can_be_ended_beside_the_hub(patches):
    program = f"""
        from gevent import monkey; monkey.patch_all({patches})
        import threading, time
        import gzmqsource.green as zmq
        device = zmq.ThreadMonitoredQueue(zmq.PAIR, zmq.PAIR, zmq.PUB, b"in", b"out")
        ends = [zmq.Context.instance().socket(kind) for kind in (zmq.PAIR, zmq.PAIR, zmq.SUB)]
        for end, connect in zip(ends, (device.connect_in, device.connect_out, device.connect_mon)):
            connect(f"tcp://127.0.0.1:{{end.bind_to_random_port('tcp://127.0.0.1')}}")
        device.start()
        while not hasattr(device, "_context"): time.sleep(0.001)  # its thread sets it
        ending = threading.Thread(target=device._context.term)
        ending.start()
        for end in ends: end.close(0)
        ending.join()
        device.join()
        print("ended")
        """
    assert run(program) == ["ended"]


@pytest.mark.processes
@pytest.mark.limit(60)
def test_the_thread_of_a_device_imports_nothing():
    # It would contend for a lock that is patched, and wait for the caller's greenlets forever.
    program = """
        from gevent import monkey; monkey.patch_all()
        import sys
        import gzmqsource.green as zmq
        ident = monkey.get_original("_thread", "get_ident")
        main, imported = ident(), []
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if ident() != main: imported.append(name)
        sys.meta_path.insert(0, Finder())
        device = zmq.ThreadDevice(zmq.QUEUE, zmq.PULL, zmq.PUSH)
        front = device.bind_in_to_random_port("tcp://127.0.0.1")
        back = device.bind_out_to_random_port("tcp://127.0.0.1")
        device.start()
        sleep = monkey.get_original("time", "sleep")
        while not hasattr(device, "_context"): sleep(0.001)  # its thread sets it
        context = zmq.Context.instance()
        source, sink = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        source.connect(f"tcp://127.0.0.1:{front}")
        sink.connect(f"tcp://127.0.0.1:{back}")
        source.send(b"passed")
        print(sink.recv().decode(), *imported)
        for socket in (source, sink): socket.close(0)
        context.term()
        device.join()
        """
    assert run(program) == ["passed"]
