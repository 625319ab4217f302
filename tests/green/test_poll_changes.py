"""What comes, goes and changes while greenlets poll: they hear of it, and of nothing else."""

import os
import socket as native
from functools import partial
from typing import Any

import gevent
import gevent.socket
import pytest
import zmq
from helpers import is_readable, line_of, python_process, unique_inproc
from zmq.backend import zmq_poll as plain_poll

from gzmqsource.green._watched import Watched
from gzmqsource.testing import all_blocked, wait_until

FEW, MANY = 1, 12  # one set with a watcher for each socket, and one with an epoll set
counts = pytest.mark.parametrize("count", [FEW, MANY])
keys = pytest.mark.parametrize(
    "key", [native.socket.fileno, lambda end: end], ids=["int", "object"]
)


@pytest.fixture
def ends():
    left, right = native.socketpair()
    with left, right:
        yield left, right


@pytest.fixture(params=["green", "plain"])
def kind(request):
    return request.param


@pytest.fixture
def pair(context, kind):
    """Make connected sockets, a green or a plain PULL and its PUSH."""
    made = []
    with zmq.Context() as plain:

        def make():
            made.append(pair_of(context if kind == "green" else plain))
            return made[-1]

        yield make
        for pull, push in made:
            pull.close(0)
            push.close(0)


@pytest.fixture
def poller(green, context, count):
    """A Poller of sockets that stay idle."""
    poller = green.Poller()
    for _ in range(count):
        poller.register(context.socket(zmq.PULL), zmq.POLLIN)
    return poller


@pytest.fixture
def polling(poller):
    """Two greenlets that poll."""
    greenlets = [gevent.spawn(poller.poll) for _ in range(2)]
    all_blocked()
    yield greenlets
    gevent.killall(greenlets)


def answers(greenlets):
    """What the greenlets return, all of them at once."""
    gevent.joinall(greenlets, timeout=5)
    return [greenlet.value for greenlet in greenlets]


def pair_of(context, kind=zmq.PULL):
    name = unique_inproc()
    pull, push = context.socket(kind), context.socket(zmq.PUSH)
    pull.bind(name)
    push.connect(name)
    return pull, push


@keys
def test_the_mask_of_a_descriptor_is_replaced(green, ends, key):
    poller, polled = green.Poller(), key(ends[0])
    poller.register(polled, zmq.POLLIN | zmq.POLLOUT)
    assert poller.poll(5000) == [(ends[0].fileno(), zmq.POLLOUT)]
    poller.modify(polled, zmq.POLLIN)
    assert poller.poll(20) == []
    ends[1].send(b"x")
    assert poller.poll(5000) == [(ends[0].fileno(), zmq.POLLIN)]
    poller.register(polled, zmq.POLLOUT)
    assert poller.poll(5000) == [(ends[0].fileno(), zmq.POLLOUT)]


@counts
@keys
def test_greenlets_that_poll_hear_of_a_new_descriptor(poller, polling, ends, key):
    poller.register(key(ends[0]), zmq.POLLIN)
    all_blocked()
    ends[1].send(b"x")
    assert answers(polling) == [[(ends[0].fileno(), zmq.POLLIN)]] * 2


@counts
def test_greenlets_that_poll_hear_of_a_new_socket(poller, polling, pair):
    pull, push = pair()
    poller.register(pull, zmq.POLLIN)
    all_blocked()
    push.send(b"x")
    assert answers(polling) == [[(pull, zmq.POLLIN)]] * 2


def test_greenlets_that_poll_hear_each_of_many_new_sockets(green, context):
    """They have watchers of their own at first, and an epoll set in the end."""
    poller = green.Poller()
    made = [pair_of(context) for _ in range(MANY)]
    poller.register(made[0][0], zmq.POLLIN)
    for polled, _ in made[1:]:
        polling = gevent.spawn(poller.poll)
        all_blocked()
        poller.register(polled, zmq.POLLIN)
        all_blocked()
        for pull, push in made[: len(poller.sockets)]:
            if polling.ready():
                polling = gevent.spawn(poller.poll)
                all_blocked()
            push.send(b"x")
            assert polling.get(timeout=5) == [(pull, zmq.POLLIN)]
            pull.recv()


@counts
@keys
def test_greenlets_that_poll_hear_of_a_changed_mask(poller, ends, key):
    polled = key(ends[0])
    poller.register(polled, zmq.POLLIN)
    polling = [gevent.spawn(poller.poll) for _ in range(2)]
    all_blocked()
    poller.modify(polled, zmq.POLLOUT)
    assert answers(polling) == [[(ends[0].fileno(), zmq.POLLOUT)]] * 2


