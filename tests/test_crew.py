"""``spawn=`` a number: that many greenlets take the next message themselves."""

import contextlib

import gevent
import pytest
import zmq
from gevent import getcurrent
from gevent.event import Event
from gevent.hub import Waiter
from gevent.pool import Group
from handlers import INPROC, NUMBERS, Gate, Recorder, fed, fill_hand, send_each
from helpers import closing

from gzmqsource import Source
from gzmqsource._source import crew
from gzmqsource.testing import all_blocked, wait_until

#: Where workers handle the messages: one in order, one, some.
WORKERS = [None, 1, 4]

workers = pytest.mark.parametrize("spawn", WORKERS)


@pytest.fixture
def leave_timeout():
    """Leave a timeout running, as handlers do that forget it."""
    if "libuv" in type(gevent.get_hub().loop).__module__:
        pytest.skip("over libuv, gevent itself crashes after a timeout that was left running")
    timeouts: list[gevent.Timeout] = []
    yield lambda: timeouts.append(gevent.Timeout.start_new(0.01))
    for timeout in timeouts:
        timeout.close()


def test_a_handler_that_does_not_wait_is_always_called_in_the_same_greenlet(context):
    handle = Recorder()
    with fed(context, handle, spawn=100) as (_, client):
        for number in NUMBERS:
            client.send(number)
        wait_until(lambda: len(handle.begun) == len(NUMBERS))
    assert len(set(handle.greenlets)) == 1
    assert handle.begun == NUMBERS


def test_handlers_that_wait_begin_in_the_order_of_the_messages(context, endpoint):
    begun, done = [], []

    def handle(message):
        number = int(message[0])
        begun.append(number)
        if number % 3:
            gevent.sleep(0.001 * (number % 5))
        done.append(number)

    with fed(context, handle, endpoint, spawn=4) as (_, client):
        for number in range(300):
            client.send(b"%d" % number)
        wait_until(lambda: len(done) == 300)
    assert begun == list(range(300))


def test_the_worker_that_parked_last_is_the_next(context):
    gates = {name: Event() for name in ("a", "b", "c", "d")}
    handle = Recorder(**{name: gate.wait for name, gate in gates.items()})
    with fed(context, handle, INPROC, spawn=10) as (_, client):
        send_each(client, b"a", b"b", b"c")
        wait_until(lambda: len(handle.begun) == 3)
        all_blocked()
        gates["a"].set()
        all_blocked()
        gates["b"].set()
        all_blocked()
        send_each(client, b"d", b"x")
        wait_until(lambda: len(handle.begun) == 5)
        first, second, third, leader, last = handle.greenlets
        assert leader not in (first, second, third)
        assert last is second


def test_what_is_in_hand_has_its_workers(context):
    gate = Gate()

    def handle(message):
        if int(message[0]) >= 200:  # so many that the batch has grown
            gate(message)

    with fed(context, handle, INPROC, spawn=8) as (server, client):
        for number in range(300):
            client.send(b"%d" % number)
        wait_until(lambda: gate.running == 8)
        all_blocked()
        stats = server.stats()
        assert (stats.received, stats.in_hand) == (208, 0)
        gate.opened.set()
        wait_until(lambda: len(gate.done) == 100)
    assert gate.begun == [[b"%d" % number] for number in range(200, 300)]


@workers
def test_a_kill_in_a_handler_ends_its_worker_and_nothing_else(context, spawn):
    gate = Event()
    handle = Recorder(wait=gate.wait)
    with fed(context, handle, INPROC, spawn=spawn) as (server, client):
        client.send(b"wait")
        wait_until(lambda: handle.begun)
        with gevent.Timeout(10):
            handle.greenlets[0].kill()  # it waits for the death
        send_each(client, b"one", b"two")
        wait_until(lambda: len(handle.begun) == 3)
        assert handle.greenlets[0] not in handle.greenlets[1:]
        assert server.stats().errors == 0


@workers
def test_a_kill_of_an_idle_worker_leaves_the_service_going(context, spawn):
    group = Group()
    gate = Event()

    def join():
        group.add(getcurrent())  # type: ignore[arg-type]

    def join_and_wait():
        join()
        gate.wait()

    handle = Recorder(wait=join_and_wait, go=join)
    with fed(context, handle, INPROC, spawn=spawn) as (_, client):
        send_each(client, b"wait", b"wait", b"wait", b"go")
        wait_until(lambda: handle.begun)
        all_blocked()
        gate.set()
        wait_until(lambda: len(handle.begun) == 4)
        all_blocked()
        with gevent.Timeout(10):
            group.kill()
        all_blocked()
        send_each(client, b"one", b"two")
        wait_until(lambda: len(handle.begun) == 6)


