"""`zmq_poll` and `select` answer as pyzmq's do, whatever is in the entries, and however often."""

import copy
import gc
import socket as native
from typing import Any

import gevent
import pytest
import zmq
from helpers import unique_inproc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zmq.backend import zmq_poll as plain_poll
from zmq.sugar.poll import select as plain_select

from gzmqsource.testing import all_blocked

MASKS = st.integers(0, 7)


class Ends:
    """Sockets and descriptors, some of them ready, and several names for some of them."""

    def __init__(self, context):
        name = unique_inproc()
        self.pull, self.push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        self.pull.bind(name)
        self.push.connect(name)
        self.left, self.right = native.socketpair()
        self.all = [
            self.pull,
            zmq.Socket(shadow=self.pull.underlying),
            self.push,
            self.left,
            self.left.fileno(),
            self.right,
            Unhashable(self.right),
            -1,
        ]

    def send(self):
        self.push.send(b"x")
        self.right.send(b"x")

    def close(self):
        self.left.close()
        self.right.close()


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, end):
        self.fileno = end.fileno


@pytest.fixture
def ends(context):
    ends = Ends(context)
    yield ends
    ends.close()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(entries=st.lists(st.tuples(st.integers(0, 7), MASKS), max_size=8), sent=st.booleans())
def test_what_is_ready_at_once_is_what_pyzmq_answers(green, context, entries, sent):
    ends = Ends(context)
    if sent:
        ends.send()
    chosen = [(ends.all[index], mask) for index, mask in entries]
    assert green.zmq_poll(chosen, 0) == plain_poll(chosen, 0)
    assert green.zmq_poll(chosen, 1) == plain_poll(chosen, 1)
    ends.close()
    for socket in (ends.pull, ends.push):
        socket.close(0)


@pytest.mark.parametrize("timeout", [-0.001, -0.999])
def test_a_fraction_below_0_is_0_as_in_pyzmq(green, ends, timeout):
    assert plain_poll([(ends.pull, zmq.POLLIN)], timeout) == []
    with gevent.Timeout(5):
        assert green.zmq_poll([(ends.pull, zmq.POLLIN)], timeout) == []


@pytest.mark.parametrize("index", [0, 1, 3, 4, 5, 6])  # the other is never readable
@pytest.mark.parametrize("masks", [(zmq.POLLIN, zmq.POLLERR), (zmq.POLLERR, zmq.POLLIN)])
def test_one_socket_in_two_entries_is_waited_for_with_both_masks(green, ends, index, masks):
    entries = [(ends.all[index], mask) for mask in masks]
    polling = gevent.spawn(green.zmq_poll, entries, 5000)
    all_blocked()
    assert not polling.ready()
    ends.send()
    ends.left.send(b"x")
    answer = polling.get(timeout=5)
    assert answer == plain_poll(entries, 0)
    assert len(answer) == 1


def test_the_same_entry_twice_is_answered_twice(green, ends):
    for polled in (ends.pull, ends.left, ends.left.fileno()):
        entries = [(polled, zmq.POLLIN), (polled, zmq.POLLIN | zmq.POLLOUT)]
        polling = gevent.spawn(green.zmq_poll, [(polled, zmq.POLLIN)] * 2, 5000)
        all_blocked()
        ends.send()
        assert len(polling.get(timeout=5)) == 2
        assert green.zmq_poll(entries) == plain_poll(entries, 0)
        ends.left.recv(1)
        ends.pull.recv()


def test_select_waits_for_one_in_several_lists(green, ends):
    lists: Any = [ends.pull, ends.left, ends.left], [], [ends.pull, ends.left]
    selecting = gevent.spawn(green.select, *lists)
    all_blocked()
    ends.send()
    found = selecting.get(timeout=5)
    assert all(found[0])
    assert [set(each) for each in green.select(*lists)] == [
        set(each) for each in plain_select(*lists)
    ]


@pytest.mark.parametrize("timeout", [-1, -0.5, None])
def test_select_waits_as_long_as_pyzmqs_does(green, ends, timeout):
    selecting: gevent.Greenlet[..., Any] = gevent.spawn(green.select, [ends.left], [], [], timeout)
    all_blocked(20)
    assert not selecting.ready()
    ends.send()
    assert selecting.get(timeout=5) == ([ends.left.fileno()], [], [])
    ends.left.recv(1)
    assert green.select([ends.left], [], [], -0.0005) == plain_select([ends.left], [], [], -0.0005)


@pytest.mark.parametrize("bad", [None, "name", native.socket], ids=["None", "str", "type"])
@pytest.mark.parametrize("timeout", [0, 10])
def test_a_bad_entry_is_the_error_that_it_is_with_pyzmq(green, ends, bad, timeout):
    for entries in ([(bad, zmq.POLLIN)], [(ends.push, zmq.POLLOUT), (bad, zmq.POLLIN)]):
        with pytest.raises((TypeError, ValueError)) as plain:
            plain_poll(entries, timeout)
        with pytest.raises(plain.type) as raised:
            green.zmq_poll(entries, timeout)
        assert str(raised.value) == str(plain.value)


def test_a_reader_gets_the_message_whose_edge_zmq_poll_has_eaten(green, ends):
    reading = gevent.spawn(ends.pull.recv)
    all_blocked()
    ends.send()
    assert green.zmq_poll([(ends.pull, zmq.POLLIN)], 0)
    assert reading.get(timeout=5) == b"x"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_poller_polls_for_itself(green, ends, copied):
    poller = green.Poller()
    poller.register(ends.pull, zmq.POLLIN)
    assert poller.poll(0) == []
    other = copied(poller)
    assert other.poll(0) == []
    del other
    gc.collect()
    ends.send()
    assert poller.poll(5000) == [(ends.pull, zmq.POLLIN)]
