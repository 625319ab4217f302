"""Schedules that were found to break an invariant of brokers or of their workers."""

from simulation.broker_world import BrokerWorld
from simulation.world import check


def with_one_of_each(**options):
    """Return a world with one broker, one worker and one asker, unless there is to be more."""
    usual = {
        "brokers": 1,
        "workers": 1,
        "askers": 1,
        "spawn": 1,
        "waiting": 100,
        "redelivers": False,
        "named": False,
        "deaf": False,
        "room": 1000,
        "steady": True,
        "marks": 1000,
        "delay": 0,
    }
    return BrokerWorld(**usual | options)


def test_a_worker_that_connects_again_before_its_old_end_was_read_is_heard():
    """Its new connection had a routing id that the old one still had, and libzmq ignored it."""
    world = with_one_of_each()
    world.advance(seconds=0.4)
    world.stick(which=0)
    world.advance(seconds=0.4)
    world.cut_off(worker=0, server=0, lost=0)
    world.advance(seconds=0.4)
    world.unstick()
    world.advance(seconds=1.5)
    world.ask(asker=0, timeout=None, retries=0, mood="answer", count=1)
    world.finish()


def test_a_request_that_was_on_its_way_to_a_worker_over_a_connection_that_was_cut_is_lost():
    """The worker was there again when the broker looked, so it was waited for in vain."""
    world = with_one_of_each()
    world.advance(seconds=0.4)
    world.ask(asker=0, timeout=None, retries=0, mood="answer", count=1)
    broker, worker = world.servers[0], world.workers[0]
    asker = world.askers[0]
    while not broker.responder.stats().running:
        asker.process.step()
        world.carry(messages=1)
        broker.process.step()
    check(not worker.responder.stats().requests, "the worker has the request already")
    world.cut_off(worker=0, server=0, lost=1000)
    world.stick(which=0)
    world.advance(seconds=0.4)
    world.unstick()
    world.finish()


def test_a_worker_that_is_started_anew_by_the_same_name_has_none_of_its_requests():
    """They took its slots, and were waited for."""
    world = with_one_of_each(spawn=2, redelivers=True, named=True)
    world.ask(asker=0, timeout=0.35, retries=3, mood="doze", count=1)
    world.settle()
    world.lose_worker(worker=0)
    world.finish()


def test_a_worker_that_is_closed_while_it_leaves_raises_nothing():
    """It went on to disconnect a socket that was closed."""
    world = with_one_of_each()
    world.leave_brokers(worker=0, timeout=0.3)
    world.lose_worker(worker=0)
    world.finish()


def test_a_broker_without_workers_does_not_give_up_at_once_what_waits_when_it_stops():
    """One may join in time."""
    world = with_one_of_each()
    world.settle()
    world.leave_brokers(worker=0, timeout=5.0)
    world.advance(seconds=0.4)
    world.ask(asker=0, timeout=None, retries=0, mood="answer", count=1)
    world.settle()
    world.stop(server=0, timeout=5.0)
    world.advance(seconds=0.2)
    world.join_again(worker=0)
    world.advance(seconds=1.5)
    check(world.requests[0].outcome == "replies", f"{world.requests[0]} had no reply")
    world.finish()


def test_a_broker_that_is_closed_has_nothing_left():
    """What its workers had still counted as running."""
    world = with_one_of_each()
    world.ask(asker=0, timeout=0.35, retries=0, mood="doze", count=1)
    world.settle()
    world.die(server=0)
    world.finish()


def test_a_broker_that_gives_up_what_a_worker_has_forgets_it():
    """Its key was never free again."""
    world = with_one_of_each()
    world.ask(asker=0, timeout=0.35, retries=0, mood="doze", count=1)
    world.settle()
    world.stop(server=0, timeout=0.0)
    world.finish()


def test_a_request_that_a_worker_has_begun_is_not_refused_when_its_broker_stops():
    """It waited to be given to another one, and the asker was told that nobody had begun it."""
    world = with_one_of_each(redelivers=True)
    world.ask(asker=0, timeout=None, retries=0, mood="sleep", count=1)
    world.settle()
    world.lose_worker(worker=0)
    world.settle()
    world.stop(server=0, timeout=0.0)
    world.advance(seconds=0.4)
    check(world.requests[0].outcome == "lost", f"{world.requests[0]} was not lost")
    world.finish()


def test_what_a_worker_has_said_before_its_end_is_read_before_it_is_forgotten():
    """What it had said before, that it is there, made it a new one that had no requests."""
    world = with_one_of_each(spawn=2)
    world.advance(seconds=0.4)
    world.hold(worker=0)
    world.ask(asker=0, timeout=None, retries=0, mood="wait", count=1)
    world.settle()
    world.stick(which=0)
    world.advance(seconds=0.4)
    world.advance(seconds=0.4)
    world.release(worker=0)
    world.advance(seconds=0.002)
    world.lose_worker(worker=0)
    world.carry(messages=1000)
    world.unstick()
    world.settle()
    check(world.requests[0].outcome == "replies", f"{world.requests[0]} had no reply")
    world.finish()


