"""Handlers that would be called in vain, and sources that never call theirs."""

import functools
import logging

import gevent
import pytest
import zmq
from helpers import closing

from gzmqsource import Source
from gzmqsource.testing import wait_until
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
    with pytest.raises(TypeError, match="handle=5"):
        Source.open(zmq.PULL, 5, context=context)  # type: ignore[arg-type]


@pytest.mark.parametrize("handle", [print, len, list, [].append, functools.partial(print, 1)])
def test_a_function_that_has_no_code_to_look_at_is_a_handler(context, handle):
    Source.open(zmq.PULL, handle, context=context).close()


def test_a_responder_takes_a_generator(context):
    with Responder.open(generator, bind="inproc://a", context=context):
        pass


@pytest.mark.parametrize("spawn", [None, 2, gevent.spawn], ids=["None", "2", "gevent.spawn"])
def test_what_a_handler_returns_is_reported_once(context, spawn, caplog):
    source = Source.open(
        zmq.PULL, lambda message: message, bind="inproc://a", context=context, spawn=spawn
    )
    with closing(source, Source.open(zmq.PUSH, connect="inproc://a", context=context)) as (_, push):
        source.start()
        for _ in range(20):
            push.send(b"x")
        wait_until(lambda: source.stats().received == 20)
        source.stop(5)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("gzmqsource.source", logging.WARNING)
    assert "its handler has returned something, which is dropped" in record.message
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