@counts
@keys
def test_what_a_descriptor_is_no_longer_polled_for_wakes_nobody(poller, ends, key):
    polled = key(ends[0])
    poller.register(polled, zmq.POLLIN)
    polling = gevent.spawn(poller.poll)
    all_blocked()
    poller.modify(polled, zmq.POLLERR)
    ends[1].send(b"x")
    all_blocked(20)  # it would not return if it went on looking
    assert not polling.ready()
    poller.modify(polled, zmq.POLLIN)
    assert polling.get(timeout=5) == [(ends[0].fileno(), zmq.POLLIN)]


@counts
@keys
def test_a_descriptor_that_was_unregistered_wakes_nobody(poller, ends, key):
    polled = key(ends[0])
    poller.register(polled, zmq.POLLIN)
    polling = [gevent.spawn(poller.poll) for _ in range(2)]
    all_blocked()
    poller.unregister(polled)
    ends[1].send(b"x")
    all_blocked(20)  # it would not return if they went on looking
    assert not any(greenlet.ready() for greenlet in polling)
    poller.register(polled, zmq.POLLIN)
    assert answers(polling) == [[(ends[0].fileno(), zmq.POLLIN)]] * 2


@counts
@keys
def test_a_number_whose_descriptor_was_unregistered_may_be_used_again(poller, ends, key):
    poller.register(key(ends[0]), zmq.POLLIN)
    polling = gevent.spawn(poller.poll)
    all_blocked()
    number = ends[0].fileno()
    poller.unregister(key(ends[0]))
    ends[0].close()
    left, right = native.socketpair()
    with left, right:
        if left.fileno() != number:
            os.dup2(left.fileno(), number)
        next_owner = gevent.spawn(gevent.socket.wait_read, number, 5)
        all_blocked()
        right.send(b"x")
        next_owner.get(timeout=5)
        assert not polling.ready()
        polling.kill()
        if left.fileno() != number:
            os.close(number)


@counts
def test_greenlets_wait_on_when_all_is_unregistered(poller, polling, ends):
    for socket, _ in list(poller.sockets):
        poller.unregister(socket)
    all_blocked(20)
    assert not any(greenlet.ready() for greenlet in polling)
    assert poller.poll() == []  # this one has nothing to wait for
    poller.register(ends[0], zmq.POLLOUT)
    assert answers(polling) == [[(ends[0].fileno(), zmq.POLLOUT)]] * 2


@counts
def test_time_runs_out_also_when_all_is_unregistered(poller):
    polling = gevent.spawn(poller.poll, 20)
    gevent.sleep(0)
    for socket, _ in list(poller.sockets):
        poller.unregister(socket)
    assert polling.get(timeout=5) == []


@counts
def test_a_socket_that_is_closed_and_unregistered_leaves_the_others(poller, polling, pair, kind):
    (closed, _), (pull, push) = pair(), pair()
    poller.register(closed, zmq.POLLIN)
    poller.register(pull, zmq.POLLIN)
    all_blocked()
    if kind == "plain":
        poller.unregister(closed)  # nobody tells of the close of a plain one
    closed.close()
    if kind == "green":
        poller.unregister(closed)
    all_blocked(20)
    assert not any(greenlet.ready() for greenlet in polling)
    push.send(b"x")
    assert answers(polling) == [[(pull, zmq.POLLIN)]] * 2


@counts
@pytest.mark.parametrize("is_waiting", [False, True], ids=["idle", "waiting"])
@pytest.mark.parametrize("was_polled", [False, True], ids=["new", "polled"])
def test_a_closed_socket_may_be_registered_and_is_an_error_when_polled(
    poller, context, is_waiting, was_polled
):
    if was_polled:
        poller.poll(0)
    polling = [gevent.spawn(poller.poll)] if is_waiting else []
    all_blocked()
    closed = context.socket(zmq.PULL)
    closed.close()
    poller.register(closed, zmq.POLLIN)
    assert closed in poller
    polling.append(gevent.spawn(poller.poll))
    gevent.joinall(polling, timeout=5)
    assert [getattr(each.exception, "errno", None) for each in polling] == [zmq.ENOTSOCK] * len(
        polling
    )
    poller.unregister(closed)
    assert poller.poll(1) == []


@counts
def test_one_descriptor_more_starts_one_watcher_more(poller, ends, monkeypatch):
    pairs = [native.socketpair() for _ in range(50)]
    for left, _ in pairs:
        poller.register(left, zmq.POLLIN)
    polling = gevent.spawn(poller.poll)
    all_blocked()
    started = []
    start = Watched.start

    def note(self, *arguments):
        started.append(self)
        start(self, *arguments)

    monkeypatch.setattr(Watched, "start", note)
    poller.register(ends[0], zmq.POLLIN)
    all_blocked()
    poller.unregister(pairs[0][0])
    all_blocked()
    assert len(started) == 1
    polling.kill()
    for pair in pairs:
        for end in pair:
            end.close()


