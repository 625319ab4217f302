"""Schedules that once broke an invariant."""

import itertools

import zmq

from simulation.crew_world import CrewWorld
from simulation.green_world import GreenWorld
from simulation.many_world import ManySourceWorld
from simulation.poll_world import PollWorld
from simulation.source_world import SourceWorld
from simulation.sources_world import SourcesWorld
from simulation.world import CALL, loop


def test_a_flush_that_begins_while_the_source_is_stopped_ends():
    """gevent's event forgot who came while others were notified."""
    world = SourceWorld(
        kind="PUSH",
        overflow="block",
        outbox=4,
        marks=1,
        handler="none",
        mandatory=False,
        slow=False,
        delay=2,
    )
    world.stop(timeout=0.0)
    world.send_nowait(frames=3, peer=1)
    world.flush(timeout=None)
    world.attach(peer=1)
    world.finish()


def test_a_thread_reaches_its_peer_while_another_is_full():
    """The flusher waited for the full one, and did not try for the other."""
    world = SourceWorld(
        kind="ROUTER",
        overflow="block",
        outbox=1,
        marks=1,
        handler="own",
        mandatory=True,
        slow=True,
        delay=1,
    )
    world.send(frames=2, peer=2, timeout=None)
    world.attach(peer=2)
    world.send_nowait(frames=2, peer=2)
    world.send_nowait(frames=2, peer=2)
    world.settle()
    world.send_from_thread(frames=1, peer=1)
    world.finish()


def test_a_forked_child_does_not_go_on_polling():
    """Its watchers ran, and libzmq never answers a call on an inherited socket."""
    world = GreenWorld(kind="DEALER", marks=1, mandatory=False, timeout=-1, delay=0)
    world.poll(timeout=None, mask=zmq.POLLIN)
    world.settle()
    world.fork()
    world.finish()


def test_all_who_wait_are_told_that_the_context_ends():
    """Who polled ate the edge, and told nobody."""
    world = GreenWorld(kind="PULL", marks=1, mandatory=True, timeout=1000, delay=2)
    world.recv()
    world.poll(timeout=1000, mask=zmq.POLLIN)
    world.attach(peer=2)
    world.advance(seconds=0.012)
    world.peer_sends(peer=2, frames=2)
    world.recv()
    world.step(things=5)
    world.end_context()
    world.finish()


def test_a_message_that_goes_out_as_its_time_is_over_counts_as_sent():
    """``EAGAIN`` was raised for a message that libzmq had taken."""
    world = GreenWorld(kind="PAIR", marks=1, mandatory=True, timeout=1000, delay=2)
    world.send(frames=3, peer=0)
    world.send(frames=3, peer=2)
    world.step(things=3)
    world.ambush(calls=3, peer=0, what=0)
    world.advance(seconds=1.5)
    world.finish()


def test_a_green_send_to_one_peer_does_not_wait_for_another_that_is_full():
    """Who came later was not tried before the full one moved."""
    world = GreenWorld(kind="ROUTER", marks=1, mandatory=True, timeout=-1, delay=0)
    world.attach(peer=2)
    for _ in range(3):
        world.send(frames=1, peer=2)
    world.settle()
    world.send(frames=3, peer=0)
    world.settle()
    world.finish()


def test_a_call_after_the_end_of_the_context_leaves_nothing_half_made():
    """``__del__`` missed what ``__init__`` had not come to."""
    world = GreenWorld(kind="DEALER", marks=2, mandatory=True, timeout=1000, delay=0)
    world.end_context()
    world.look()
    world.recv()
    world.finish()


def with_two_full_peers():
    world = SourceWorld(
        kind="ROUTER",
        overflow="raise",
        outbox=4,
        marks=1,
        handler="none",
        mandatory=True,
        slow=False,
        delay=1,
    )
    for peer in range(2):
        world.attach(peer=peer)
        world.settle()
        world.fill(peer=peer)
    world.settle()
    return world


def test_room_is_found_that_a_send_to_another_peer_has_eaten():
    """The confirming retry of `Readiness.write` finds it, whichever call is late."""
    for calls in range(1, 9):
        world = with_two_full_peers()
        world.ambush(calls=calls, peer=0, what=1, stall=0.002)
        world.attach(peer=2)
        world.settle()
        world.finish()


def test_room_is_found_that_comes_as_libzmq_looks_for_commands_again():
    """In the second half of a round that is no confirmed one, a send may eat another's edge."""
    for calls in range(1, 13):
        world = with_two_full_peers()
        world.attach(peer=2)
        world.step(things=12)
        world.advance(seconds=0.0009)
        world.ambush(calls=calls, peer=0, what=1, stall=0.0002)
        world.peer_sends(peer=2, frames=2)
        world.settle()
        world.finish()


