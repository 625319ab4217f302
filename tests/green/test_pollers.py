"""Pollers: the same answers as pyzmq's own, however many sockets, and whoever else uses them."""

import socket as native
from functools import partial
from typing import Any

import gevent
import pytest
import zmq
from helpers import is_readable, line_of, python_process, unique_inproc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zmq.backend import zmq_poll as plain_poll

from gzmqsource.testing import all_blocked, no_leaks, wait_until

FEW, MANY = 2, 12  # one set with a watcher for each socket, and one with an epoll set
counts = pytest.mark.parametrize("count", [FEW, MANY])


class Pairs:
    """PULL sockets that are polled, each with its PUSH."""

    def __init__(self, context, endpoint_for, count):
        self.pulls, self.pushes = [], []
        for index in range(count):
            pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
            pull.linger = push.linger = 0
            pull.bind(endpoint_for(index))
            push.connect(pull.LAST_ENDPOINT.decode())
            self.pulls.append(pull)
            self.pushes.append(push)

    def poller(self, green):
        poller = green.Poller()
        for pull in self.pulls:
            poller.register(pull, zmq.POLLIN)
        return poller


@pytest.fixture
def pairs(context, transport, tmp_path):
    def make(count, transport=transport):
        name = {
            "inproc": "inproc://{}",
            "ipc": f"ipc://{tmp_path}/{{}}",
            "tcp": "tcp://127.0.0.1:*",
        }
        return Pairs(context, name[transport].format, count)

    return make


@counts
def test_poll_gives_what_is_ready_in_the_order_of_registration(green, pairs, count):
    made = pairs(count)
    poller = made.poller(green)
    assert poller.poll(0) == []
    for index in (1, 0):
        made.pushes[index].send(b"x")
        wait_until(partial(is_readable, made.pulls[index]))
    assert poller.poll() == [(made.pulls[0], zmq.POLLIN), (made.pulls[1], zmq.POLLIN)]
    made.pulls[0].recv()
    assert poller.poll(0) == [(made.pulls[1], zmq.POLLIN)]
    made.pulls[1].recv()
    assert poller.poll(0) == []


@counts
def test_a_waiting_poll_is_woken_by_each_of_its_sockets(green, pairs, count):
    made = pairs(count)
    poller = made.poller(green)
    for pull, push in zip(made.pulls, made.pushes, strict=True):
        polling = gevent.spawn(poller.poll, 5000)
        all_blocked()
        push.send(b"x")
        assert polling.get(timeout=5) == [(pull, zmq.POLLIN)]
        assert pull.recv() == b"x"


@counts
@pytest.mark.parametrize("timeout", [20, 20.9])
def test_poll_ends_with_nothing_when_its_time_is_over(green, pairs, count, timeout):
    poller = pairs(count).poller(green)
    with gevent.Timeout(5):
        assert poller.poll(timeout) == []


def test_polling_nothing_ends_at_once(green):
    with gevent.Timeout(5):
        assert green.Poller().poll() == []
        assert green.zmq_poll([]) == []


@counts
def test_many_greenlets_poll_at_a_time(green, pairs, count):
    made = pairs(count)
    same, other = made.poller(green), made.poller(green)
    polling = [gevent.spawn(poller.poll, 5000) for poller in (same, same, other)]
    all_blocked()
    made.pushes[-1].send(b"x")
    wanted = [(made.pulls[-1], zmq.POLLIN)]
    assert [greenlet.get(timeout=5) for greenlet in polling] == [wanted] * 3


@counts
def test_a_killed_poll_leaves_the_others_alone(green, pairs, count):
    made = pairs(count)
    poller = made.poller(green)
    first, second = gevent.spawn(poller.poll, 5000), gevent.spawn(poller.poll, 5000)
    all_blocked()
    first.kill()
    made.pushes[0].send(b"x")
    assert second.get(timeout=5) == [(made.pulls[0], zmq.POLLIN)]


@counts
def test_two_idle_pollers_over_the_same_sockets_use_no_cpu(green, pairs, count):
    made = pairs(count)
    polling = [gevent.spawn(made.poller(green).poll, 5000) for _ in range(2)]
    all_blocked()
    made.pulls[0].get(zmq.EVENTS)
    all_blocked(20)  # it would not return if they went on waking each other
    gevent.killall(polling)


