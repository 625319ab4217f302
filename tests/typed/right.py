"""What a type checker has to accept, and what it has to know of it; see `test_typed`."""

from collections.abc import Iterator
from typing import Any

import gevent
import zmq
from gevent.event import AsyncResult
from gevent.pool import Group, Pool
from typing_extensions import assert_type

from gzmqsource import Sender, Source, Stats, green, proxy, testing
from gzmqsource.auth import Authenticator, AuthStats
from gzmqsource.broker import Broker, BrokerStats, WorkerStats
from gzmqsource.monitor import Monitor, SocketEvent
from gzmqsource.monkey import is_patched, patch_zmq
from gzmqsource.workers import (
    Hook,
    Request,
    Requester,
    RequesterStats,
    Responder,
    ResponderStats,
    current_request,
    shield,
)


def copied(message: list[bytes]) -> None: ...


def uncopied(message: list[zmq.Frame]) -> None: ...


def either(message: list[bytes | zmq.Frame]) -> None: ...


def anything(message: list[Any]) -> None: ...


def note(error: BaseException, message: list[Any] | None) -> None: ...


# What is received.


def pulled(socket: zmq.Socket[bytes]) -> None:
    for message in Source.open(zmq.PULL):
        assert_type(message, list[bytes])
    for message in Source(socket, copy=True):
        assert_type(message, list[bytes])
    source = Source(socket)
    assert_type(source.recv(), list[bytes])
    assert_type(source.recv(block=False), list[bytes])
    assert_type(source.recv_many(10, timeout=0.5), list[list[bytes]])


def pulled_uncopied(socket: zmq.Socket[bytes]) -> None:
    for message in Source.open(zmq.PULL, copy=False):
        assert_type(message, list[zmq.Frame])
    for message in Source(socket, copy=False):
        assert_type(message, list[zmq.Frame])
    source = Source.open(zmq.PULL, copy=False)
    assert_type(source.recv(), list[zmq.Frame])
    assert_type(source.recv_many(10), list[list[zmq.Frame]])


def not_known_before(socket: zmq.Socket[bytes], copy: bool) -> None:
    assert_type(Source(socket, either, copy=copy), Source[bytes | zmq.Frame])
    assert_type(Source.open(zmq.PULL, copy=copy).recv(), list[bytes | zmq.Frame])


def in_annotations(plain: Source, frames: Source[zmq.Frame], any_of_them: Source[Any]) -> Source:
    assert_type(plain, Source[bytes])
    assert_type(frames.recv(), list[zmq.Frame])
    assert_type(any_of_them.recv(), list[Any])
    with plain as entered:
        assert_type(entered, Source[bytes])
    return Source.open(zmq.PULL)


# Handlers, and where they run.


def handled(socket: zmq.Socket[bytes]) -> None:
    received: list[list[bytes]] = []
    Source(socket, copied)
    Source(socket, uncopied, copy=False)
    Source(socket, anything, copy=False)
    Source.open(zmq.PULL, copied)
    Source.open(zmq.PULL, uncopied, copy=False)
    Source.open(zmq.PULL, received.append)
    Source.open(zmq.PULL, print)
    Source.open(zmq.PULL, lambda message: print(message[0].upper()))
    Source.open(zmq.PULL, lambda message: print(message[0].buffer), copy=False)
    Source.open(zmq.PULL, handle=None).set_handle(copied, spawn=2)
    Source.open(zmq.PULL, copy=False).set_handle(uncopied)


def spawned() -> None:
    def spawn(function: Any, argument: Any) -> None: ...

    for where in (None, 10, Pool(10), Group(), gevent.spawn, gevent.spawn_raw, spawn):
        Source.open(zmq.PULL, copied, spawn=where)
    Source.open(zmq.PULL, copied, spawn=gevent.spawn)
    Source.open(zmq.PULL, copied, spawn=gevent.spawn_raw)
    Source.open(zmq.PULL, copied, spawn=lambda function, argument: function(argument))


def echo() -> None:
    server: Source = Source.open(zmq.REP, lambda message: server.send(message))
    server.serve_forever()


class Server(Source):
    max_batch = 10

    def handle(self, message: list[bytes]) -> None:
        self.send(message)


class FrameServer(Source[zmq.Frame]):
    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        super().__init__(socket, copy=False)

    def handle(self, message: list[zmq.Frame]) -> None:
        self.send(message)


def subclasses(socket: zmq.Socket[bytes]) -> None:
    assert_type(Server(socket), Server)
    assert_type(Server.open(zmq.PULL), Server)
    assert_type(FrameServer.open(zmq.PULL, copy=False), FrameServer)
    with Server(socket) as server:
        assert_type(server, Server)
        server.rawlink(lambda closed: assert_type(closed, Server) and None)


# The rest of a source.


def opened() -> None:
    Source.open(
        zmq.SUB,
        copied,
        bind="tcp://127.0.0.1:*",
        connect=["tcp://127.0.0.1:5555", "ipc://a"],
        subscribe=["a", b"b"],
        context=zmq.Context(),
        spawn=None,
        outbox=10,
        outbox_bytes=1 << 20,
        overflow="drop_oldest",
        on_error=note,
        ref=False,
        linger=0,
        curve_publickey=b"key",
        plain_username="name",
    )
    options: dict[str, Any] = {"sndhwm": 10, "copy": False}
    Source.open(zmq.PULL, **options)


