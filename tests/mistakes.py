"""What mistakes are made with: see `test_mistakes`."""

import functools
from typing import Any

import pytest
import zmq
from helpers import in_thread, unique_inproc

import gzmqsource
from gzmqsource import auth, broker, monitor, workers
from gzmqsource import proxy as proxies

# A type checker would refuse most of what is passed to these.
Source: Any = gzmqsource.Source
Authenticator: Any = auth.Authenticator
Broker: Any = broker.Broker
Monitor: Any = monitor.Monitor
Proxy: Any = proxies.Proxy
Requester: Any = workers.Requester
Responder: Any = workers.Responder


counts_topics = pytest.mark.skipif(
    zmq.zmq_version_info() < (4, 3, 5), reason="libzmq 4.3.4 does not count topics"
)


class Scene:
    """The objects that mistakes are made with; `check` shows that they are as before."""

    def __init__(self, context, folder):
        self.context = context
        self.folder = folder
        self._all = []
        self.endpoint = unique_inproc()
        self.pull = self.open(zmq.PULL, bind="tcp://127.0.0.1:*")
        self.bound = self.pull.socket.last_endpoint.decode()
        self.push = self.open(zmq.PUSH, connect=self.bound)
        self.full = self.open(zmq.PUSH, outbox=1, linger=0)
        self.full.send(b"waits")
        self.sender = self.full.sender()
        self.router = self.open(zmq.ROUTER, bind=self.endpoint, router_mandatory=1)
        self.pub = self.open(zmq.PUB)
        self.sub = self.open(zmq.SUB)
        self.req = self.open(zmq.REQ, connect=self.endpoint, linger=0)
        self.served = self.open(zmq.PULL, handle)
        self.gone = Source.open(zmq.PULL, context=context)
        self.gone.close()

    def open(self, kind, *arguments, **options):
        source = Source.open(kind, *arguments, context=self.context, **options)
        self._all.append(source)
        return source

    def try_to_open(self, kind=zmq.PULL, *arguments, **options):
        """What is opened by mistake is closed at the end, and the test fails."""
        self.open(kind, *arguments, **options)

    def keep(self, closable):
        self._all.append(closable)
        return closable

    def check(self):
        self.push.send(b"as before")
        assert self.pull.recv(timeout=5) == [b"as before"]
        assert self.full.stats().outbox_depth == 1
        assert self.full.stats().dropped == {}
        assert (self.pub.closed, self.sub.closed, self.router.closed) == (False, False, False)

    def close(self):
        for each in self._all:
            each.close()


def handle(_message):
    pass


def takes_none():
    pass


def takes_two(_one, _two):
    pass


def needs_a_name(_message, *, _name):
    pass


async def coroutine(_message):
    pass


def raised_in_thread(function, *arguments, **options):
    error = in_thread(functools.partial(function, *arguments, **options))
    if isinstance(error, BaseException):
        raise error


def request(scene, **options):
    with Requester.open("tcp://127.0.0.1:1", context=scene.context, linger=0) as requester:
        requester.request(options.pop("message", b"x"), **options)


def requester(scene, connect="inproc://nobody", **options):
    scene.keep(Requester.open(connect, context=scene.context, **options))


def responder(scene, handler=handle, **options):
    options = {"bind": "inproc://responder", "context": scene.context, **options}
    scene.keep(Responder.open(handler, **options))


def proxy(scene, kinds):
    """A proxy between sockets of these types, which are closed in any case."""
    sockets = [scene.keep(scene.context.socket(kind)) for kind in kinds]
    Proxy(*sockets)


def raw(scene, kind=zmq.ROUTER):
    return scene.keep(scene.context.socket(kind))


def closed_socket(scene):
    socket = scene.context.socket(zmq.PULL)
    socket.close()
    return socket


def terminated():
    context = zmq.Context()
    context.term()
    return context


def second_monitor(scene):
    first = Monitor(scene.pull)
    with Monitor(scene.pull):
        while True:  # a peer may just have connected
            first.recv(timeout=5)


def closed_monitor(scene):
    monitor = Monitor(scene.pull)
    monitor.close()
    monitor.recv()


def second_authenticator(scene):
    with Authenticator(scene.context):
        Authenticator(scene.context).start()


def closed_requester(scene):
    with Requester.open("inproc://nobody", context=scene.context) as requester:
        pass
    requester.request(b"x")


def raising_frames():
    yield b"frame"
    raise RuntimeError("in the generator")


def mistake(scene, make, error, pattern):
    """Make a mistake, and check the error, its text, and that all is as before."""
    with pytest.raises(error, match=pattern) as raised:
        make(scene)
    del raised
    scene.check()