@counts
def test_sockets_come_and_go_and_change_while_others_poll(green, pairs, count):
    made = pairs(count)
    poller = made.poller(green)
    polling = gevent.spawn(poller.poll, 5000)
    all_blocked()
    poller.unregister(made.pulls[0])
    made.pushes[0].send(b"x")
    all_blocked()
    assert not polling.ready()
    assert made.pulls[0] not in poller
    poller.register(made.pulls[0], zmq.POLLIN)
    assert polling.get(timeout=5) == [(made.pulls[0], zmq.POLLIN)]
    poller.register(made.pulls[0], 0)  # as good as unregister
    poller.register(made.pushes[0], zmq.POLLIN)
    assert poller.poll(0) == []
    poller.modify(made.pushes[0], zmq.POLLOUT)
    assert poller.poll(5000) == [(made.pushes[0], zmq.POLLOUT)]


@counts
def test_a_closed_socket_is_an_error_until_it_is_unregistered(green, pairs, count):
    made = pairs(count, "inproc")
    poller = made.poller(green)
    assert poller.poll(0) == []
    made.pulls[0].close()
    with pytest.raises(zmq.ZMQError) as raised:
        poller.poll(1000)
    assert raised.value.errno == zmq.ENOTSOCK
    poller.unregister(made.pulls[0])
    made.pushes[1].send(b"x")
    assert poller.poll(1000) == [(made.pulls[1], zmq.POLLIN)]


@counts
def test_closing_a_polled_socket_tells_who_waits(green, pairs, count):
    made = pairs(count)
    polling = gevent.spawn(made.poller(green).poll)
    all_blocked()
    made.pulls[-1].close()
    with pytest.raises(zmq.ZMQError) as raised:
        polling.get(timeout=5)
    assert raised.value.errno == zmq.ENOTSOCK


@pytest.mark.parametrize("kind", ["green", "plain"])
@counts
def test_a_closed_socket_is_an_error_also_when_a_new_one_has_its_address(
    green, pairs, context, count, kind
):
    made = pairs(count, "inproc")
    if kind == "plain":
        made.pulls[0] = zmq.Socket(zmq.Context(shadow=context), zmq.PULL)
    closed = made.pulls[0]
    poller = made.poller(green)
    poller.poll(1)
    polling: gevent.Greenlet[..., Any] = gevent.spawn(poller.poll)
    all_blocked()
    address = closed.underlying
    closed.close()
    made.pushes[0].close()
    others: list[zmq.Socket[bytes]] = []
    while len(others) < 500 and (not others or others[-1].underlying != address):
        others.append(zmq.Socket(zmq.Context(shadow=context), zmq.PULL))
    made.pushes[1].send(b"x")
    with pytest.raises(zmq.ZMQError) as raised:
        polling.get(timeout=5)
    assert raised.value.errno == zmq.ENOTSOCK
    new = green.Poller()
    new.register(others[-1], zmq.POLLIN)
    polling = gevent.spawn(new.poll, 5000)
    all_blocked()
    others[-1].bind("inproc://new")
    push = context.socket(zmq.PUSH)
    push.connect("inproc://new")
    push.send(b"x")
    assert polling.get(timeout=10) == [(others[-1], zmq.POLLIN)]
    for other in others:
        other.close()


@counts
def test_a_descriptor_that_is_used_again_belongs_to_the_new_socket(green, pairs, context, count):
    made = pairs(count, "inproc")
    poller = made.poller(green)
    poller.poll(1)
    made.pulls[0].close()
    poller.register(context.socket(zmq.PULL), zmq.POLLIN)  # most likely on the same descriptor
    new = poller.sockets[-1][0]
    new.bind("inproc://new")
    push = context.socket(zmq.PUSH)
    push.connect("inproc://new")
    poller.unregister(made.pulls[0])
    polling = gevent.spawn(poller.poll, 5000)
    all_blocked()
    push.send(b"x")
    assert polling.get(timeout=5) == [(new, zmq.POLLIN)]


