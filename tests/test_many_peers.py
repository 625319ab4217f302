"""A ROUTER with many full peers: none is forgotten, and they cost what one does."""

import contextlib
import functools
import random
from typing import Any

import gevent
import pytest
import zmq
from fleets import BODY, FEW, Counted, GreenFleet, SourceFleet, edges_eaten
from helpers import closing, endpoint_of

from gzmqsource import SendError, Source
from gzmqsource._socket.destinations import Destinations
from gzmqsource._socket.writers import ManyWriters
from gzmqsource._source.flusher import Flusher
from gzmqsource.testing import all_blocked, wait_until

#: Many times as many as are tried at a time.
MANY = 5 * FEW

fleets = pytest.mark.parametrize("fleet_class", [SourceFleet, GreenFleet])


@pytest.fixture(params=["inproc", "tcp"])
def transport(request):
    return request.param


@fleets
def test_a_full_peer_that_begins_to_read_is_found_at_every_moment(context, endpoint, fleet_class):
    chance = random.Random(17)
    with contextlib.closing(fleet_class(context, endpoint, MANY)) as fleet:
        fleet.fill_all()
        for trial in range(40):
            reader = chance.randrange(MANY)

            def look():
                gevent.sleep(0.001 + chance.random() * 0.02)
                fleet.shared.readiness.recheck()

            def come(other=(reader + 1) % MANY):
                gevent.sleep(0.001 + chance.random() * 0.02)
                fleet.peers[other].send(b"an edge")
                fleet.receive()

            # While the clock runs after what moved last, in its rounds, and in silence.
            happens = (lambda: None, look, come)[trial % 3]
            fleet.move(reader, after=chance.random() * 0.025, meanwhile=happens)
            fleet.fill_for_good([reader])


def test_a_round_tries_all_full_peers_however_little_an_attempt_may_send(context, monkeypatch):
    monkeypatch.setattr(Flusher, "max_messages", 2)
    with contextlib.closing(SourceFleet(context, "inproc://router", MANY)) as fleet:
        receiving = gevent.spawn(fleet.router.recv)
        fleet.fill_all()  # until a round has shown that none of them has room
        counted = fleet.count()
        fleet.many.note_use()
        wait_until(fleet.is_silent)
        assert MANY <= counted.tried <= 3 * MANY
        receiving.kill()


@fleets
def test_many_full_peers_cost_nothing_while_nothing_happens(context, endpoint, fleet_class):
    with contextlib.closing(fleet_class(context, endpoint, MANY)) as fleet:
        fleet.fill_all()
        counted = fleet.count()
        with edges_eaten(fleet.shared.readiness._fd) as were_eaten:

            def is_quiet():
                """Whether nothing was tried for a while; the kernel may be late, and make room."""
                tried, edges = counted.tried, fleet.shared.readiness.edges
                were_eaten()
                gevent.sleep(10 * ManyWriters.confirm_after)
                is_same = counted.tried == tried and not were_eaten()
                return is_same and fleet.shared.readiness.edges == edges and fleet.is_silent()

            wait_until(is_quiet)


@fleets
def test_a_message_to_a_peer_that_reads_costs_few_attempts_beside_many_full(context, fleet_class):
    with contextlib.closing(fleet_class(context, "inproc://router", MANY)) as fleet:
        fleet.fill_all()
        counted = fleet.count()
        serve, costs = fleet.many.serve, []

        def count(is_edge):
            before = counted.tried
            serve(is_edge)
            costs.append(counted.tried - before)

        fleet.many.serve = count
        for _ in range(20):
            fleet.move(0)
            fleet.fill(0)
        assert costs
        # Hot ones, cold ones, hot ones once more; and what has moved, until it is full again.
        assert max(costs) <= 3 * FEW + 4


@fleets
def test_a_message_costs_neither_attempt_nor_look_beside_peers_that_never_read(
    context, fleet_class
):
    with contextlib.closing(fleet_class(context, "inproc://router", MANY)) as fleet:
        fleet.fill_for_good(range(1, MANY))
        fleet.many.confirm_after = 60  # it is not due meanwhile
        for _ in range(2):
            fleet.many.destinations.take_all()  # all are cold
        readiness = fleet.shared.readiness
        events = readiness._events
        looks: list[int] = []
        received: list[None] = []

        def has_received(count):
            return len(received) > count

        def read_events():
            looks.append(len(received))
            return events()

        def receive():
            while True:
                fleet.receive()
                received.append(None)

        receiving = gevent.spawn(receive)
        for number in range(20):
            all_blocked()
            fleet.peers[0].send(b"an edge")
            wait_until(functools.partial(has_received, number))
            if not number:  # the clock runs now
                counted = fleet.count()
                readiness._events = read_events
        assert (counted.tried, looks) == (0, [])
        receiving.kill()