def test_sndtimeo_ends_where_pollout_says_nothing():
    """The last look woke the writer, whose next wait of no time began with a last look."""
    world = GreenWorld(kind="PUB", marks=1, mandatory=True, timeout=1000, delay=0, attached=1)
    for _ in range(4):
        world.send(frames=1, peer=0)
    world.advance(seconds=1.5)
    world.finish()


def test_what_an_overridden_send_was_refused_can_be_sent_anew():
    """The frame before the refused call was still held, and the message began with it twice."""
    world = GreenWorld(
        kind="DEALER", marks=1, mandatory=True, timeout=1000, delay=0, overridden=True
    )
    world.send_frames(
        frames=3, peer=1, flags=0, pause="none", limit=None, again="whole", joined=True
    )
    world.advance(seconds=1.5)
    world.attach(peer=0)
    world.finish()


def test_a_poll_that_gives_up_has_looked_again():
    """The clock won over the message that was there."""
    world = GreenWorld(kind="DEALER", marks=1, mandatory=True, timeout=-1, delay=0, attached=3)
    world.poll(timeout=1000, mask=zmq.POLLIN)
    world.step(things=5)
    world.peer_sends(peer=2, frames=1)
    world.hold_up(seconds=1.5)
    world.finish()


def test_a_poller_hears_of_what_a_second_greenlet_has_found_on_it():
    """The look of one that polled ate the edge of another that waited on the same poller."""
    world = PollWorld(kinds=("DEALER", "PAIR", "plain"), delay=1, steady=True)
    world.poll(poller=1, timeout=None)
    world.zmq_poll(one=9, other=2, masks=3, timeout=1000, limit=0.0)
    world.ambush(calls=5, which=7, what="connects")
    world.poll(poller=1, timeout=None, limit=0.0)
    world.register(poller=1, which=7, mask=3)
    world.finish()


def test_zmq_poll_hears_of_a_socket_that_is_named_twice():
    """It was read for each entry, and the second reading ate what the first had been there for."""
    world = PollWorld(kinds=("PULL", "DEALER"), delay=2, steady=False)
    world.ambush(calls=2, which=4, what="sends")
    world.ambush(calls=1, which=4, what="connects")
    world.zmq_poll(one=8, other=0, masks=3, timeout=None)
    world.finish()


def test_a_reader_that_was_woken_for_nothing_keeps_its_place():
    """Two notices of one message woke two readers, and the second waited behind the third."""
    world = GreenWorld(
        kind="PAIR", marks=1, mandatory=True, timeout=1000, delay=1, attached=2, steady=True
    )
    world.recv_nowait()
    world.recv(limit=None)
    world.send_frames(
        frames=2, peer=1, flags=0, pause="short", limit=0.02, again="frame", joined=True
    )
    world.recv(limit=None)
    world.recv(limit=None)
    world.ambush(calls=5, peer=0, what=3, stall=0.0)
    world.send_frames(
        frames=1, peer=0, flags=0, pause="long", limit=0.002, again="no", joined=False
    )
    world.settle()
    world.peer_sends(peer=0, frames=3)
    world.peer_sends(peer=0, frames=1)
    world.finish()


def test_no_destination_is_tried_twice_at_a_time():
    """What is left of many is few, and was taken as hot and as cold."""
    world = ManySourceWorld(
        kind="ROUTER",
        overflow="block",
        outbox=1,
        marks=1,
        handler="none",
        mandatory=True,
        slow=False,
        delay=0,
        few=2,
        full=3,
    )
    world.recv(timeout=None)
    world.many_die(first=3, count=7)
    world.stop(timeout=0.0)
    world.many_receive(first=8, count=4)
    world.step(things=5)
    world.hold_up(seconds=0.02)
    world.reap()
    world.finish()


def with_many_full_peers():
    world = ManySourceWorld(
        kind="ROUTER",
        overflow="raise",
        outbox=4,
        marks=1,
        handler="none",
        mandatory=True,
        slow=False,
        delay=1,
        few=2,
        full=6,
    )
    world.fall_silent()
    return world


def test_room_is_found_that_comes_in_a_round_after_a_send():
    """A send between two rounds lets one in the middle of the next look for commands."""
    for late, calls in itertools.product(range(0, 10, 2), range(1, 13)):
        world = with_many_full_peers()
        world.attach(peer=8)
        loop.step()
        loop.advance(world.many._timer.due - loop.time - 0.001 + late * CALL)
        world.send_nowait(frames=1, peer=7)
        loop.step()
        world.ambush(calls=calls, peer=5, what=1)
        world.settle()
        world.finish()