@workers
def test_a_handler_may_kill_its_own_greenlet(context, spawn):
    handle = Recorder(die=lambda: gevent.kill(getcurrent()))
    with fed(context, handle, INPROC, spawn=spawn) as (server, client):
        send_each(client, *[b"die", b"live"] * 10)
        wait_until(lambda: len(handle.begun) == 20)
        assert handle.begun == [b"die", b"live"] * 10
        assert server.stats().errors == 0


def test_a_handler_may_kill_all_other_workers(context):
    gate = Event()
    handle = Recorder(wait=gate.wait)
    handle.actions["kill"] = lambda: gevent.killall(handle.greenlets[:-1], timeout=10)
    with fed(context, handle, INPROC, spawn=4) as (_, client):
        send_each(client, b"wait", b"wait", b"wait", b"kill", *[b"x"] * 5)
        wait_until(lambda: len(handle.begun) == 9)
        assert all(each.dead for each in handle.greenlets[:3])


@workers
def test_a_timeout_that_a_handler_left_running_is_reported_and_the_service_goes_on(
    context, spawn, leave_timeout
):
    errors = []
    handle = Recorder(leave=leave_timeout)
    with fed(context, handle, INPROC, spawn=spawn, on_error=lambda *what: errors.append(what)) as (
        server,
        client,
    ):
        for count in range(1, 4):
            client.send(b"leave")
            wait_until(lambda: len(errors) == count)  # noqa: B023
        client.send(b"x")
        wait_until(lambda: len(handle.begun) == 4)
        assert server.started
    assert [(type(error), message) for error, message in errors] == [(gevent.Timeout, None)] * 3


def test_a_timeout_that_strikes_a_parked_worker_is_reported(context, leave_timeout):
    errors = []
    gate = Event()

    def leave():
        gate.wait()
        leave_timeout()

    handle = Recorder(leave=leave)
    with fed(
        context, handle, INPROC, spawn=3, on_error=lambda error, _: errors.append(type(error))
    ) as (_, client):
        client.send(b"leave")
        wait_until(lambda: handle.begun)
        all_blocked()  # another leads now
        gate.set()
        wait_until(lambda: errors == [gevent.Timeout])
        send_each(client, b"x", b"leave", b"leave", b"leave")
        wait_until(lambda: len(handle.begun) == 5)
        wait_until(lambda: len(errors) == 4)


@workers
def test_a_handler_may_pause_its_source(context, spawn):
    def pause():
        server.pause()
        gevent.sleep(0)

    handle = Recorder(pause=pause)
    with fed(context, handle, INPROC, spawn=spawn) as (server, client):
        client.send(b"pause")
        wait_until(lambda: handle.begun)
        client.send(b"x")
        all_blocked()
        assert handle.begun == [b"pause"]
        server.resume()
        wait_until(lambda: handle.begun == [b"pause", b"x"])


def workers_at_rest(context, handle, gate):
    """A server with a leader and three parked workers."""
    server = Source.open(zmq.PULL, handle, bind=INPROC, context=context, spawn=4)
    client = Source.open(zmq.PUSH, connect=INPROC, context=context, linger=0)
    server.start()
    send_each(client, b"wait", b"wait", b"wait", b"wait")
    wait_until(lambda: len(handle.begun) == 4)
    gate.set()
    all_blocked()
    assert not any(each.dead for each in handle.greenlets)
    return server, client


@pytest.mark.parametrize(
    "end",
    [Source.stop, Source.close, lambda server: server.socket.close()],
    ids=["stop", "close", "lost"],
)
def test_idle_workers_end_with_their_source(context, end):
    gate = Event()
    handle = Recorder(wait=gate.wait)
    server, client = workers_at_rest(context, handle, gate)
    server._core._on_error = lambda *_: None
    with closing(server, client):
        with gevent.Timeout(10):
            end(server)
        wait_until(lambda: all(each.dead for each in handle.greenlets))


