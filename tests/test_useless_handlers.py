"""Handlers that would be called in vain, and sources that never call theirs."""

import functools
import logging
import xmlrpc.client
from unittest import mock

import gevent
import pytest
import zmq
from helpers import closing

from gzmqsource import Source
from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers import Responder


def generator(_message):
    yield


async def coroutine(_message):
    pass


async def asynchronous_generator(_message):
    yield


class Owner:
    def __call__(self, _message):
        yield

    def method(self, _message):
        yield

    @classmethod
    def of_the_class(cls, _message):
        yield

    @staticmethod
    async def static(_message):
        pass


class Applied:
    """Is called through what has a call of its own."""

    async def method(self, _greeting, _message):
        pass

    __call__ = functools.partialmethod(method, b"hello")


class Delegating:
    __call__ = Owner()


class MadeLater(type):
    async def __call__(cls, _message):
        pass


class Made(metaclass=MadeLater):
    pass


class Answering:
    """Has whatever attribute it is asked for, and each may be called."""

    __slots__ = ()

    def __getattr__(self, _name):
        return self

    def __call__(self, _message):
        pass


class Silent(Answering):
    def __getattr__(self, name):
        raise RuntimeError(f"there is no {name} yet")


class Subclass(Source):
    def handle(self, _message):
        yield


USELESS = {
    "generator": generator,
    "coroutine": coroutine,
    "asynchronous generator": asynchronous_generator,
    "partial": functools.partial(generator),
    "method": Owner().method,
    "class method": Owner.of_the_class,
    "static method": Owner.static,
    "callable object": Owner(),
    "partial of a method": functools.partial(Owner().method),
    "partial of an object": functools.partial(Owner()),
    "partial method of a class": Applied(),
    "object of a class": Delegating(),
    "class whose class has a call": Made,
    "asynchronous mock": mock.AsyncMock(),
    "mock of a coroutine function": mock.Mock(spec=coroutine),
}


@pytest.mark.parametrize("handle", USELESS.values(), ids=USELESS)
def test_a_handler_that_a_call_does_not_run_is_refused(context, handle):
    with pytest.raises(TypeError, match="function, which does nothing when it is called"):
        Source.open(zmq.PULL, handle, context=context)
    with closing(Source.open(zmq.PULL, context=context)) as (source,):
        with pytest.raises(TypeError, match="does nothing"):
            source.set_handle(handle)
        assert source.started


def test_such_a_method_of_a_subclass_is_refused(context):
    with pytest.raises(TypeError, match=r"Subclass\.handle is a generator function"):
        Subclass.open(zmq.PULL, context=context)


def test_what_cannot_be_called_is_refused(context):
    with pytest.raises(TypeError, match="the handler 5 cannot be called"):
        Source.open(zmq.PULL, 5, context=context)  # type: ignore[call-overload]


USEFUL = {
    "built-in function": print,
    "class": list,
    "bound method of a built-in": [].append,
    "partial": functools.partial(print, 1),
    "single dispatch": functools.singledispatch(print),
    "mock": mock.Mock(),
    "mock of a function": mock.Mock(spec=all_blocked),
    "method of a remote server": xmlrpc.client.ServerProxy("http://127.0.0.1:1").log,
    "object with every attribute": Answering(),
    "object whose attributes raise": Silent(),
    "class whose objects make coroutines": Applied,
}


@pytest.mark.parametrize("handle", USEFUL.values(), ids=USEFUL)
def test_what_a_call_runs_is_a_handler(context, handle):
    Source.open(zmq.PULL, handle, context=context).close()


def test_a_responder_takes_a_generator(context):
    with Responder.open(generator, bind="inproc://a", context=context):
        pass


@pytest.mark.parametrize("spawn", [None, 2, gevent.spawn], ids=["None", "2", "gevent.spawn"])
def test_what_a_handler_returns_is_reported_once(context, spawn, caplog):
    source = Source.open(
        zmq.PULL,
        lambda message: message,  # type: ignore[arg-type]
        bind="inproc://a",
        context=context,
        spawn=spawn,
    )
    with closing(source, Source.open(zmq.PUSH, connect="inproc://a", context=context)) as (_, push):
        source.start()
        for _ in range(20):
            push.send(b"x")
        wait_until(lambda: source.stats().received == 20)
        source.stop(5)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("gzmqsource.source", logging.WARNING)
    assert "<lambda> has returned a list, which is dropped: a handler sends" in record.message
    assert source.stats().errors == 0


def test_a_handler_that_returns_nothing_is_not_reported(context, caplog):
    with (
        Source.open(zmq.PULL, lambda _: None, bind="inproc://a", context=context) as source,
        Source.open(zmq.PUSH, connect="inproc://a", context=context) as push,
    ):
        source.start()
        push.send(b"x")
        wait_until(lambda: source.stats().received)
    assert not caplog.records


def test_a_source_that_was_never_started_says_so(context):
    source = Source.open(zmq.PULL, print, bind="inproc://a", context=context)
    assert repr(source) == "<Source PULL inproc://a not started>"
    with pytest.warns(ResourceWarning, match=r"not started>, whose handler was never called"):
        del source


def test_a_pulled_source_that_is_dropped_says_nothing_of_a_start(context):
    source = Source.open(zmq.PULL, bind="inproc://a", context=context)
    with pytest.warns(ResourceWarning, match=r"started>$"):
        del source
