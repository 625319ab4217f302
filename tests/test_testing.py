"""The kit for the tests of others."""

import os
import subprocess
import sys
from typing import Any

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from helpers import closing, endpoint_of, pair_of

from gzmqsource import Source, SourceForked
from gzmqsource.testing import (
    all_blocked,
    fill,
    in_forked_child,
    no_leaks,
    steal_edge,
    wait_until,
)


def test_a_stolen_edge_leaves_a_greenlet_waiting_until_the_source_looks(context):
    receiver, sender = pair_of(context, "inproc://pair")
    with closing(receiver, sender):
        waiting = gevent.spawn(receiver.recv)
        all_blocked()
        sender.send(b"x")
        assert steal_edge(receiver) & zmq.POLLIN
        all_blocked()
        assert not waiting.ready()
        assert receiver.socket.get(zmq.EVENTS) & zmq.POLLIN
        assert waiting.get(timeout=10) == [b"x"]


@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.DEALER, zmq.PAIR], ids=lambda kind: kind.name)
def test_fill_tells_how_many_messages_libzmq_takes(context, kind):
    source = Source.open(kind, bind="inproc://full", context=context, sndhwm=3)
    peer_kind = {zmq.PUSH: zmq.PULL}.get(kind, kind)
    peer = Source.open(peer_kind, connect="inproc://full", context=context, rcvhwm=4)
    with closing(source, peer):
        assert fill(source, [b"a", b"b"]) == 7
        assert source.stats().outbox_depth == 0
        for _ in range(7):
            assert peer.recv(timeout=10) == [b"a", b"b"]


def test_fill_refuses_what_never_fills_or_is_full(context):
    publisher = Source.open(zmq.PUB, bind="inproc://drops", context=context)
    lonely = Source.open(zmq.PUSH, bind="inproc://lonely", context=context)
    with closing(publisher, lonely):
        with pytest.raises(AssertionError, match="took 100 messages"):
            fill(publisher, most=100)
        lonely.send(b"queued")
        with pytest.raises(ValueError, match="flush it first"):
            fill(lonely)


def test_a_child_says_what_went_wrong(context):
    source = Source.open(zmq.PULL, bind="inproc://parent", context=context)

    def use():
        with pytest.raises(SourceForked):
            source.recv()

    def fail():
        raise ZeroDivisionError("in the child only")

    sleep, waitpid = get_original("time", "sleep"), get_original("os", "waitpid")
    with closing(source):
        in_forked_child(use)
        with pytest.raises(AssertionError, match="in the child only"):
            in_forked_child(fail)
        with pytest.raises(AssertionError, match="no word within"):
            in_forked_child(lambda: sleep(60), timeout=0.2)
        with pytest.raises(ChildProcessError):
            waitpid(-1, os.WNOHANG)


@pytest.mark.limit(90)
def test_what_is_left_behind_is_told(context):
    receiver = Source.open(zmq.PULL, bind="tcp://127.0.0.1:*", context=context)
    with closing(receiver):
        with (
            no_leaks(),
            Source.open(zmq.PUSH, connect=endpoint_of(receiver), context=context) as push,
        ):
            push.send(b"x")
            receiver.recv(timeout=10)
        kept: list[Any] = []
        # Before anything is closed, for libzmq closes descriptors after a while.
        with pytest.raises(AssertionError, match="/dev/null"), no_leaks(timeout=0.1):
            kept.append(os.open(os.devnull, os.O_RDONLY))
        os.close(kept.pop())
        with pytest.raises(AssertionError, match="Source PAIR"), no_leaks(timeout=0.1):
            kept.append(Source.open(zmq.PAIR, context=context))
        kept.pop().close()
        with pytest.raises(AssertionError, match="Greenlet"), no_leaks(timeout=0.1):
            kept.append(gevent.spawn(gevent.sleep, 60))
        kept.pop().kill()


def test_wait_until_gives_what_came_or_says_what_did_not():
    assert wait_until(iter([0, 0, 7]).__next__) == 7
    with pytest.raises(AssertionError, match=r"not within 0.01 s"):
        wait_until(lambda: False, timeout=0.01)


UNDER_OPTIMISATION = """
from gzmqsource import Source
from gzmqsource.testing import in_forked_child, no_leaks, wait_until
import zmq

assert False, "this runs with -O"
context = zmq.Context()


def fail():
    raise ZeroDivisionError


def leave_a_source():
    with no_leaks(timeout=0.1):
        kept.append(Source.open(zmq.PULL, context=context))


kept = [Source.open(zmq.PULL, context=context)]
for check in (
    lambda: wait_until(lambda: False, timeout=0.01),
    lambda: in_forked_child(fail),
    leave_a_source,
):
    try:
        check()
    except AssertionError as error:
        print(str(error).split()[0])
for source in kept:
    source.close()
"""


def test_what_is_wrong_is_raised_where_assert_statements_are_left_out():
    command = [sys.executable, "-O", "-c", UNDER_OPTIMISATION]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.stdout.split() == ["not", "in", "left"], finished.stderr
