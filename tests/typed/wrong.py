"""What a type checker has to refuse: each line that is wrong says what is wrong with it.

A kind of mistake is a word of `test_typed`.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import zmq
from gevent.pool import Pool
from gevent.threadpool import ThreadPool

from gzmqsource import Source, green, proxy, testing
from gzmqsource.auth import Authenticator
from gzmqsource.broker import Broker
from gzmqsource.monitor import Monitor
from gzmqsource.monkey import is_patched
from gzmqsource.workers import Hook, Request, Requester, Responder


def copied(message: list[bytes]) -> None: ...


def uncopied(message: list[zmq.Frame]) -> None: ...


async def coroutine(message: list[bytes]) -> None: ...


def generator(message: list[bytes]) -> Iterator[bytes]:
    yield from message


async def asynchronous(message: list[bytes]) -> AsyncIterator[bytes]:
    yield message[0]


def answering(message: list[bytes]) -> bytes:
    return message[0]


def of_text(message: str) -> None: ...


def of_nothing() -> None: ...


# What is received.


def received(source: Source, frames: Source[zmq.Frame]) -> None:
    print(source.recv()[0].buffer)  # error: attribute
    print(source.recv().upper())  # error: attribute
    uncopied(source.recv())  # error: argument
    copied(frames.recv())  # error: argument
    for message in source:
        print(message.upper())  # error: attribute
    for messages in frames.recv_many(10):
        copied(messages)  # error: argument
    takes_bytes(frames)  # error: argument
    if source.handle is not None:
        return
    takes_bytes(Source.open(zmq.PULL, copy=False))  # error: argument
    print(source.flush().upper())  # error: attribute


def takes_bytes(source: Source) -> None: ...


def takes_numbers(source: Source[int]) -> None: ...  # error: parameter


# Handlers.


def handlers(source: Source, socket: zmq.Socket[bytes]) -> None:
    Source.open(zmq.PULL, coroutine)  # error: argument
    Source.open(zmq.PULL, generator)  # error: argument
    Source.open(zmq.PULL, asynchronous)  # error: argument
    Source.open(zmq.PULL, answering)  # error: argument
    Source.open(zmq.PULL, of_text)  # error: argument
    Source.open(zmq.PULL, of_nothing)  # error: argument
    Source.open(zmq.PULL, uncopied)  # error: argument
    Source.open(zmq.PULL, copied, copy=False)  # error: argument
    Source.open(zmq.PULL, "handler")  # error: argument
    Source.open(zmq.PULL, lambda message: message.upper())  # error: attribute
    Source.open(zmq.PULL, handler=copied)  # error: argument
    Source(socket, coroutine)  # error: argument
    Source(socket, generator)  # error: argument
    Source(socket, uncopied)  # error: argument
    Source(socket, copied, copy=False)  # error: argument
    source.set_handle(coroutine)  # error: argument
    source.set_handle(uncopied)  # error: argument
    source.set_handle(None)  # error: argument


class Awaiting(Source):
    async def handle(self, message: list[bytes]) -> None: ...  # error: override


class Yielding(Source):
    def handle(self, message: list[bytes]) -> Iterator[bytes]:  # error: override
        yield b""


class Framed(Source):
    def handle(self, message: list[zmq.Frame]) -> None: ...  # error: override


class Copied(Source[zmq.Frame]):
    def handle(self, message: list[bytes]) -> None: ...  # error: override


# Where they run.


def spawned(source: Source, socket: zmq.Socket[bytes]) -> None:
    Source.open(zmq.PULL, copied, spawn="default")  # error: argument
    Source.open(zmq.PULL, copied, spawn=1.5)  # error: argument
    Source.open(zmq.PULL, copied, spawn=ThreadPool(1))  # error: argument
    Source.open(zmq.PULL, copied, spawn=[Pool(1)])  # error: argument
    Source.open(zmq.PULL, copied, spawn=copied)  # error: argument
    Source.open(zmq.PULL, copied, spawn=of_nothing)  # error: argument
    Source(socket, copied, spawn="default")  # error: argument
    source.set_handle(copied, spawn="default")  # error: argument


# The other parameters of a source.


def parameters(source: Source, context: zmq.Context[Any], socket: zmq.Socket[bytes]) -> None:
    Source("tcp://127.0.0.1:5555")  # error: argument
    Source(zmq.PULL)  # error: argument
    Source.open("PULL")  # error: argument
    Source.open(socket)  # error: argument
    Source.open(zmq.PULL, overflow="wait")  # error: argument
    Source(socket, overflow="drop")  # error: argument
    Source.open(zmq.PULL, outbox="many")  # error: argument
    Source.open(zmq.PULL, outbox=None)  # error: argument
    Source.open(zmq.PULL, bind=b"tcp://127.0.0.1:*")  # error: argument
    Source.open(zmq.PULL, connect=5555)  # error: argument
    Source.open(zmq.SUB, subscribe=1)  # error: argument
    Source.open(zmq.PULL, context=socket)  # error: argument
    Source.open(zmq.PULL, on_error=coroutine)  # error: argument
    Source.open(zmq.PULL, on_error=of_nothing)  # error: argument
    Source.open(zmq.PULL, linger=0.5)  # error: argument
    Source.open(zmq.PULL, copy="no")  # error: argument
    source.recv(timeout="1")  # error: argument
    source.recv_many()  # error: argument
    source.recv_many("10")  # error: argument
    source.send("text")  # error: argument
    source.send(["text"])  # error: argument
    source.send(1)  # error: argument
    source.send(None)  # error: argument
    source.send(b"a", wait=False)  # error: argument
    source.stop(timeout="1")  # error: argument
    source.sender().send("text")  # error: argument
    source.sender().recv()  # error: attribute


# Workers.


class Waiting(Hook):
    async def before(self, request: Request) -> None: ...  # error: override

    def after(self, request: Request) -> None: ...  # error: override


def responders(source: Source, frames: Source[zmq.Frame]) -> None:
    Responder(source, coroutine)  # error: argument
    Responder(source, asynchronous)  # error: argument
    Responder(source, copied)  # error: argument
    Responder(source, answering, spawn="default")  # error: argument
    Responder(source, answering, hooks=Hook())  # error: argument
    Responder(source, answering, hooks=[answering])  # error: argument
    Responder(source, answering, dead_after="1")  # error: argument
    Responder(frames, answering)  # error: argument
    Responder.open(coroutine, bind="ipc://a")  # error: argument
    Responder.open(asynchronous, bind="ipc://a")  # error: argument
    Responder.open(copied, bind="ipc://a")  # error: argument
    Responder.open(lambda payload: "text", bind="ipc://a")  # error: argument
    Responder.open(answering, bind="ipc://a", copy=False)  # error: argument
    Responder.open(answering, bind="ipc://a", spawn="default")  # error: argument
    Responder.open(answering, bind="ipc://a", hook=[Hook()])  # error: argument
    Responder.join("ipc://a", coroutine)  # error: argument
    Responder.join("ipc://a", asynchronous)  # error: argument
    Responder.join("ipc://a", answering, "default")  # error: argument
    Responder.join("ipc://a", answering, copy=False)  # error: argument
    Responder.join(b"ipc://a", answering)  # error: argument


def requesters(requester: Requester) -> None:
    Requester(5555)  # error: argument
    Requester("ipc://a", dead_after="1")  # error: argument
    Requester("ipc://a", hooks=[answering])  # error: argument
    Requester("ipc://a", hooks=[Hook])  # error: argument
    Requester("ipc://a", resolve=coroutine)  # error: argument
    Requester.open("ipc://a", max_outstanding=None)  # error: argument
    Requester.open("ipc://a", spawn=Pool(1))  # error: argument
    requester.request("text")  # error: argument
    requester.request(b"a", timeout="1")  # error: argument
    requester.request(b"a", retries=0.5)  # error: argument
    print(requester.request(b"a")[0].buffer)  # error: attribute
    print(requester.submit(b"a").outcome)  # error: attribute
    print(requester.stats().lost_ones)  # error: attribute


def brokers(source: Source, requester: Requester) -> None:
    Broker(source, "ipc://b")  # error: argument
    Broker(source, requester)  # error: argument
    Broker.open("ipc://a")  # error: argument
    Broker.open("ipc://a", "ipc://b", max_waiting="1")  # error: argument
    Broker.open("ipc://a", "ipc://b", spawn=[1])  # error: argument


# Beside sources.


async def rule(domain: str, username: str, password: str) -> bool:
    return True


def key_rule(domain: str, key: bytes) -> bool:
    return True


def beside(source: Source, socket: zmq.Socket[bytes], authenticator: Authenticator) -> None:
    Monitor("tcp://127.0.0.1:5555")  # error: argument
    Monitor(source).wait_for(zmq.EVENT_CONNECTED)  # error: argument
    print(Monitor(source).recv().text)  # error: attribute
    proxy.Proxy(source, source)  # error: argument
    proxy.Proxy(socket)  # error: argument
    Authenticator(on_error=coroutine)  # error: argument
    authenticator.allow(1)  # error: argument
    authenticator.configure_plain(passwords=rule)  # error: argument
    authenticator.configure_plain(passwords=key_rule)  # error: argument
    authenticator.configure_plain(passwords={"name": b"password"})  # error: argument
    authenticator.configure_curve(location=rule)  # error: argument
    testing.fill(socket)  # error: argument
    testing.steal_edge(socket)  # error: argument
    testing.all_blocked("3")  # error: argument


def drop_in(context: green.Context[green.Socket[bytes]]) -> None:
    green.Socket(context)  # error: argument
    green.Socket("PULL", green.PULL)  # error: argument
    print(context.socket(green.PULL).recv().buffer)  # error: attribute
    copied([context.socket(green.PULL).recv(copy=False)])  # error: argument
    context.socket(green.PULL).send("text")  # error: argument
    green.proxy(context, context)  # error: argument
    print(green.no_such_name)  # error: attribute
    is_patched("zmq.gren")  # error: argument


# What is elsewhere.


def looked_for() -> None:
    from gzmqsource import Requester as misplaced  # error: attribute

    print(misplaced)
