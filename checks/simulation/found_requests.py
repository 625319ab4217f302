"""Schedules of requests that once broke an invariant."""

from simulation.requests_world import RequestsWorld
from simulation.workers_world import WorkersWorld


def with_one_of_each(**options):
    """Return a world with one server and one asker, unless there is to be more."""
    usual = {
        "servers": 1,
        "askers": 1,
        "spawn": 2,
        "waiting": 3,
        "plain": 0,
        "deaf": False,
        "room": 1000,
        "steady": False,
        "marks": 1,
        "delay": 1,
    }
    return RequestsWorld(**usual | options)


def test_a_link_that_is_closed_while_it_closes_its_old_socket_makes_no_new_one():
    """The new socket was one that nobody closed."""
    world = with_one_of_each(servers=3, askers=2, spawn="spawned", plain=1)
    world.finish()


def test_an_asker_that_was_stuck_hears_how_its_request_has_ended():
    """The server had cancelled it, for the asker was silent, and said nothing."""
    world = with_one_of_each()
    world.hold(server=0)
    world.settle()
    world.ask(asker=0, timeout=None, retries=0, mood="wait")
    world.advance(seconds=0.4)
    world.stick(which=1)
    world.advance(seconds=5.0)
    world.unstick()
    world.finish()


def test_a_stop_ends_when_its_responder_is_closed_meanwhile():
    """It went on to wait for askers that could not be heard any more."""
    world = with_one_of_each(servers=2, askers=2, spawn=1, waiting=100, deaf=True, room=3, delay=2)
    world.ask(asker=1, timeout=None, retries=0, mood="answer")
    world.advance(seconds=0.002)
    world.stop(server=2, timeout=30.0)
    world.die(server=2)
    world.finish()


def test_an_attempt_that_comes_after_a_later_one_does_not_take_its_reply():
    """The reply went to a connection that was cut, and the asker waited for ever."""
    world = with_one_of_each(servers=2, waiting=0, deaf=True, steady=True, marks=1000, delay=2)
    world.stick(which=1)
    world.ask(asker=0, timeout=3.0, retries=3, mood="doze")
    world.ask(asker=0, timeout=0.01, retries=1, mood="sleep")
    world.ask(asker=1, timeout=0.35, retries=3, mood="doze")
    world.ask(asker=0, timeout=None, retries=3, mood="doze")
    world.settle()
    world.cut(asker=0, server=1)
    world.advance(seconds=0.4)
    world.finish()


def test_a_stop_may_give_up_a_reply_that_is_repeated():
    """What is asked again is no new request; the world counted those only."""
    world = with_one_of_each(spawn=None, waiting=1, deaf=True, room=3, steady=True, delay=0)
    world.shout(server=2, what=6)
    world.settle()
    world.shout(server=1, what=2)
    world.carry(messages=1)
    world.step(which=0, things=1)
    world.stop(server=1, timeout=5.0)
    world.finish()


def test_who_asks_is_told_before_the_source_is_closed():
    """A stop without time gives up its requests first; the world waited for the end."""
    world = WorkersWorld(spawn=1, outbox=1, marks=1, delay=2)
    world.settle()
    world.ask(timeout=None, retries=0, raises=True)
    world.step(things=5)
    world.ask(timeout=0.5, retries=0, raises=False)
    world.ask(timeout=0.5, retries=2, raises=True)
    world.step(things=4)
    world.hold()
    world.stop(which=1, timeout=0.0)
    world.settle()
    world.finish()


def test_a_stop_that_ends_its_own_handler_is_a_stop_by_force():
    """The handler did not go on, and the world knew nothing of the end of its time."""
    world = with_one_of_each(
        servers=2, askers=2, spawn="spawned", waiting=100, deaf=True, room=1, marks=2
    )
    world.shout(server=1, what=6)
    world.ask(asker=1, timeout=0.35, retries=3, mood="stop", count=4)
    world.settle()
    world.stick(which=1)
    world.advance(seconds=1.5)
    world.ask(asker=0, timeout=None, retries=0, mood="answer", count=1)
    world.finish()


TESTS = [test for name, test in list(globals().items()) if name.startswith("test_")]