def sent(source: Source, frame: zmq.Frame) -> None:
    source.send(b"a")
    source.send([b"a", bytearray(b"b"), memoryview(b"c"), frame], timeout=1)
    source.send((each for each in (b"a", b"b")), block=False)
    source.send_nowait(frame)
    assert_type(source.withdraw(b"a"), bool)
    assert_type(source.flush(0.5), bool)
    assert_type(source.stats(), Stats)
    assert_type(source.socket.last_endpoint.decode(), str)
    with source.sender() as sender:
        assert_type(sender, Sender)
        assert_type(sender.clone(), Sender)
        sender.send([b"a"], timeout=None)
    for message in source.stop(timeout=2, drain=False):
        source.send(message)


# Workers.


def answered(payload: list[bytes]) -> list[bytes]:
    return payload


def generated(payload: list[bytes]) -> Iterator[bytes]:
    yield from payload


def answered_uncopied(payload: list[zmq.Frame]) -> zmq.Frame:
    return payload[0]


class Counting(Hook):
    def before(self, request: Request) -> None:
        assert_type(request.left, float | None)

    def after(self, request: Request, reply: list[Any]) -> None: ...


def responders(source: Source, frames: Source[zmq.Frame]) -> None:
    with Responder(source, answered, 10) as responder:
        assert_type(responder, Responder)
        assert_type(responder.stop(1), int)
        assert_type(responder.stats(), ResponderStats)
    Responder(source, generated, Pool(10), hooks=[Counting()])
    Responder(frames, answered_uncopied)
    Responder.open(answered, bind="tcp://127.0.0.1:*", spawn=None, on_error=note, outbox=10)
    Responder.open(generated, connect=["ipc://a"], spawn=gevent.spawn)
    Responder.open(answered_uncopied, bind="ipc://a", copy=False)
    Responder.open(lambda payload: payload[0].upper(), bind="ipc://a", sndhwm=100)
    Responder.join("ipc://a", answered)
    Responder.join(["ipc://a", "ipc://b"], generated, Pool(2), tracebacks=True)
    Responder.join("ipc://a", answered_uncopied, copy=False, routing_id=b"name")
    assert_type(current_request(), Request | None)
    with shield():
        pass


def requesters() -> None:
    with Requester("tcp://127.0.0.1:5555", dead_after=0.5, hooks=(Counting(),)) as requester:
        assert_type(requester, Requester)
        assert_type(requester.request(b"a", timeout=1, retries=2, priority=3), list[bytes])
        pending: AsyncResult[list[bytes]] = requester.submit([b"a"])
        pending.rawlink(lambda result: print(result.value))
        assert_type(requester.submit([b"a"]).get(timeout=1), list[bytes])
        assert_type(requester.stats(), RequesterStats)
    frames = Requester("ipc://a", copy=False)
    assert_type(frames.request(b"a"), list[zmq.Frame])
    assert_type(Requester.open("ipc://a", linger=0).request(b"a"), list[bytes])
    assert_type(Requester.open("ipc://a", copy=False).request(b"a"), list[zmq.Frame])
    Requester(["ipc://a"], bind="ipc://b", resolve=lambda endpoint: [endpoint, "ipc://c"])


def brokers(front: Source, back: Source[zmq.Frame]) -> None:
    with Broker.open("ipc://a", ["ipc://b"], max_waiting=10, linger=0) as broker:
        assert_type(broker, Broker)
        assert_type(broker.stats(), BrokerStats)
        assert_type(broker.workers(), list[WorkerStats])
    Broker(front, back, redeliver=True)


# Beside sources.


def monitors(source: Source[zmq.Frame], socket: zmq.Socket[bytes]) -> None:
    with Monitor(source) as monitor, Monitor(socket, zmq.EVENT_CONNECTED):
        for event in monitor:
            assert_type(event, SocketEvent)
        assert_type(monitor.wait_for("connected", timeout=1).errno, int | None)


def proxies(front: zmq.Socket[bytes], back: green.Socket[bytes]) -> None:
    with proxy.Proxy(front, back, capture=None) as passing:
        assert_type(passing.stats(), proxy.ProxyStats)
        assert_type(passing.stop(timeout=1), bool)


def accepted(domain: str, username: str, password: str) -> bool:
    return True


def named(domain: str, key: bytes) -> str | bool:
    return "name" if key else False


def authenticators() -> None:
    with Authenticator(zmq.Context(), on_error=note) as authenticator:
        authenticator.allow("10.0.0.1", "ipc")
        authenticator.configure_plain(passwords={"name": "password"})
        authenticator.configure_plain("domain", accepted)
        authenticator.configure_curve(location="keys")
        authenticator.configure_curve("*", named)
        assert_type(authenticator.stats(), AuthStats)


def tested(source: Source[zmq.Frame]) -> None:
    assert_type(testing.fill(source, [b"a", b"b"]), int)
    assert_type(testing.steal_edge(source), int)
    assert_type(testing.wait_until(lambda: source.closed), bool)
    testing.in_forked_child(source.stop)
    with testing.no_leaks():
        testing.all_blocked()


# In place of zmq.


def drop_in() -> None:
    with green.Context() as context, context.socket(green.PULL) as socket:
        assert_type(socket, green.Socket[bytes])
        assert_type(socket.recv(), bytes)
        assert_type(socket.recv(copy=False), green.Frame)
        assert_type(socket.recv_multipart(), list[bytes])
        assert_type(socket.recv_multipart(copy=False), list[green.Frame])
        assert_type(green.Socket(context, green.PUSH), green.Socket[bytes])
        Source(socket, copied)
        poller = green.Poller()
        poller.register(socket, green.POLLIN)
        for _, mask in poller.poll(100):
            assert_type(mask, int)
    patch_zmq()
    assert_type(is_patched("zmq.green"), bool)