def test_a_worker_that_was_stuck_and_has_died_is_asked_when_it_is_there_again():
    """The world itself still counted it as stuck."""
    world = with_one_of_each()
    world.stick(which=1)
    world.advance(seconds=1.5)
    world.lose_worker(worker=0)
    world.join_again(worker=0)
    world.advance(seconds=1.5)
    world.ask(asker=0, timeout=3.0, retries=1, mood="answer", count=1)
    world.settle()
    check(world.requests[0].outcome == "replies", f"{world.requests[0]} had no reply")
    world.finish()


def with_two_brokers(workers, room, steady):
    return BrokerWorld(
        brokers=2,
        workers=workers,
        askers=1,
        spawn="spawned",
        waiting=100,
        redelivers=False,
        named=False,
        deaf=False,
        room=room,
        steady=steady,
        marks=1000,
        delay=2,
    )


def test_a_worker_that_leaves_finishes_requests_that_take_long():
    """It said nothing that its broker answered, and took the broker for dead."""
    world = with_two_brokers(workers=2, room=1, steady=False)
    world.ask(asker=1, timeout=3.0, retries=0, mood="doze", count=4)
    world.settle()
    world.leave_brokers(worker=2, timeout=5.0)
    world.finish()


def test_a_request_that_comes_from_two_brokers_ends_for_both():
    """The one that did not get the reply counted the request as running for ever."""
    world = with_two_brokers(workers=1, room=1000, steady=True)
    world.ask(asker=1, timeout=0.01, retries=1, mood="stop", count=1)
    world.ask(asker=1, timeout=3.0, retries=1, mood="sleep", count=1)
    world.settle()
    world.ask(asker=1, timeout=None, retries=1, mood="sleep", count=4)
    world.stick(which=1)
    world.advance(seconds=5.0)
    world.finish()


def test_a_broker_that_dies_while_it_is_stuck_runs_again_for_that():
    """It had heard of nobody for as long, and the world expected that it had."""
    world = with_one_of_each(workers=2, spawn=None, waiting=0, redelivers=True, room=1, delay=1)
    world.settle()
    world.ask(asker=1, timeout=0.35, retries=3, mood="doze", count=1)
    world.ask(asker=1, timeout=3.0, retries=3, mood="raise", count=1)
    world.stick(which=4)
    world.stick(which=2)
    world.advance(seconds=5.0)
    world.die(server=2)
    world.finish()


def test_a_worker_that_ends_a_cancelled_request_is_given_the_next_one():
    """It had refused it, before it was begun, and was given no more up to its next word."""
    world = with_one_of_each(
        brokers=2, workers=3, askers=2, redelivers=True, named=True, room=3, steady=False, delay=2
    )
    world.ask(asker=1, timeout=0.01, retries=1, mood="sleep", count=4)
    world.lose_worker(worker=2)
    world.ask(asker=1, timeout=None, retries=0, mood="doze", count=4)
    world.settle()
    world.finish()


def test_a_broker_that_reads_nothing_passes_no_cancellation_on():
    """A plain peer's request waited, and the world expected that the worker knew."""
    world = BrokerWorld(
        brokers=1,
        workers=1,
        askers=1,
        spawn=None,
        waiting=0,
        redelivers=False,
        named=False,
        deaf=False,
        room=1000,
        steady=True,
        marks=1000,
        delay=0,
    )
    world.ask(asker=0, timeout=3.0, retries=0, mood="doze", count=1)
    world.advance(seconds=1.5)
    world.shout(server=2, what=0)
    world.settle()
    world.finish()


def test_a_broker_that_was_stuck_in_its_stop_is_asked_no_more():
    """It was asked after its client's NOMORE, and closed, for it counted on that."""
    world = with_one_of_each(
        brokers=2, workers=3, waiting=0, redelivers=True, room=1, steady=False, marks=1, delay=1
    )
    world.ask(asker=1, timeout=0.5, retries=3, mood="answer", count=1)
    world.ask(asker=0, timeout=0.35, retries=0, mood="answer", count=1)
    world.advance(seconds=1.5)
    world.stop(server=0, timeout=5.0)
    world.step(which=0, things=4)
    world.stick(which=0)
    world.ask(asker=0, timeout=0.35, retries=0, mood="sleep", count=1)
    world.advance(seconds=1.5)
    world.cut(asker=0, server=1)
    world.ask(asker=1, timeout=0.01, retries=0, mood="sleep", count=4)
    world.finish()


TESTS = [test for name, test in list(globals().items()) if name.startswith("test_")]
