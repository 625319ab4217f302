"""A Poller that is used in another thread or hub than before."""

import os
import subprocess

import gevent
import pytest
import zmq
from helpers import in_thread, line_of, python_process

from gzmqsource.errors import InvalidThreadUseError
from gzmqsource.testing import all_blocked, wait_until

FEW, MANY = 1, 12
counts = pytest.mark.parametrize("count", [0, FEW, MANY])


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def poller(green, context, count, pipe):
    """A Poller of idle sockets and a pipe."""
    poller = green.Poller()
    for _ in range(count):
        poller.register(context.socket(zmq.PULL), zmq.POLLIN)
    poller.register(pipe[0], zmq.POLLIN)
    return poller


@counts
def test_another_thread_may_not_use_a_poller_on_which_greenlets_wait(poller, pipe):
    polling = gevent.spawn(poller.poll)
    all_blocked()
    registered = list(poller.sockets)
    for call, arguments in (
        (poller.poll, (0,)),
        (poller.register, (pipe[1], zmq.POLLOUT)),
        (poller.modify, (pipe[0], zmq.POLLOUT)),
        (poller.unregister, (pipe[0],)),
    ):
        assert isinstance(in_thread(call, *arguments), InvalidThreadUseError)
    assert poller.sockets == registered
    os.write(pipe[1], b"x")
    assert polling.get(timeout=5) == [(pipe[0], zmq.POLLIN)]
    assert in_thread(poller.poll, 0) == [(pipe[0], zmq.POLLIN)]


@counts
@pytest.mark.parametrize("destroys", [False, True], ids=["ends", "destroys its hub"])
def test_greenlets_of_a_thread_that_has_ended_do_not_count(poller, pipe, destroys):
    hub = gevent.get_hub()
    if destroys and "libuv" in type(hub.loop).__module__:
        pytest.skip("over libuv, gevent destroys no hub in which a greenlet waits")

    def use():
        hub = gevent.get_hub()
        polling = gevent.spawn(poller.poll)
        all_blocked()
        if destroys:
            hub.destroy(destroy_loop=True)
        return hub, polling

    hub, polling = in_thread(use)  # the greenlet waits for ever
    wait_until(lambda: hub.dead)
    assert poller.poll(1) == []
    poller.unregister(pipe[0])
    poller.register(pipe[0], zmq.POLLIN)
    again = gevent.spawn(poller.poll)
    all_blocked()
    os.write(pipe[1], b"x")
    assert again.get(timeout=5) == [(pipe[0], zmq.POLLIN)]
    del polling


@pytest.mark.processes
@counts
def test_a_poller_follows_its_thread_into_a_new_hub(green, count):
    program = f"""
import os, gevent, {green.__name__} as zmq
from gzmqsource.testing import all_blocked
context, poller = zmq.Context(), zmq.Poller()
reading, writing = os.pipe()
poller.register(reading, zmq.POLLIN)
pulls = [context.socket(zmq.PULL) for _ in range({count})]
for pull in pulls:
    poller.register(pull, zmq.POLLIN)
for _ in range(3):
    polling = gevent.spawn(poller.poll)
    all_blocked()
    os.write(writing, b"x")
    assert polling.get(timeout=5) == poller.poll() == [(reading, zmq.POLLIN)]
    os.read(reading, 1)
    if "libuv" not in type(gevent.get_hub().loop).__module__:  # it would not be destroyed
        left_behind = gevent.spawn(poller.poll)
        all_blocked()
    gevent.get_hub().destroy(destroy_loop=True)
print("followed", flush=True)
os._exit(0)
"""
    with python_process(program) as process:
        assert line_of(process) == "followed"


def test_a_thread_may_end_right_after_a_poll(green, pipe):
    """The budget of its hub has a timer that is still active."""
    os.write(pipe[1], b"x")

    def use():
        gevent.get_hub()
        return [green.zmq_poll([(pipe[0], zmq.POLLIN)]) for _ in range(3)]

    for _ in range(20):
        assert in_thread(use) == [[(pipe[0], zmq.POLLIN)]] * 3
        all_blocked(1)


def test_a_poll_that_is_refused_leaves_nothing_in_the_other_sockets(green, context):
    mine, theirs = context.socket(zmq.PULL), context.socket(zmq.PULL)
    mine.poll(0)
    polling = gevent.spawn(theirs.poll)
    all_blocked()

    def refused():
        poller = green.Poller()
        poller.register(mine, zmq.POLLIN)
        poller.register(theirs, zmq.POLLIN)
        with pytest.raises(InvalidThreadUseError):
            poller.poll(0)
        return mine._shared.readiness.pollers

    assert not in_thread(refused)
    polling.kill()


@pytest.mark.processes
def test_a_process_may_end_right_after_a_poll(green):
    program = f"""
import os, gevent, {green.__name__} as zmq
gevent.sleep(0)
reading, writing = os.pipe()
os.write(writing, b"x")
print(zmq.zmq_poll([(reading, zmq.POLLIN)]) == [(reading, zmq.POLLIN)])
"""
    with python_process(program, stderr=subprocess.STDOUT) as process:
        assert process.stdout.read() == "True\n"
        assert process.wait() == 0
