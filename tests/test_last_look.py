"""What is there beats the clock: each timeout ends with one more attempt.

The hub is held up until the timeout is over. What was waited for came before that.
"""

import contextlib

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from gevent.queue import Empty, Full
from helpers import _sleep, closing, in_thread, unique_inproc
from outboxes import numbered

from gzmqsource import InvalidThreadUseError, Source
from gzmqsource._base import waiters
from gzmqsource._socket.writers import ManyWriters
from gzmqsource._source.outbox import Outbox
from gzmqsource.testing import all_blocked, fill
from gzmqsource.workers import Requester

#: Long enough that it is not over before the hub is held up, on a busy machine.
TIMEOUT = 0.5


def hold_up():
    """Hold up this hub until the timeout is over.

    Callers wait for no clock before that, so that the timeout is not over too early.
    """
    _sleep(1.1 * TIMEOUT)


@pytest.fixture(params=["PUSH", "ROUTER"])
def full(request, context):
    """A source with a full outbox and a full peer, a plain socket; and what it sends."""
    address = unique_inproc()
    options = {"context": context, "outbox": 1, "sndhwm": 1, "linger": 0}
    if request.param == "PUSH":
        peer = context.socket(zmq.PULL)
        peer.rcvhwm = 1
        peer.bind(address)
        source = Source.open(zmq.PUSH, connect=address, **options)
        message = numbered(1)
    else:
        source = Source.open(zmq.ROUTER, bind=address, router_mandatory=1, **options)
        peer = context.socket(zmq.DEALER)
        peer.rcvhwm, peer.routing_id = 1, b"peer"
        peer.connect(address)
        peer.send(b"here")
        source.recv(timeout=5)
        message = [b"peer", *numbered(1)]
    fill(source, message)
    source.send(message, timeout=0)
    with closing(source):
        yield source, peer, message
    peer.close(0)


def read_all(peer):
    count = 0
    while peer.poll(50):
        peer.recv_multipart()
        count += 1
    return count


@pytest.mark.parametrize("how", ["source", "sender"])
def test_a_send_finds_room_that_came_while_the_hub_was_held_up(full, how):
    source, peer, message = full
    send = source.send if how == "source" else source.sender().send
    sending = [gevent.spawn(send, message, timeout=TIMEOUT) for _ in range(2)]
    gevent.sleep(0)
    assert read_all(peer) >= 1
    hold_up()
    gevent.joinall(sending, timeout=5, raise_error=True)


@pytest.mark.parametrize("how", ["source", "sender"])
@pytest.mark.usefixtures("few_callbacks")
def test_the_clock_waits_for_all_putters_in_front(context, how):
    """Each needs turns of its own: the flusher sends, and the next putter follows."""
    with closing(
        Source.open(zmq.PULL, bind="inproc://many", context=context, rcvhwm=300),
        Source.open(zmq.PUSH, connect="inproc://many", context=context, outbox=1, sndhwm=300),
    ) as (receiver, source):
        while source.stats().outbox_depth == 0:
            source.send(b"ballast")
        send = source.send if how == "source" else source.sender().send
        sending = [gevent.spawn(send, b"message", timeout=TIMEOUT) for _ in range(200)]
        gevent.sleep(0)
        for _ in range(300):
            receiver.recv(block=False)
        hold_up()
        gevent.joinall(sending, timeout=20, raise_error=True)


def test_senders_whose_time_is_over_look_for_room_together(full, monkeypatch):
    """Thousands that looked one by one held up the hub without end."""
    source, _, message = full
    looks, insist = [], Outbox.insist

    def look(outbox, keys):
        looks.append(1)
        insist(outbox, keys)

    monkeypatch.setattr(Outbox, "insist", look)
    over = []

    def send():
        try:
            source.send(message, timeout=0.1)
        except Full:
            over.append(1)

    gevent.joinall([gevent.spawn(send) for _ in range(1000)], timeout=20)
    assert len(over) == 1000
    assert 2 <= len(looks) < 500


def test_the_timer_of_a_greenlet_whose_time_is_over_does_not_fire_again(monkeypatch):
    """Ten times a second for each of thousands, while the looks last, took all of the hub."""
    monkeypatch.setattr(waiters, "_AGAIN", 0.005)
    queue, hub, fired, looks = waiters.Waiters(), get_hub(), [], []
    be_late = waiters.Waiters._be_late

    def count(queue, *arguments):
        fired.append(1)
        be_late(queue, *arguments)

    def look():
        """Have hope, for so many looks that the timers would be due again."""
        looks.append(1)
        _sleep(0.001)
        return object() if len(looks) < 50 else None

    monkeypatch.setattr(waiters.Waiters, "_be_late", count)
    waiting = [gevent.spawn(queue.wait, hub, 0.001, look=look) for _ in range(20)]
    gevent.joinall(waiting, timeout=20, raise_error=True)
    assert [each.value for each in waiting] == [False] * 20
    assert len(fired) == 20


@pytest.mark.parametrize(
    "call",
    [
        lambda source, message: source.send(message, timeout=TIMEOUT),
        lambda source, message: source.flush(TIMEOUT) or pytest.fail("not flushed"),
        lambda source, message: source.stop(TIMEOUT) == [] or pytest.fail("not sent"),
    ],
    ids=["send", "flush", "stop"],
)
@pytest.mark.parametrize("full", ["ROUTER"], indirect=True)
def test_room_that_came_meanwhile_is_found_at_a_peer_that_was_full_for_long(
    monkeypatch, full, call
):
    monkeypatch.setattr(ManyWriters, "confirm_after", 60)  # edges try no such peers meanwhile
    source, peer, message = full
    waiting = gevent.spawn(call, source, message)
    gevent.sleep(0)
    many = source._core.socket.readiness.many
    for _ in range(2):
        many.destinations.take_all()
    many.repair()  # the clock begins now
    assert many.can_wait
    assert read_all(peer) >= 1
    hold_up()
    waiting.get(timeout=5)


