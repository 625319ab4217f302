"""The epoll set that large poll sets of a hub share."""

import gc

import gevent
import pytest
import zmq
from gevent.exceptions import LoopExit
from gevent.hub import Waiter, get_hub
from helpers import in_thread, line_of, python_process, unique_inproc

from gzmqsource import green
from gzmqsource._base.threads import start_thread
from gzmqsource.green._edges import Edges
from gzmqsource.green._poll_set import PollSet
from gzmqsource.testing import all_blocked, wait_until

MANY = 12

pytestmark = pytest.mark.skipif(not Edges.exist, reason="the system has no epoll")


@pytest.fixture
def pairs(context):
    """Pulls, each with a push that is connected to it."""
    made = []
    green_context: green.Context = green.Context(shadow=context)
    for _ in range(MANY):
        pull, push = green_context.socket(zmq.PULL), context.socket(zmq.PUSH)
        address = unique_inproc()
        pull.bind(address)
        push.connect(address)
        made.append((pull, push))
    yield made
    for pull, push in made:
        pull.close(0)
        push.close(0)


def poller_of(pairs):
    poller = green.Poller()
    for pull, _ in pairs:
        poller.register(pull, zmq.POLLIN)
    return poller


def edges_of(poller):
    return poller._made._edges


@pytest.fixture
def reports(monkeypatch):
    """A list that grows with each time that the hub hears of edges."""
    seen = []
    on_edges = Edges._on_edges

    def counted(self):
        seen.append(self)
        on_edges(self)

    monkeypatch.setattr(Edges, "_on_edges", counted)
    return seen


def test_the_watcher_runs_on_between_two_polls(pairs):
    """To start it costs the kernel a walk through all sockets; libuv's would end no loop."""
    poller = poller_of(pairs)
    assert poller.poll(1) == []
    edges = edges_of(poller)
    assert edges._watcher.active is not edges._must_stop


def test_a_poller_that_is_not_polled_does_not_keep_the_loop_running(pairs):
    def run():
        poller = poller_of(pairs)
        assert poller.poll(1) == []
        with pytest.raises(LoopExit):
            Waiter().get()
        pairs[0][1].send(b"x")
        assert poller.poll(5000) == [(pairs[0][0], zmq.POLLIN)]
        get_hub().destroy(destroy_loop=True)

    # Its hub has nothing else that would keep its loop running.
    assert in_thread(run) is None


def test_a_socket_that_is_used_while_it_is_not_polled_wakes_the_hub_once(pairs, reports):
    poller = poller_of(pairs)
    assert poller.poll(1) == []
    reports.clear()
    pull, push = pairs[0]
    for _ in range(5):
        push.send(b"x")
        all_blocked()
        assert pull.recv() == b"x"
    assert len(reports) <= 1
    push.send(b"y")
    assert poller.poll(5000) == [(pull, zmq.POLLIN)]


def test_all_of_many_edges_are_reported_at_once(pairs, monkeypatch):
    monkeypatch.setattr(Edges, "most", 5)
    poller = poller_of(pairs)
    assert poller.poll(1) == []
    for _, push in pairs:
        push.send(b"x")
    assert poller.poll(0) == [(pull, zmq.POLLIN) for pull, _ in pairs]


def test_each_of_two_sets_hears_of_an_edge_that_the_other_has_seen(pairs):
    pollers = [poller_of(pairs), poller_of(pairs)]
    for poller in pollers:
        assert poller.poll(0) == []
    polling = [gevent.spawn(poller.poll) for poller in pollers]
    all_blocked()
    for pull, push in pairs[:3]:
        push.send(b"x")
        assert [each.get(timeout=5) for each in polling] == [[(pull, zmq.POLLIN)]] * 2
        pull.recv()
        polling = [gevent.spawn(poller.poll) for poller in pollers]
        all_blocked()
    pairs[0][1].send(b"x")
    assert pollers[0].poll(0) == [(pairs[0][0], zmq.POLLIN)]  # which eats the edge
    assert [each.get(timeout=5) for each in polling] == [[(pairs[0][0], zmq.POLLIN)]] * 2


