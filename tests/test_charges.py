"""The charges of sockets in the slices of a hub: who waits for whom, and for how long."""

import functools
import gc
import time

import gevent
from gevent.hub import get_hub
from slices import spent, until


def test_what_a_socket_uses_after_an_edge_counts_while_others_wait(budgets):
    quiet, busy, other = budgets(100), budgets(100), budgets()
    waiting = gevent.spawn(other.yield_to_io)
    gevent.sleep(0)
    busy.quick_turns = 0
    busy.shared.run(busy, lambda: until(time.thread_time() + 0.01))
    busy.restart()
    assert spent(busy) == 2
    quiet.shared.ends = float("inf")  # or the rest of the slice may be too short for two
    quiet.restart()
    assert spent(quiet) > 1
    assert not busy.shared.may_run(busy)
    waiting.join()
    busy.shared.run(busy, lambda: None)
    busy.shared.ends = float("inf")
    busy.restart()
    assert spent(busy) > 1


def in_debt(budgets):
    """Return a budget that has had much more than another, and no budget waits any more."""
    budget, other = budgets(100), budgets()
    waiting = gevent.spawn(other.yield_to_io)
    gevent.sleep(0)
    budget.quick_turns = 0
    budget.shared.run(budget, lambda: until(time.thread_time() + 0.01))
    assert not budget.shared.may_run(budget)
    waiting.join()
    return budget


def test_a_debt_ends_when_none_waits_any_more(budgets):
    """After hours, a quiet socket was late by a second beside a busy one, for one long turn."""
    debtor = in_debt(budgets)
    waiting = gevent.spawn(budgets().yield_to_io)
    gevent.sleep(0)
    assert debtor.shared.may_run(debtor)
    waiting.join()


def test_a_debt_lasts_while_greenlets_run_that_others_have_spawned(budgets):
    debtor, other = in_debt(budgets), budgets()
    ran = []

    def run():
        other.shared.enqueue(other)
        ran.append(debtor.shared.may_run(debtor))

    budgets(100).run_spawned(lambda: get_hub().loop.run_callback(run))
    assert ran == [False]


def test_one_long_turn_among_many_quick_ones_is_forgiven(budgets):
    budget, other = budgets(), budgets()
    shared = budget.shared
    waiting = gevent.spawn(other.yield_to_io)
    gevent.sleep(0)
    long = functools.partial(until_passed, 2 * shared.length)
    before = budget.charged
    shared.run(budget, long)
    assert (budget.charged, shared.may_run(budget)) == (before, True)
    for _ in range(shared.forgiven - 1):
        shared.run(budget, lambda: None)
    shared.run(budget, long)
    assert budget.charged > before
    assert not shared.may_run(budget)
    waiting.join()


def test_no_socket_is_charged_with_a_collection_of_the_garbage(budgets):
    budget, other = budgets(), budgets()
    waiting = gevent.spawn(other.yield_to_io)
    gevent.sleep(0)
    budget.quick_turns = 0
    objects = [[number] for number in range(200_000)]
    before = time.thread_time()
    budget.shared.run(budget, gc.collect)
    assert time.thread_time() - before > budget.shared.length, len(objects)
    assert budget.shared.may_run(budget)
    waiting.join()


def until_passed(seconds):
    until(time.thread_time() + seconds)


def test_a_socket_that_has_just_become_ready_is_served_before_those_that_are_busy(budgets):
    """What it was charged with is less than a slice, beside 300 others that is 0.3 s."""
    quiet, others = budgets(), [budgets() for _ in range(20)]
    shared = quiet.shared
    order = []

    def use(budget, name):
        budget.yield_to_io()
        order.append(name)

    waiting = [gevent.spawn(use, budget, "busy") for budget in others]
    gevent.sleep(0)
    shared.run(quiet, functools.partial(until_passed, shared.length / 2))
    assert quiet.charged > max(shared._charged, *(budget.charged for budget in others))
    waiting.append(gevent.spawn(use, quiet, "quiet"))
    gevent.joinall(waiting)
    assert order[0] == "quiet"
    # What it uses in its part counts, up to a slice.
    waiting = [gevent.spawn(use, budget, "busy") for budget in others]
    gevent.sleep(0)
    shared.run(quiet, lambda: None)
    quiet.charged = shared._charged + 1.1 * shared.length
    waiting.append(gevent.spawn(use, quiet, "quiet"))
    gevent.joinall(waiting)
    assert order[-1] == "quiet"


def test_one_long_turn_makes_a_socket_wait_for_a_second_at_most(budgets):
    """It is the time of the others that counts: so long a turn of each, of as many as they are."""
    shared = budgets().shared
    waiting = [gevent.spawn(budgets().yield_to_io) for _ in range(200)]
    gevent.sleep(0)
    late = budgets()
    late.quick_turns = 0
    before = max(late.charged, shared._charged)
    shared.run(late, lambda: until(time.thread_time() + 0.02))
    assert late.charged - before <= shared.longest_wait / 200 + 1e-9
    gevent.joinall(waiting)


def test_a_turn_within_that_of_another_is_paid_for_once(budgets):
    """The hub may serve others before all that a socket has spawned has begun."""
    outer, inner, other = budgets(100), budgets(100), budgets()
    waiting = gevent.spawn(other.yield_to_io)
    gevent.sleep(0)

    def spawn():
        gevent.get_hub().loop.run_callback(lambda: outer.shared.run(inner, compute))

    def compute():
        until(time.thread_time() + 0.01)

    inner.quick_turns = 0
    assert outer.run_spawned(spawn) < 0.005
    assert inner.charged - outer.charged > 0.005
    waiting.join()