@counts
def test_a_reader_beside_a_poll_gets_its_message(green, pairs, count):
    """The poll's look eats the edge that the reader waits for, and the other way round."""
    made = pairs(count)
    poller = made.poller(green)
    for _ in range(20):
        reading = gevent.spawn(made.pulls[0].recv)
        polling = gevent.spawn(poller.poll, 5000)
        all_blocked()
        made.pushes[0].send(b"1")
        assert reading.get(timeout=5) == b"1"
        made.pushes[0].send(b"2")
        assert polling.get(timeout=5) == [(made.pulls[0], zmq.POLLIN)]
        assert made.pulls[0].recv() == b"2"


@counts
def test_descriptors_and_plain_sockets_are_polled_beside_green_ones(green, pairs, count):
    made = pairs(count)
    poller = made.poller(green)
    one, two = native.socketpair()
    with one, two, zmq.Context() as plain, plain.socket(zmq.PULL) as pull:
        pull.bind("inproc://plain")
        poller.register(one, zmq.POLLIN)
        poller.register(two.fileno(), zmq.POLLOUT)
        poller.register(pull, zmq.POLLIN)
        assert poller.poll(5000) == [(two.fileno(), zmq.POLLOUT)]
        poller.unregister(two.fileno())
        polling = gevent.spawn(poller.poll, 5000)
        all_blocked()
        two.send(b"x")
        assert polling.get(timeout=5) == [(one.fileno(), zmq.POLLIN)]
        one.recv(1)
        polling = gevent.spawn(poller.poll, 5000)
        all_blocked()
        with plain.socket(zmq.PUSH) as push:
            push.connect("inproc://plain")
            push.send(b"x")
            assert polling.get(timeout=5) == [(pull, zmq.POLLIN)]
            assert pull.recv() == b"x"
            assert poller.poll(0) == []
            push.send(b"y")  # nobody tells of a call on a plain socket
            assert poller.poll(0) == [(pull, zmq.POLLIN)]


@pytest.mark.parametrize("bad", [object(), "name"], ids=["object", "str"])
def test_what_cannot_be_polled_is_the_error_that_it_is_with_pyzmq(green, bad):
    with pytest.raises(TypeError) as plain:
        plain_poll([(bad, zmq.POLLIN)], 0)
    with pytest.raises(TypeError) as raised:
        green.zmq_poll([(bad, zmq.POLLIN)], 10)
    assert str(raised.value) == str(plain.value)
    poller = green.Poller()
    poller.register(bad, zmq.POLLIN)
    with pytest.raises(TypeError):
        poller.poll(10)


def test_select_sorts_the_sockets(green, pairs):
    made = pairs(2, "inproc")
    made.pushes[0].send(b"x")
    wait_until(lambda: made.pulls[0].get(zmq.EVENTS) & zmq.POLLIN)
    assert green.select(made.pulls, made.pushes, [], 5) == ([made.pulls[0]], made.pushes, [])
    made.pulls[0].recv()
    with gevent.Timeout(5):
        assert green.select(made.pulls, [], [], 0.01) == ([], [], [])


@counts
def test_a_poller_follows_its_sockets_into_the_hub_of_another_thread(green, pairs, count):
    made = pairs(count)
    poller = made.poller(green)
    assert poller.poll(10) == []
    results = []

    def use():
        results.append(poller.poll(5000))
        results.append(made.pulls[-1].recv())

    made.pushes[-1].send(b"there")
    gevent.get_hub().threadpool.apply(use)
    assert results == [[(made.pulls[-1], zmq.POLLIN)], b"there"]
    made.pushes[0].send(b"here")
    assert poller.poll(5000) == [(made.pulls[0], zmq.POLLIN)]
    made.pushes[-1].send(b"here")
    wait_until(lambda: len(poller.poll(5000)) == 2)