def test_a_flush_finds_room_that_came_while_the_hub_was_held_up(full):
    source, peer, _ = full
    flushing = gevent.spawn(source.flush, TIMEOUT)
    gevent.sleep(0)
    assert read_all(peer) >= 1
    hold_up()
    assert flushing.get(timeout=5) is True


@pytest.mark.parametrize("call", [Source.flush, Source.stop])
def test_others_that_go_on_sending_do_not_keep_a_flush_from_its_end(context, monkeypatch, call):
    looks, insist = [], Outbox.insist

    def look(outbox, keys):
        """Have a message go out between any two looks, and another one follow."""
        looks.append(1)
        if len(looks) < 500:
            receiver.recv(block=False)
            source.send(b"follows")
        insist(outbox, keys)

    with closing(
        Source.open(zmq.PULL, bind="inproc://many", context=context, rcvhwm=1),
        Source.open(zmq.PUSH, connect="inproc://many", context=context, sndhwm=1, linger=0),
    ) as (receiver, source):
        while source.stats().outbox_depth < 5:
            source.send(b"x")
        monkeypatch.setattr(Outbox, "insist", look)
        assert call(source, 0.01) is False or source.closed
        assert 2 <= len(looks) < 100


def test_a_stop_finds_room_that_came_while_the_hub_was_held_up(full):
    source, peer, _ = full
    stopping = gevent.spawn(source.stop, TIMEOUT)
    gevent.sleep(0)
    assert read_all(peer) >= 1
    hold_up()
    assert stopping.get(timeout=5) == []


def recv_many(source, timeout):
    return source.recv_many(5, timeout=timeout)


@pytest.mark.parametrize("call", [Source.recv, recv_many])
def test_a_receive_finds_what_came_while_the_hub_was_held_up(context, call):
    address = unique_inproc()
    with closing(Source.open(zmq.PULL, bind=address, context=context)) as (source,):
        peer = context.socket(zmq.PUSH)
        peer.connect(address)
        receiving = gevent.spawn(call, source, timeout=TIMEOUT)
        gevent.sleep(0)
        peer.send(b"x")
        hold_up()
        assert receiving.get(timeout=5) in ([b"x"], [[b"x"]])
        peer.close(0)


@pytest.fixture
def asked(context):
    """A requester, and its server, a plain socket."""
    server = context.socket(zmq.ROUTER)
    address = unique_inproc()
    server.bind(address)
    with Requester.open(address, context=context, linger=0) as requester:
        yield requester, server
    server.close(0)


def reply(server, count):
    for _ in range(count):
        server.send_multipart(server.recv_multipart())


@pytest.mark.parametrize("retries", [0, 1])
def test_a_request_finds_the_reply_that_came_while_the_hub_was_held_up(asked, retries):
    requester, server = asked
    asking = [gevent.spawn(requester.request, b"x", TIMEOUT, retries) for _ in range(3)]
    asking += [requester.submit(b"x", TIMEOUT, retries) for _ in range(3)]
    all_blocked(1)
    reply(server, 6)
    hold_up()
    assert [each.get(timeout=5) for each in asking] == [[b"x"]] * 6
    assert requester.stats().retries == 0


def test_a_requester_that_stops_takes_the_replies_that_are_there(asked):
    requester, server = asked
    (connection,) = requester._dispatcher.connections
    connection.link.source._core.socket.budget.max_messages = 2  # they take more than one turn
    submitted = [requester.submit(b"x") for _ in range(50)]
    stopping = gevent.spawn(requester.stop, TIMEOUT)
    all_blocked(1)
    reply(server, 50)
    hold_up()
    assert stopping.get(timeout=5) == 0
    assert [each.get(timeout=5) for each in submitted] == [[b"x"]] * 50


def test_a_request_that_is_killed_while_it_is_queued_is_not_sent(context):
    address = unique_inproc()
    with Requester.open(bind=address, context=context, linger=0) as requester:
        killed, kept = (gevent.spawn(requester.request, each) for each in (b"killed", b"kept"))
        all_blocked(1)
        killed.kill()
        server = context.socket(zmq.ROUTER)
        server.connect(address)
        all_blocked()
        assert server.recv_multipart()[-1] == b"kept"
        assert not server.poll(50)
        kept.kill()
        server.close(0)


def test_a_source_whose_hub_was_destroyed_turns_the_next_hub_of_its_thread_away(context):
    calls = {
        "recv": lambda source: source.recv(),
        "iteration": lambda source: next(iter(source)),
        "recv in time": lambda source: source.recv(timeout=0.1),
        "recv_many": lambda source: source.recv_many(3),
        "flush": lambda source: source.flush(),
        "stop": lambda source: source.stop(),
        "send": lambda source: source.send(b"x", timeout=0.1),
    }

    def use():
        source = Source.open(zmq.DEALER, connect=unique_inproc(), context=context, linger=0)
        with pytest.raises(Empty):
            source.recv(timeout=0.001)  # from now on the short cuts have a budget
        get_hub().destroy()
        get_hub()
        outcomes = {}
        for name, call in calls.items():
            with contextlib.suppress(gevent.Timeout), gevent.Timeout(1):
                try:
                    call(source)
                except InvalidThreadUseError:
                    outcomes[name] = "turned away"
        source._core.raw.close(0)
        assert source.closed
        get_hub().destroy()
        return outcomes

    assert in_thread(use) == dict.fromkeys(calls, "turned away")