def test_the_last_set_closes_the_epoll_set_and_lets_go_of_the_sockets(pairs):
    one, other = poller_of(pairs), poller_of(pairs[:6])
    for poller in (one, other):
        assert poller.poll(1) == []
    edges = edges_of(one)
    assert edges_of(other) is edges
    other._forget()
    assert not edges._epoll.closed
    one._forget()
    assert edges._epoll.closed
    assert not edges._entries
    assert one.poll(1) == []


@pytest.mark.parametrize(
    ("step", "call"),
    [
        ("wake", lambda pull: pull._shared.readiness.notify(zmq.POLLIN)),
        ("mark_stale", lambda pull: pull.get(zmq.EVENTS)),
        ("stop_edges", lambda pull: pull.close()),
    ],
)
def test_pollers_that_are_collected_amid_a_call_are_no_error(pairs, monkeypatch, step, call):
    pollers = [poller_of(pairs) for _ in range(2)]
    for poller in pollers:
        assert poller.poll(1) == []
    dropped = [poller_of(pairs)]
    assert dropped[0].poll(1) == []
    dropped.append(dropped)
    del dropped
    original = getattr(PollSet, step)

    def collect_and_go_on(*args):
        gc.collect()
        original(*args)

    monkeypatch.setattr(PollSet, step, collect_and_go_on)
    pull, _ = pairs[0]
    readiness = pull._shared.readiness
    assert len(readiness.pollers) == 3
    call(pull)
    assert len(readiness.pollers) == 2


def test_a_poller_that_another_thread_drops_is_released_by_its_hub(pairs):
    """libev aborts if a descriptor is closed under its watcher."""
    poller = poller_of(pairs)
    assert poller.poll(1) == []
    edges = edges_of(poller)
    ended = []
    start_thread(lambda dropped: ended.append(dropped.pop()._forget()), ([poller],))
    while not ended:
        pass  # the hub does not run
    assert not edges._epoll.closed
    assert not edges._entries
    wait_until(lambda: edges._epoll.closed)
    assert not edges._watcher.active


def test_edges_of_a_socket_in_another_hub_do_not_wake_the_first_one(pairs, reports):
    poller = poller_of(pairs)
    assert poller.poll(1) == []
    pull, push = pairs[0]

    def use():
        pull.poll(0)

    in_thread(use)
    reports.clear()
    push.send(b"x")
    all_blocked()
    gevent.sleep(0.001)
    assert not reports
    assert poller.poll(5000) == [(pull, zmq.POLLIN)]


CROWD = """
import gevent
import zmq
import gzmqsource.green as green
from gzmqsource.testing import all_blocked

context = green.Context()
pulls = [context.socket(zmq.PULL) for _ in range(6)]
pulls[3].bind("inproc://polled")
polling = []
for _ in range(600):
    poller = green.Poller()
    for pull in pulls:
        poller.register(pull, zmq.POLLIN)
    polling.append(gevent.spawn(poller.poll))
all_blocked()
push = context.socket(zmq.PUSH)
push.connect("inproc://polled")
push.send(b"x")
print(len(gevent.joinall(polling, timeout=60, raise_error=True)), flush=True)
"""


@pytest.mark.processes
@pytest.mark.limit(120)
def test_any_number_of_pollers_may_have_the_same_sockets():
    """The kernel allows 500 nested epoll sets for one descriptor; over libev, more would abort."""
    with python_process(CROWD) as process:
        assert line_of(process) == "600"


def test_a_hub_is_followed_by_another_with_edges_of_its_own(pairs):
    poller = poller_of(pairs)
    results = []

    def use():
        results.append(poller.poll(1))
        get_hub().destroy(destroy_loop=True)
        pairs[0][1].send(b"x")
        results.append(poller.poll(5000))
        poller._forget()

    in_thread(use)
    assert results == [[], [(pairs[0][0], zmq.POLLIN)]]
