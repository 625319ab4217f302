"""Monitors of green sockets: a PAIR that is slow, closed or not yet there holds up nothing."""

import gevent
import pytest
import zmq
from gevent.monkey import get_original
from zmq.utils.monitor import recv_monitor_message

from gzmqsource._base.oneshot import OneShot
from gzmqsource._socket.reports import _BATCH
from gzmqsource.green._relay import Relay
from gzmqsource.testing import no_leaks, wait_until


@pytest.fixture
def watched(context):
    return context.socket(zmq.PULL)


def make_events(socket, count=1):
    """Have libzmq report that a socket listens, and that it no longer does."""
    for _ in range(count):
        socket.bind("tcp://127.0.0.1:*")
        socket.unbind(socket.LAST_ENDPOINT)


def next_name(pair):
    assert pair.poll(10_000)
    return recv_monitor_message(pair)["event"].name


def test_the_shadow_of_an_address_is_monitored_as_by_pyzmq(context, watched):
    pair = context.socket(zmq.PAIR)
    shadow = type(watched)(shadow=int(watched.underlying))
    shadow.monitor("inproc://monitor-of-a-shadow")
    pair.connect("inproc://monitor-of-a-shadow")
    make_events(watched)
    assert next_name(pair) == "LISTENING"
    watched.disable_monitor()


def test_all_events_come_in_order_and_the_last_one_tells_of_the_end(watched):
    pair = watched.get_monitor_socket()
    make_events(watched)
    names = [next_name(pair) for _ in range(2)]
    watched.disable_monitor()
    while names[-1] != "MONITOR_STOPPED":
        names.append(next_name(pair))
    assert names == ["LISTENING", "CLOSED", "MONITOR_STOPPED"]


def test_only_the_events_that_were_asked_for_come(watched):
    pair = watched.get_monitor_socket(zmq.EVENT_CLOSED)
    make_events(watched, 2)
    assert [next_name(pair), next_name(pair)] == ["CLOSED", "CLOSED"]
    watched.disable_monitor()
    assert not pair.poll(50)


@pytest.mark.parametrize("end", ["disable_monitor", "close"])
def test_a_closed_pair_blocks_no_call(watched, context, end):
    """libzmq would wait forever, in the thread of the hub or in its own."""
    watched.get_monitor_socket().close()
    make_events(watched)
    getattr(watched, end)()
    with context.socket(zmq.PULL) as other, context.socket(zmq.PUSH) as peer:
        other.bind("tcp://127.0.0.1:*")
        peer.connect(other.LAST_ENDPOINT.decode())
        peer.send(b"x")
        assert other.recv() == b"x"


def test_a_pair_that_is_not_read_blocks_no_call_and_holds_the_last_events(watched, monkeypatch):
    monkeypatch.setattr(Relay, "most", 10)
    pair = watched.get_monitor_socket()
    make_events(watched, 3000)
    watched.close()
    names = [next_name(pair)]
    while names[-1] != "MONITOR_STOPPED":
        names.append(next_name(pair))
    assert 10 < len(names) < 6000


def test_the_events_before_the_pair_is_there_are_kept(watched, context):
    watched.monitor("inproc://later", zmq.EVENT_LISTENING)
    watched.bind("tcp://127.0.0.1:*")
    with context.socket(zmq.PAIR) as pair:
        pair.connect("inproc://later")
        assert next_name(pair) == "LISTENING"


def test_an_address_can_be_used_again_at_once(watched, context):
    for _ in range(50):
        watched.monitor(b"inproc://again", zmq.EVENT_LISTENING)
        with context.socket(zmq.PAIR) as pair:
            pair.connect("inproc://again")
            make_events(watched)
            assert next_name(pair) == "LISTENING"


def test_a_pair_that_was_closed_long_before_keeps_nothing(watched):
    """What notices that it is closed is a call before the end: there is no edge later."""
    watched.get_monitor_socket().close()
    relay = watched._relay
    wait_until(lambda: make_events(watched) or relay.queue)
    watched.close()
    wait_until(lambda: relay.released.value)


def test_a_pair_that_is_full_gets_all_of_a_socket_that_was_closed(watched):
    pair = watched.get_monitor_socket(zmq.EVENT_LISTENING)
    relay = watched._relay
    count = 0
    while len(relay.queue) <= _BATCH:  # so many may be on their way into a pipe that has room
        make_events(watched, 100)
        count += 100
        gevent.sleep(0.001)
    watched.close()
    wait_until(lambda: relay.lingers)
    assert [next_name(pair) for _ in range(count)] == ["LISTENING"] * count
    wait_until(lambda: relay.released.value)


def test_a_pair_that_is_full_does_not_keep_the_next_one_waiting(watched, monkeypatch):
    pair = watched.get_monitor_socket(zmq.EVENT_LISTENING)
    relay = watched._relay
    while len(relay.queue) <= _BATCH:
        make_events(watched, 100)
        gevent.sleep(0.001)
    watched.disable_monitor()
    wait_until(lambda: relay.lingers)
    monkeypatch.setattr(OneShot, "block", lambda shot, timeout: shot.value or pytest.fail("blocks"))
    later = watched.get_monitor_socket(zmq.EVENT_LISTENING)
    make_events(watched)
    assert next_name(later) == "LISTENING"
    assert next_name(pair) == "LISTENING"
    pair.close()


def test_all_is_released_with_a_pair_that_was_never_there_never_read_or_closed(context):
    with context.socket(zmq.PULL), no_leaks():
        for number in range(30):
            watched = context.socket(zmq.PULL)
            if number % 3:
                pair = watched.get_monitor_socket()
            else:
                watched.monitor(f"inproc://nobody-{number}")
            make_events(watched)
            if number % 3 == 1:
                pair.close()
            watched.close()
            if number % 3 == 2:
                pair.close()


@pytest.mark.parametrize("ending", ["term", "destroy"])
def test_the_context_ends_with_an_open_monitor(green, ending):
    context = green.Context()
    watched = context.socket(zmq.PULL)
    pair = watched.get_monitor_socket()
    make_events(watched)
    if ending == "term":
        watched.close()
        pair.close()
    getattr(context, ending)()
    assert context.closed


@pytest.mark.parametrize(
    ("address", "events", "errno"),
    [
        ("tcp://127.0.0.1:*", zmq.EVENT_ALL, zmq.EPROTONOSUPPORT),
        ("nonsense", zmq.EVENT_ALL, zmq.EINVAL),
        ("inproc://events", 1 << 17, zmq.EINVAL),
        ("inproc://taken", zmq.EVENT_ALL, zmq.EADDRINUSE),
    ],
)
def test_errors_are_libzmqs(watched, context, address, events, errno):
    with context.socket(zmq.PAIR) as taken:
        taken.bind("inproc://taken")
        with pytest.raises(zmq.ZMQError) as raised:
            watched.monitor(address, events)
        assert raised.value.errno == errno
    watched.close()
    with pytest.raises(zmq.ZMQError) as raised:
        watched.monitor("inproc://x")
    assert raised.value.errno == zmq.ENOTSOCK


def test_a_thread_without_a_hub_can_have_one(watched, context):
    events: list[object] = []

    def watch():
        with context.socket(zmq.PULL) as socket:
            pair = socket.get_monitor_socket()
            socket.bind("tcp://127.0.0.1:*")
            events.append(recv_monitor_message(pair)["event"])
            pair.close()

    get_original("_thread", "start_new_thread")(watch, ())
    wait_until(lambda: events)
    assert events == [zmq.EVENT_LISTENING]
    gevent.sleep(0)