@fleets
def test_a_call_that_eats_an_edge_leaves_neither_readers_nor_the_hot_to_the_clock(
    context, fleet_class
):
    with contextlib.closing(fleet_class(context, "inproc://router", MANY)) as fleet:
        fleet.fill_for_good(range(1, MANY))
        fleet.many.confirm_after = 60
        for _ in range(2):
            fleet.many.destinations.take_all()  # all are cold
        receiving = gevent.spawn(fleet.router.recv)
        all_blocked()
        fleet.peers[0].send(b"an edge")
        fleet.shared.readiness._events()
        fleet.shared.readiness.recheck()
        receiving.get(timeout=10)
        sent = fleet.sent
        fleet.many.destinations.add(fleet.key(1))  # it is hot
        while fleet.peers[1].poll(0):
            fleet.peers[1].recv()
        fleet.shared.readiness._events()
        fleet.shared.readiness.recheck()
        wait_until(lambda: fleet.sent > sent)


@fleets
def test_an_edge_leaves_the_cold_to_the_clock_while_that_runs(context, fleet_class):
    with contextlib.closing(fleet_class(context, "inproc://router", MANY)) as fleet:
        fleet.fill_all()
        fleet.many.confirm_after = 60
        for _ in range(2):
            fleet.many.destinations.take_all()  # all are cold
        counted = fleet.count()
        for _ in range(2):
            gevent.get_hub().loop.run_callback(fleet.many.serve, True)
            all_blocked()
            assert counted.tried == FEW


def test_a_message_to_a_peer_that_has_room_takes_the_shortcut_past_the_lanes_of_others(context):
    with contextlib.closing(SourceFleet(context, "inproc://router", 3)) as fleet:
        fleet.fill_for_good([1, 2])
        shortcuts = fleet.shared.shortcuts
        all_blocked()
        fleet.shared.budget.restart()
        sent = fleet.sent
        assert shortcuts.send([fleet.key(0), b"to one that reads"])
        assert fleet.peers[0].recv() == b"to one that reads"
        while fleet.peers[1].poll(0):
            fleet.peers[1].recv()
        fleet.shared.readiness._events()  # there is room, and the lane has not had its turn
        assert not shortcuts.send([fleet.key(1), b"behind others"])
        assert fleet.sent == sent + 1


def test_lanes_that_are_filled_together_are_tried_together(context):
    with contextlib.closing(SourceFleet(context, "inproc://router", MANY)) as fleet:
        fleet.fill_for_good([0])
        fleet.many.confirm_after = 60  # it is not due meanwhile
        for index in range(1, MANY):
            for _ in range(2):
                fleet.router.send([fleet.key(index), BODY])
        wakes: list[bool] = []
        wake = fleet.shared.readiness._wake_writers

        def wake_writers():
            wakes.append(True)
            wake()

        fleet.shared.readiness._wake_writers = wake_writers
        counted = fleet.count()
        for index in range(1, MANY):
            fleet.router.send_nowait([fleet.key(index), BODY])  # without a turn of the hub
        all_blocked()
        assert len(wakes) == 1
        assert len(fleet.many.destinations) == MANY
        # By `send` itself, when they were filled, and a few more.
        assert counted.tried <= 2 * MANY + 8 * FEW


def test_of_many_lanes_that_have_room_an_attempt_looks_at_those_that_it_can_send_from(
    context, endpoint
):
    source = Source.open(zmq.ROUTER, bind=endpoint, context=context, router_mandatory=0)
    with closing(source):
        counted = source._core.socket.transfer = Counted(source._core.socket.transfer)
        put = functools.partial(source._core.outbox.put, flush=lambda: None)
        for number in range(5000):
            put([b"%d" % number, b"x"], False, None, lambda: dict)
        assert source.flush(30)
        assert counted.tried == 5000
        assert counted.offered < 2 * 5000