@counts
def test_a_negative_descriptor_is_never_ready(poller, ends):
    assert plain_poll([(-1, zmq.POLLIN)], 1) == []
    poller.register(-1, zmq.POLLIN)
    poller.register(ends[0], zmq.POLLIN)
    polling = gevent.spawn(poller.poll)
    all_blocked()
    ends[1].send(b"x")
    assert polling.get(timeout=5) == [(ends[0].fileno(), zmq.POLLIN)]


def test_input_wakes_no_poll_for_errors(green, ends):
    ends[1].send(b"x")
    polling: gevent.Greenlet[..., Any] = gevent.spawn(green.select, [], [], [ends[0]])
    all_blocked(20)  # it would not return if the poll went on looking
    assert not polling.ready()
    ends[1].close()
    assert plain_poll([(ends[0], zmq.POLLERR)], 0) == [(ends[0].fileno(), zmq.POLLERR)]
    assert polling.get(timeout=5) == ([], [], [ends[0].fileno()])


def test_urgent_data_is_polled_for(green):
    with native.create_server(("127.0.0.1", 0)) as server:
        left = native.create_connection(server.getsockname())
        right, _ = server.accept()
    with left, right:
        poller = green.Poller()
        poller.register(left, zmq.POLLPRI)
        right.send(b"x")
        polling = gevent.spawn(poller.poll, 5000)
        all_blocked(20)
        assert not polling.ready()
        right.send(b"!", native.MSG_OOB)
        assert polling.get(timeout=5) == [(left.fileno(), zmq.POLLPRI)]


def test_a_file_is_always_ready_and_never_in_error(green, tmp_path):
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as file:
        poller = green.Poller()
        poller.register(file, zmq.POLLERR)
        assert poller.poll(20) == []
        poller.modify(file, zmq.POLLIN)
        assert poller.poll() == [(file.fileno(), zmq.POLLIN)]


@counts
def test_what_is_ready_comes_in_the_order_of_registration(poller, context, ends):
    pulls = []
    for number in range(3):
        pull, push = pair_of(context)
        push.send(b"x")
        wait_until(partial(is_readable, pull))
        poller.register(pull, zmq.POLLIN)
        poller.register((ends[0], ends[1].fileno(), ends[1])[number], zmq.POLLOUT)
        pulls.append(pull)
    assert poller.poll(5000) == plain_poll(poller.sockets, 0)
    poller.modify(pulls[0], zmq.POLLIN | zmq.POLLERR)
    poller.unregister(pulls[1])
    poller.register(pulls[1], zmq.POLLIN)
    assert poller.poll(5000) == plain_poll(poller.sockets, 0)


@pytest.mark.processes
def test_many_sockets_are_polled_at_the_limit_of_descriptors(green):
    program = f"""
import errno, os, gevent, resource, {green.__name__} as zmq
from gzmqsource.testing import all_blocked
context = zmq.Context()
pulls = [context.socket(zmq.PULL) for _ in range({MANY})]
pushes = [context.socket(zmq.PUSH) for _ in pulls]
poller, entries = zmq.Poller(), [(pull, zmq.POLLIN) for pull in pulls]
for number, (pull, push) in enumerate(zip(pulls, pushes)):
    pull.bind(f"inproc://{{number}}")
    push.connect(f"inproc://{{number}}")
    poller.register(pull, zmq.POLLIN)
gevent.sleep(0.001)
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, most))
try:
    while True:
        os.dup(0)
except OSError as error:
    assert error.errno == errno.EMFILE
for poll in (poller.poll, lambda timeout: zmq.zmq_poll(entries, timeout)):
    assert poll(1) == []
    for pull, push in zip(pulls, pushes):
        polling = gevent.spawn(poll, 5000)
        all_blocked()
        push.send(b"x")
        assert polling.get(timeout=5) == poll(0) == [(pull, zmq.POLLIN)]
        pull.recv()
print("polled", flush=True)
"""
    with python_process(program) as process:
        assert line_of(process) == "polled"


@counts
def test_all_who_poll_hear_of_a_close_also_if_one_polls_at_once(poller, polling, context):
    closed, _ = pair_of(context)
    poller.register(closed, zmq.POLLIN)
    all_blocked()
    closed.close()
    with pytest.raises(zmq.ZMQError):
        poller.poll(0)
    gevent.joinall(polling, timeout=5)
    assert [getattr(each.exception, "errno", None) for each in polling] == [zmq.ENOTSOCK] * 2
