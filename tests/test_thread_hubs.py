"""No native thread makes a hub: nothing would destroy it, and it has descriptors."""

import gc

import gevent
import pytest
import zmq
from gevent.hub import Hub
from helpers import endpoint_of

from gzmqsource import green
from gzmqsource.auth import Authenticator
from gzmqsource.monitor import Monitor
from gzmqsource.proxy import Proxy
from gzmqsource.testing import all_blocked, no_leaks

ROUNDS = 5


def sockets(context, capture=None):
    """A frontend, a backend, and perhaps a capture socket."""
    found = [context.socket(zmq.PULL), context.socket(zmq.PUSH)]
    if capture is not None:
        found.append(capture.socket(zmq.PUB))
    for number, socket in enumerate(found):
        socket.linger = 0
        socket.bind(f"inproc://end-{number}")
    return found


def send_two_parts(context):
    """A message that is unread when its proxy is stopped, with the socket that sent it."""
    source = context.socket(zmq.PUSH)
    source.linger = 0
    source.connect("inproc://end-0")
    source.send_multipart([b"x", b"y"])
    return source


def stopped(context):
    with Proxy(*sockets(context)), send_two_parts(context):
        pass


def stopped_with_a_green_capture(context):
    plain = zmq.Context(shadow=context.underlying)
    with Proxy(*sockets(plain, context)):
        pass


def used_before(context):
    ends = sockets(context)
    for socket in ends:
        assert socket.poll(0) in (0, zmq.POLLOUT)
    with Proxy(*ends):
        pass


def ended_by_its_context(context):
    proxy = Proxy(*sockets(context))
    proxy.start()
    context.destroy(0)
    with pytest.raises(zmq.ContextTerminated):
        proxy.join()
    proxy.stop()


def looped(context):
    """The loop of `green.proxy` is ended by the close of one of its sockets."""
    ends = sockets(context)
    running = gevent.spawn(green.proxy, *ends)
    all_blocked()
    ends[0].close()
    running.join()
    assert isinstance(running.exception, zmq.ZMQError)
    ends[1].close()


def copied(context):
    ends = sockets(context, context)
    running = gevent.spawn(green.monitored_queue, *ends)
    all_blocked()
    for socket in ends:
        socket.close()
    context.term()
    running.join()
    assert isinstance(running.exception, zmq.ZMQError)


def run_by_a_device(context):
    device = green.ThreadProxy(zmq.PULL, zmq.PUSH)
    device.context_factory = lambda: context
    device.bind_in("inproc://front")
    device.bind_out("inproc://back")
    device.start()
    with context.socket(zmq.PUSH) as source, context.socket(zmq.PULL) as sink:
        source.connect("inproc://front")
        sink.connect("inproc://back")
        source.send(b"x")
        assert sink.recv() == b"x"
    context.term()
    device.join()


def watched(context):
    with context.socket(zmq.PULL) as socket, Monitor(socket) as monitor:
        socket.bind("tcp://127.0.0.1:*")
        assert monitor.recv(timeout=10).name == "listening"


def watched_by_a_socket(context):
    with context.socket(zmq.PULL) as socket, socket.get_monitor_socket() as monitor:
        socket.bind("tcp://127.0.0.1:*")
        monitor.recv_multipart()
        socket.disable_monitor()


def lent(context):
    with context.socket(zmq.PULL) as sink, context.socket(zmq.PUSH) as source:
        sink.bind("inproc://sink")
        source.connect("inproc://sink")
        tracker = source.send(bytes(1_000_000), copy=False, track=True)
        assert len(sink.recv()) == 1_000_000
        tracker.wait(10)


def authenticated(context):
    with Authenticator(context), context.socket(zmq.PULL) as sink:
        sink.zap_domain = b"global"
        sink.bind("tcp://127.0.0.1:*")
        with context.socket(zmq.PUSH) as source:
            source.connect(endpoint_of(sink))
            source.send(b"x")
            assert sink.recv() == b"x"


@pytest.mark.parametrize(
    "use",
    [
        stopped,
        stopped_with_a_green_capture,
        used_before,
        ended_by_its_context,
        looped,
        copied,
        run_by_a_device,
        watched,
        watched_by_a_socket,
        lent,
        authenticated,
    ],
)
def test_no_native_thread_leaves_a_hub_behind(use):
    def run():
        with gevent.Timeout(10), green.Context() as context:
            use(context)

    run()  # what the first use opens stays open
    before = hubs()
    with no_leaks():
        for _ in range(ROUNDS):
            run()
    assert hubs() == before


def hubs():
    """Return how many hubs there are that were not destroyed."""
    gc.collect()
    return sum(isinstance(each, Hub) and each.loop is not None for each in gc.get_objects())


def test_a_proxy_closes_a_green_socket_as_its_hub_does():
    with green.Context() as context:
        front, back = sockets(context)
        waiting = gevent.spawn(front.recv)
        all_blocked()
        proxy = Proxy(front, back)
        proxy.start()
        assert proxy.stop(10, drain=False)
        waiting.join(10)
        assert isinstance(waiting.exception, zmq.ZMQError)
        assert waiting.exception.errno == zmq.ENOTSOCK