def test_the_lane_of_a_peer_that_is_gone_is_refused_as_a_whole(context):
    errors: list[tuple[BaseException, list[bytes]]] = []
    fleet = SourceFleet(
        context,
        "inproc://router",
        20,
        on_error=lambda error, message: errors.append((error, message)),
    )
    with contextlib.closing(fleet):
        fleet.fill_all()
        outbox = fleet.router._core.outbox
        for index in range(20):
            for number in range(30):
                fleet.router.send([fleet.key(index), b"%d" % number])
        counted = fleet.count()
        queued = sum(map(fleet.queued, range(5, 20)))
        for peer in fleet.peers[5:]:
            peer.close()
        wait_until(lambda: len(outbox.lanes) == 5)
        wait_until(lambda: len(errors) == queued)
        assert all(isinstance(error, SendError) for error, _ in errors)
        for index in range(5, 20):
            mine = [message for _, message in errors if message[0] == fleet.key(index)]
            assert [int(message[1]) for message in mine[-30:]] == list(range(30))
        assert fleet.router.stats().dropped == {"refused": len(errors)}
        # Each is refused once; what is put off for the sake of the turn, once more.
        assert counted.refused.count(zmq.EHOSTUNREACH) < 2 * 15


def test_putters_behind_a_peer_that_is_gone_are_refused_too(context):
    errors: list[BaseException] = []
    fleet = SourceFleet(
        context, "inproc://router", 20, outbox=1, on_error=lambda error, _: errors.append(error)
    )
    with contextlib.closing(fleet):
        fleet.fill_all()
        waiting = [
            gevent.spawn(fleet.router.send, [fleet.key(0), b"%d" % number]) for number in range(10)
        ]
        gevent.sleep(0)
        fleet.peers[0].close()
        gevent.joinall(waiting, timeout=10, raise_error=True)
        wait_until(lambda: len(errors) == 11)


def test_a_peer_that_returns_gets_what_is_sent_after_its_return(context, endpoint):
    fleet = SourceFleet(context, endpoint, MANY, on_error=lambda *_: None)
    with contextlib.closing(fleet):
        fleet.fill_all()
        fleet.peers[0].close()
        wait_until(lambda: fleet.key(0) not in fleet.router._core.outbox.lanes)
        with contextlib.closing(
            Source.open(
                zmq.DEALER,
                connect=endpoint_of(fleet.router),
                context=context,
                routing_id=fleet.key(0),
            )
        ) as returned:
            returned.send(b"again")
            fleet.receive()
            for number in range(50):
                fleet.router.send([fleet.key(0), b"%d" % number])
            assert [returned.recv(timeout=10) for _ in range(50)] == [
                [b"%d" % number] for number in range(50)
            ]


def test_a_send_that_gives_up_beside_many_full_peers_has_tried_its_own_at_last(context):
    with contextlib.closing(GreenFleet(context, "inproc://router", MANY)) as fleet:
        fleet.fill_all()
        fleet.waiting[3].kill()
        fleet.many.confirm_after = 60  # without the clock
        fleet.router.sndtimeo = 100
        sending = gevent.spawn(fleet.router.send_multipart, [fleet.key(3), b"last"])
        gevent.sleep(0.02)
        for _ in range(2):
            fleet.many.destinations.take_all()  # it is cold
        fleet.peers[3].recv()
        fleet.shared.readiness._events()  # the edge is eaten
        sending.get(timeout=10)


def test_a_second_round_in_vain_cools_what_has_taken_nothing_since_the_first():
    destinations: Any = Destinations()
    for key in range(40):
        destinations.add(key)
    assert destinations.take_hot() == list(range(16))
    assert destinations.take_some() == list(range(16, 32))
    assert sorted(destinations.take_all()) == list(range(40))
    assert destinations.take_some() == [*range(32, 40), *range(8)]
    destinations.add(5)
    assert sorted(destinations.take_all()) == list(range(40))
    assert destinations.take_hot() == [5]
    assert len(destinations.take_some()) == 1 + 16
    destinations.add(6)
    assert sorted(destinations.take_hot()) == [5, 6]


def test_each_of_many_has_its_turn():
    destinations: Any = Destinations()
    for key in range(100):
        destinations.add(key)
    assert {key for _ in range(7) for key in destinations.take_hot()} == set(range(100))
    for _ in range(2):
        destinations.take_all()
    assert destinations.take_hot() == []
    assert {key for _ in range(7) for key in destinations.take_some()} == set(range(100))


def test_xpub_without_drops_waits_for_its_full_subscriber_and_costs_nothing(context):
    source = Source.open(
        zmq.XPUB, bind="inproc://xpub", context=context, sndhwm=1, xpub_nodrop=1, linger=0
    )
    with closing(source), context.socket(zmq.SUB) as subscriber:
        subscriber.rcvhwm = 1
        subscriber.subscribe(b"")
        subscriber.connect("inproc://xpub")
        source.recv(timeout=10)
        for number in range(10):
            source.send(b"%d" % number)
        many: Any = source._core.socket.readiness.many
        wait_until(lambda: many._timer is None)
        for number in range(10):
            wait_until(lambda: subscriber.poll(0))
            assert subscriber.recv() == b"%d" % number
