"""A poll takes turns with other greenlets, and looks once more when its time is over."""

import os
import time

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from helpers import unique_inproc
from zmq.sugar.poll import Poller as PlainPoller

_select = get_original("select", "select")


@pytest.fixture
def pipe():
    """A pipe that is readable."""
    reading, writing = os.pipe()
    os.write(writing, b"x")
    yield reading
    os.close(reading)
    os.close(writing)


@pytest.fixture(params=["descriptor", "green socket", "plain socket", "nothing"])
def ready(request, context, pipe):
    """What is always ready, or an idle socket that is polled without waiting."""
    if request.param == "descriptor":
        yield pipe, -1
    elif request.param == "nothing":
        yield context.socket(zmq.PULL), 0
    else:
        plain = zmq.Context()
        source = context if request.param == "green socket" else plain
        name = unique_inproc()
        pull, push = source.socket(zmq.PULL), source.socket(zmq.PUSH)
        pull.bind(name)
        push.connect(name)
        push.send(b"x")
        yield pull, -1
        push.close(0)
        pull.close(0)
        plain.term()


def poll_of(green, form, socket, timeout):
    poller = green.Poller()
    poller.register(socket, zmq.POLLIN)
    return {
        "Poller": lambda: poller.poll(timeout),
        "zmq_poll": lambda: green.zmq_poll([(socket, zmq.POLLIN)], timeout),
        "select": lambda: green.select([socket], [], [], None if timeout else 0),
    }[form]


@pytest.mark.parametrize("form", ["Poller", "zmq_poll", "select"])
def test_a_loop_of_polls_lets_others_run(green, ready, form):
    poll = poll_of(green, form, *ready)
    ticks = []

    def tick():
        for _ in range(10):
            gevent.sleep(0.001)
            ticks.append(1)

    ticking = gevent.spawn(tick)
    gevent.sleep(0)
    ends = time.monotonic() + 10
    while len(ticks) < 10 and time.monotonic() < ends:
        poll()
    assert ticking.ready()


def test_a_loop_of_polls_of_nothing_lets_others_run(green):
    poller = green.Poller()
    ticking = gevent.spawn_later(0.001, int)
    ends = time.monotonic() + 10
    while not ticking.ready() and time.monotonic() < ends:
        assert poller.poll() == green.zmq_poll([]) == []
    assert ticking.ready()


def test_what_is_polled_is_looked_at_again_after_others_ran(green, pipe):
    """A poll that had to yield must not answer what was true before."""
    poller = green.Poller()
    poller.register(pipe, zmq.POLLIN)
    taken = gevent.spawn_later(0.001, os.read, pipe, 1)
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        found = poller.poll(0)
        assert bool(found) == bool(_select([pipe], [], [], 0)[0])
        if not found:
            break
    assert taken.ready()


def test_a_poll_that_has_yielded_waits_if_all_was_removed_meanwhile(green, pipe):
    poller = green.Poller()
    poller.register(pipe, zmq.POLLIN)

    def move():
        poller.unregister(pipe)
        gevent.sleep(0.01)
        poller.register(pipe, zmq.POLLIN)

    moving = gevent.spawn_later(0.001, move)
    ends = time.monotonic() + 10
    while not moving.ready() and time.monotonic() < ends:
        assert poller.poll() == [(pipe, zmq.POLLIN)]
    assert moving.ready()


def test_a_poll_that_has_yielded_raises_if_its_socket_was_closed_meanwhile(green, context):
    """Another poll saw that first, and the one without a timeout returned an empty list."""
    name = unique_inproc()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    pull.bind(name)
    push.connect(name)
    push.send(b"x")
    poller = green.Poller()
    poller.register(pull, zmq.POLLIN)

    def end():
        pull.close()
        with pytest.raises(zmq.ZMQError):
            poller.poll(0)

    ending = gevent.spawn_later(0.001, end)

    def poll():
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            assert poller.poll() == [(pull, zmq.POLLIN)]

    with pytest.raises(zmq.ZMQError) as raised:
        poll()
    assert raised.value.errno == zmq.ENOTSOCK
    assert ending.ready()


@pytest.mark.parametrize("form", ["Poller", "zmq_poll"])
def test_a_poll_within_a_message_lets_nobody_take_the_rest(green, context, form):
    name = unique_inproc()
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    pull.bind(name)
    push.connect(name)
    push.send_multipart([b"1", b"2"])
    poll = poll_of(green, form, pull, -1)
    poll()
    assert pull.recv() == b"1"
    other = gevent.spawn_later(0.001, pull.recv)
    ends = time.monotonic() + 0.01
    while time.monotonic() < ends:  # ten slices of a budget
        assert poll()
    assert pull.recv() == b"2"
    push.send(b"3")
    assert other.get(timeout=5) == b"3"


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("form", ["Poller", "zmq_poll", "Socket.poll"])
def test_a_message_that_is_there_beats_the_clock(green, context, form, count, original_sleep):
    name = unique_inproc()
    pulls = [context.socket(zmq.PULL) for _ in range(count)]
    push = context.socket(zmq.PUSH)
    pulls[-1].bind(name)
    push.connect(name)
    poller = green.Poller()
    for pull in pulls:
        poller.register(pull, zmq.POLLIN)
    polling = {
        "Poller": lambda: poller.poll(5),
        "zmq_poll": lambda: green.zmq_poll([(pull, zmq.POLLIN) for pull in pulls], 5),
        "Socket.poll": lambda: [(pulls[-1], pulls[-1].poll(5))],
    }[form]
    waiting = gevent.spawn(polling)
    gevent.sleep(0)  # it waits, and the hub has not polled
    push.send(b"x")
    original_sleep(0.02)  # the hub is held up until the time is over
    assert waiting.get(timeout=5) == [(pulls[-1], zmq.POLLIN)]


@pytest.mark.parametrize("form", ["Poller", "zmq_poll", "select"])
def test_input_that_is_there_beats_the_clock(green, form, original_sleep):
    reading, writing = os.pipe()
    waiting = gevent.spawn(
        {
            "Poller": lambda: poll_of(green, "Poller", reading, 5)(),
            "zmq_poll": lambda: poll_of(green, "zmq_poll", reading, 5)(),
            "select": lambda: green.select([reading], [], [], 0.005),
        }[form]
    )
    gevent.sleep(0)
    os.write(writing, b"x")
    original_sleep(0.02)
    assert waiting.get(timeout=5) in ([(reading, zmq.POLLIN)], ([reading], [], []))
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("timeout", ["x", float("nan")], ids=str)
def test_a_bad_timeout_is_an_error_also_if_something_is_ready(green, pipe, timeout):
    plain = PlainPoller()
    plain.register(pipe, zmq.POLLIN)
    with pytest.raises((TypeError, ValueError, OverflowError)) as expected:
        plain.poll(timeout)
    with pytest.raises(expected.type):
        poll_of(green, "Poller", pipe, timeout)()