@pytest.mark.processes
def test_a_child_leaves_the_epoll_set_of_its_parent_alone(green):
    program = f"""
import gevent, {green.__name__} as zmq
from gzmqsource.testing import all_blocked
context = zmq.Context()
pulls, poller = [context.socket(zmq.PULL) for _ in range({MANY})], zmq.Poller()
for number, pull in enumerate(pulls):
    pull.bind(f"inproc://{{number}}")
    poller.register(pull, zmq.POLLIN)
poller.poll(1)
child = gevent.fork()
if not child:
    poller.unregister(pulls[0])
    del poller
    raise SystemExit
gevent.os.waitpid(child, 0)
polling = gevent.spawn(poller.poll, 5000)
all_blocked()
push = context.socket(zmq.PUSH)
push.connect("inproc://0")
push.send(b"x")
print(polling.get(timeout=5) == [(pulls[0], zmq.POLLIN)], flush=True)
"""
    with python_process(program) as process:
        assert line_of(process) == "True"


@pytest.mark.processes
def test_a_child_does_not_go_on_polling(green):
    program = f"""
import os, gevent, {green.__name__} as zmq
from gzmqsource.testing import all_blocked
context = zmq.Context()
pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
pull.bind("inproc://polled")
push.connect("inproc://polled")
polling = gevent.spawn(pull.poll)
all_blocked()
child = gevent.fork()
if not child:
    all_blocked(20)  # a call on the socket would never be answered
    os._exit(0)
push.send(b"x")  # the child has the same descriptor, which stays readable until the hub runs
print(os.waitpid(child, 0)[1] == 0, polling.get(timeout=5) == zmq.POLLIN, flush=True)
"""
    with python_process(program) as process:
        assert line_of(process) == "True True"


def test_a_dropped_poller_leaves_no_descriptor(green, pairs):
    made = pairs(MANY, "inproc")
    made.poller(green).poll(1)
    with no_leaks():
        for _ in range(10):
            made.poller(green).poll(1)


def test_sockets_poll_for_themselves(pairs):
    made = pairs(1)
    pull, push = made.pulls[0], made.pushes[0]
    assert pull.poll(0) == pull.poll(1) == 0
    assert push.poll(5000, zmq.POLLOUT) == zmq.POLLOUT
    polling = gevent.spawn(pull.poll, 5000)
    all_blocked()
    push.send(b"x")
    assert polling.get(timeout=5) == zmq.POLLIN


OPERATIONS = ("send", "recv", "events", "poll", "close", "unregister", "register", "elsewhere")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 6)), max_size=40))
def test_poll_never_differs_from_pyzmqs(green, context, operations):
    """After any calls, also such that eat the edges, it answers what a look at all would."""
    sockets = []
    poller, other = green.Poller(), green.Poller()

    def make():
        name = unique_inproc()
        pair = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
        pair[0].bind(name)
        pair[1].connect(name)
        poller.register(pair[0], zmq.POLLIN)
        other.register(pair[0], zmq.POLLIN)
        return pair

    sockets += [make() for _ in range(7)]
    for operation, index in operations:
        polled, peer = sockets[index]
        if operation == "send":
            peer.send(b"x")
        elif operation == "recv" and polled.get(zmq.EVENTS) & zmq.POLLIN:
            polled.recv()
        elif operation == "events":
            polled.get(zmq.EVENTS)
        elif operation == "poll":
            other.poll(0)
        elif operation == "elsewhere":
            polled.send(b"out")
        elif operation == "close":
            for each in (poller, other):
                if polled in each:
                    each.unregister(polled)
            polled.close(0)
            peer.close(0)
            sockets[index] = make()
        elif operation == "unregister" and polled in poller:
            poller.unregister(polled)
        elif operation == "register":
            poller.register(polled, zmq.POLLIN)
        found = dict(poller.poll(0))
        assert found == dict(plain_poll(poller.sockets, 0))
    for pair in sockets:
        for socket in pair:
            socket.close(0)


def test_threads_may_poll_their_own_sockets(green):
    """Each in a hub of its own, at the same time."""

    def use(number):
        answers = []
        with green.Context() as context:
            made = Pairs(context, f"inproc://{number}-{{}}".format, MANY)
            poller = made.poller(green)
            for index in range(100):
                made.pushes[index % MANY].send(b"x")
                ((pull, _),) = poller.poll(5000)
                answers.append(pull.recv())
            for socket in made.pulls + made.pushes:
                socket.close()
        return answers

    running = [gevent.get_hub().threadpool.spawn(use, number) for number in range(3)]
    assert [thread.get(timeout=20) for thread in running] == [[b"x"] * 100] * 3
