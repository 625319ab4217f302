"""Several contexts for one libzmq context: the original and its shadows live and end together."""

import copy
import gc
import os
import subprocess
import sys
import weakref
from typing import Any

import gevent
import pytest
import zmq
from helpers import unique_inproc
from zmq.sugar.context import Context as PlainContext

from gzmqsource import green
from gzmqsource.green._shadow import _originals, _plains
from gzmqsource.testing import all_blocked


def of_address(context):
    return green.Context.shadow(context.underlying)


SHADOWS = {
    "of the address": of_address,
    "of the object": lambda context: green.Context(context),
    "a copy": copy.copy,
    "of a shadow": lambda context: of_address(of_address(context)),
    "of a shadow's object": lambda context: green.Context(of_address(context)),
}

ENDS = {
    "term": lambda context: context.term(),
    "destroy": lambda context: context.destroy(0),
    "with": lambda context: context.__exit__(None, None, None),
}


@pytest.fixture(params=SHADOWS.values(), ids=list(SHADOWS))
def shadow_of(request):
    return request.param


def exchange(receiving, sending):
    """Pass a message between two contexts, which only works if libzmq has one."""
    with receiving.socket(zmq.PULL) as a, sending.socket(zmq.PUSH) as b:
        endpoint = unique_inproc()  # libzmq forgets one some time after it was closed
        a.rcvtimeo = 5000
        a.bind(endpoint)
        b.connect(endpoint)
        gevent.spawn(b.send, b"x").get(timeout=5)
        assert a.recv() == b"x"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_shadow_keeps_the_original_alive_and_neither_outlives_the_other(shadow_of):
    original: green.Context[Any] = green.Context()
    shadow = shadow_of(original)
    exchange(original, shadow)
    alive = weakref.ref(original)
    del original
    gc.collect()
    exchange(shadow, shadow)
    assert alive() is not None
    del shadow
    gc.collect()
    assert alive() is None


def test_a_socket_of_a_dropped_shadow_goes_on(shadow_of):
    original: green.Context[Any]
    sender: green.Socket[Any]
    with green.Context() as original:
        socket = shadow_of(original).socket(zmq.PULL)
        gc.collect()
        socket.bind("inproc://x")
        with original.socket(zmq.PUSH) as sender:
            sender.connect("inproc://x")
            sender.send(b"x")
            assert socket.recv() == b"x"
        socket.close()


@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
@pytest.mark.parametrize("first", ["original", "shadow"])
def test_the_end_of_one_is_the_end_of_all(shadow_of, end, first):
    original: green.Context[Any] = green.Context()
    contexts = {"original": original, "shadow": shadow_of(original), "other": of_address(original)}
    end(contexts[first])
    assert all(context.closed for context in contexts.values())
    for context in contexts.values():
        context.term()
        context.destroy()
        with pytest.raises(zmq.ZMQError):
            context.socket(zmq.PULL)


def test_a_shadow_of_an_address_keeps_a_plain_original_alive():
    plain = PlainContext()
    shadow = of_address(plain)
    socket = shadow.socket(zmq.PULL)
    del plain
    gc.collect()  # the end of the original would wait for the socket
    socket.close()
    shadow.term()


def test_a_plain_original_is_searched_for_once(monkeypatch):
    with PlainContext() as plain:
        of_address(plain)
        monkeypatch.setattr(gc, "get_objects", lambda: pytest.fail("searches"))
        assert of_address(plain)._shadow_obj is plain
        monkeypatch.undo()
        ended = PlainContext()
        ended.term()
        monkeypatch.setitem(_plains, plain.underlying, ended)  # as if its address was used again
        assert of_address(plain)._shadow_obj is plain


@pytest.mark.parametrize("end", ["term", "destroy"])
def test_an_instance_whose_plain_original_has_ended_is_replaced(monkeypatch, end):
    plain = PlainContext()
    shadow = of_address(plain)
    monkeypatch.setattr(green.Context, "_instance", shadow)
    monkeypatch.setattr(green.Context, "_instance_pid", os.getpid())
    assert green.Context.instance() is shadow
    getattr(plain, end)()
    successor: Any = green.Context.instance()
    assert successor is not shadow
    successor.term()


def test_a_shadow_of_what_has_ended_makes_no_socket(shadow_of):
    original = green.Context()
    shadow = shadow_of(original)
    original.term()
    with pytest.raises(zmq.ZMQError) as raised:
        shadow.socket(zmq.PUB)
    assert raised.value.errno == zmq.EFAULT


def test_several_may_be_terminated_at_once_and_all_wait_for_the_sockets():
    original: green.Context[Any] = green.Context()
    socket = original.socket(zmq.PULL)
    contexts = [original, of_address(original), of_address(original)]
    ending = [gevent.spawn(context.term) for context in contexts]
    all_blocked()
    assert not any(each.ready() for each in ending)
    socket.close()
    gevent.joinall(ending, timeout=10, raise_error=True)
    assert all(context.closed for context in contexts)


def test_a_plain_original_is_closed_by_the_end_of_its_green_shadow():
    plain: PlainContext[Any] = PlainContext()
    green.Context(plain).term()
    assert plain.closed


def test_the_address_of_a_closed_context_may_be_a_plain_ones_later():
    closed: green.Context[Any] = green.Context()
    closed.term()
    plain: PlainContext[Any] = PlainContext()
    _originals[plain.underlying] = closed  # as if libzmq had given its address again
    shadow = of_address(plain)
    exchange(shadow, shadow)
    shadow.term()
    assert shadow.closed
    plain.closed = True  # it is, and pyzmq does not know it


@pytest.mark.parametrize("make", [PlainContext, green.Context], ids=["plain", "green"])
def test_an_instance_that_is_a_shadow_serves_until_it_is_ended(monkeypatch, make):
    monkeypatch.setattr(green.Context, "_instance", None)
    original: PlainContext[Any] = make()
    shadow = of_address(original)
    monkeypatch.setattr(green.Context, "_instance", shadow)
    monkeypatch.setattr(green.Context, "_instance_pid", os.getpid())
    assert green.Context.instance() is shadow
    exchange(original, green.Context.instance())
    if make is PlainContext:
        original.term()
        return
    shadow.term()
    other: green.Context[Any] = green.Context.instance()
    assert other is not shadow
    exchange(other, other)
    other.term()


FORKED = """
import os
import gevent, gevent.os
from gzmqsource import green

green.Context._instance = green.Context.shadow(green.Context.instance().underlying)
child = gevent.os.fork()
if child:
    assert os.waitstatus_to_exitcode(gevent.os.waitpid(child, 0)[1]) == 0
context = green.Context.instance()
with context.socket(green.PULL) as a, context.socket(green.PUSH) as b:
    a.bind("inproc://x"); b.connect("inproc://x")
    b.send(b"x")
    assert a.recv() == b"x"
context.term()
print("parent" if child else "child", flush=True)
"""


@pytest.mark.processes
def test_a_forked_child_has_an_instance_of_its_own_and_the_parent_keeps_its():
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stderr, done.stdout.split()) == ("", ["child", "parent"])