def test_room_is_found_that_comes_in_a_round_that_is_interrupted():
    """Its second half looks for commands, and eats the edge of a peer in the first."""
    for calls in range(1, 16):
        world = with_many_full_peers()
        world.attach(peer=8)
        loop.step()
        world.ambush(calls=calls, peer=5, what=1, stall=0.002)
        world.settle()
        world.finish()


def test_a_reader_hears_of_what_comes_in_a_round():
    """The first send after `ZMQ_EVENTS` was read must not look for commands."""
    for calls in range(1, 16):
        world = with_many_full_peers()
        world.attach(peer=8)
        world.settle()
        world.recv(timeout=None)
        loop.step()
        world.ambush(calls=calls, peer=8, what=3)
        world.settle()
        world.finish()


def test_a_clock_may_go_on_until_a_stop_has_ended():
    """The stop looks for room for what is queued; the world expected silence."""
    world = ManySourceWorld(
        kind="ROUTER",
        overflow="block",
        outbox=4,
        marks=2,
        handler="none",
        mandatory=True,
        slow=True,
        delay=1,
        few=1,
        full=6,
    )
    world.recv(timeout=1.0)
    world.step(things=5)
    world.stop(timeout=5.0)
    world.peer_sends(peer=2, frames=2)
    world.peer_sends(peer=4, frames=2)
    world.fall_silent()
    world.finish()


def test_a_source_that_is_paused_goes_on_sending():
    """The others were late by what it takes for a message, and the world did not count that."""
    world = SourcesWorld(
        ways=("handler", "sends"),
        works=(5e-05, 5e-05, 5e-05, 0.002),
        count=6,
        marks=2,
        libuv=True,
        delay=1,
    )
    world.pause(which=3, is_paused=True)
    world.flood(seconds=0.008)
    world.finish()


def test_what_a_peer_sends_after_a_stop_has_begun_may_be_lost():
    """The stop was killed, and the world expected that all connections were still there."""
    world = CrewWorld(spawn="3", mood="return", marks=1, slow=False, delay=1)
    world.feel(mood="wait")
    world.stop(timeout=5.0)
    world.ambush(calls=8, peer=2, what=2, stall=0.002)
    world.peer_sends(peer=1, frames=3)
    world.settle()
    world.kill(which=6)
    world.ambush(calls=1, peer=2, what=3, stall=0.002)
    world.attach(peer=2)
    world.look()
    world.finish()


def test_one_that_is_owed_time_has_it_and_the_calls_of_others_take_some():
    """The world did not count what the calls of quick ones take."""
    world = SourcesWorld(
        ways=("sends", "pulled"),
        works=(5e-05, 5e-05, 5e-05, 0.002),
        count=6,
        marks=40,
        libuv=True,
        delay=2,
    )
    world.kill(which=7)
    world.close(which=2)
    world.flood(seconds=0.016)
    world.kill(which=5)
    world.settle()
    world.flood(seconds=0.016)
    world.finish()


def test_a_slow_message_is_the_only_one_of_its_turn():
    """Two slow sources that were pulled had three and two at once after an edge."""
    world = SourcesWorld(
        ways=("pool", "pulled"),
        works=(5e-05, 5e-05, 5e-05, 0.002),
        count=8,
        marks=40,
        libuv=False,
        delay=2,
    )
    world.flood(seconds=0.016)
    world.settle()
    world.flood(seconds=0.016)
    world.finish()


def test_a_debt_ends_with_the_flood():
    """A socket that had its part at the end of one flood waited at the beginning of the next."""
    world = SourcesWorld(
        ways=("polled", "green sends"), works=(5e-05,), count=8, marks=40, libuv=True, delay=0
    )
    world.flood(seconds=0.008)
    world.settle()
    world.flood(seconds=0.008)
    world.advance(seconds=1.5)
    world.flood(seconds=0.016)
    world.finish()


def test_a_poll_that_has_yielded_is_not_forgotten_with_its_set():
    """One without a timeout returned nothing, as a later one had found a socket closed."""
    world = PollWorld(kinds=("PULL", "PUSH", "plain", "plain"), delay=1, steady=False, libuv=True)
    world.poll(poller=1, timeout=None, limit=None)
    world.zmq_poll(one=4, other=7, masks=7, timeout=None, limit=None)
    world.stall(calls=4, seconds=0.02)
    world.poll(poller=1, timeout=None, limit=0.002)
    world.step(things=3)
    world.poll(poller=1, timeout=1000, limit=None)
    world.register(poller=1, which=0, mask=3)
    world.close(which=8)
    world.finish()


TESTS = [test for name, test in list(globals().items()) if name.startswith("test_")]