def test_each_idle_worker_is_dismissed_once_or_twice_however_many_there_are(context, monkeypatch):
    """When each that ended dismissed all others, 4,000 of them took the hub for 13 seconds."""
    switched = []

    class CountingWaiter(Waiter):
        def switch(self, value):
            switched.append(self)
            super().switch(value)

    monkeypatch.setattr(crew, "Waiter", CountingWaiter)
    gate, count = Event(), 200
    handle = Recorder(wait=gate.wait)
    with fed(context, handle, INPROC, spawn=count) as (server, client):
        send_each(client, *[b"wait"] * count)
        wait_until(lambda: len(handle.begun) == count)
        gate.set()
        all_blocked()
        switched.clear()
        server.close()
        all_blocked()
        assert all(each.dead for each in handle.greenlets)
    assert count - 1 <= len(switched) <= 2 * count


def test_workers_end_with_a_source_that_was_closed_while_all_are_in_handlers(context):
    gate = Event()
    handle = Recorder(wait=gate.wait)
    with fed(context, handle, INPROC, spawn=4) as (server, client):
        send_each(client, *[b"wait"] * 4)
        wait_until(lambda: len(handle.begun) == 4)
        server.close()
        gate.set()
        wait_until(lambda: all(each.dead for each in handle.greenlets))
        assert server.stats().dropped == {}


def test_a_handler_that_stops_its_source_waits_for_what_is_in_hand(context):
    """The others, and no more than there are workers."""
    left = []

    def stop():
        left.append(server.stats().in_hand)
        left.append(server.stop(10, drain=False))
        left.append(len(handle.begun))

    handle = Recorder(stop=stop, slow=lambda: gevent.sleep(0.01))
    with fed(context, handle, INPROC, spawn=8) as (server, client):
        fill_hand(server, client, handle.begun)
        send_each(client, b"stop", *[b"slow"] * 20)
        all_blocked()
        server.resume()
        wait_until(lambda: server.closed)
        in_hand, unsent, begun = left
        assert 0 < in_hand < 8
        assert unsent == []
        assert begun == len(handle.begun) == 21 + in_hand
        assert server.stats().dropped == {"unread": 20 - in_hand}


def test_a_close_ends_the_stop_of_a_handler_that_waits_for_what_is_in_hand(context):
    left = []

    def stop():
        left.append(server.stats().in_hand)
        server.stop(3600)
        left.append(server.stats().dropped)

    handle = Recorder(stop=stop)
    with fed(context, handle, INPROC, spawn=8) as (server, client):
        fill_hand(server, client, handle.begun)
        send_each(client, b"stop", *[b"x"] * 20)
        all_blocked()
        server.resume()
        gevent.get_hub().loop.run_callback(server.close)  # before another worker can lead
        wait_until(lambda: len(left) == 2)
        in_hand, dropped = left
        assert in_hand > 0
        assert dropped == {"unhandled": in_hand}


def test_what_a_stop_cannot_handle_in_time_is_killed_or_unhandled(context):
    handle = Recorder(stuck=Event().wait)
    with fed(context, handle, INPROC) as (server, client):
        fill_hand(server, client, handle.begun)
        send_each(client, b"stuck", *[b"x"] * 5)
        all_blocked()
        server.resume()
        wait_until(lambda: b"stuck" in handle.begun)
        in_hand = server.stats().in_hand
        assert in_hand > 0
        server.stop(0.05)
        all_blocked()
        assert handle.greenlets[-1].dead
        assert server.stats().dropped == {"killed": 1, "unhandled": in_hand}
        assert server.stats().in_hand == 0


def test_a_stop_by_a_handler_kills_all_but_that_one(context):
    left = []

    def stop():
        left.append(server.stop(0.05))

    handle = Recorder(stuck=Event().wait, stop=stop)
    with fed(context, handle, INPROC, spawn=3) as (server, client):
        send_each(client, b"stuck", b"stuck", b"stop")
        wait_until(lambda: left)
        wait_until(lambda: all(each.dead for each in handle.greenlets))
        assert server.stats().dropped == {"killed": 2}


def test_a_worker_that_resists_the_kill_ends_after_its_handler(context):
    gate = Event()

    def resist():
        with contextlib.suppress(gevent.GreenletExit):
            Event().wait()
        gate.wait()

    handle = Recorder(resist=resist)
    with fed(context, handle, INPROC, spawn=3) as (server, client):
        client.send(b"resist")
        wait_until(lambda: handle.begun)
        server.stop(0.05)
        assert server.closed
        all_blocked()
        assert not handle.greenlets[0].dead
        gate.set()
        wait_until(lambda: handle.greenlets[0].dead)
