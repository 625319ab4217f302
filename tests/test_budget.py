"""The budget: how much passes before other I/O has its turn, in C and in Python alike."""

import gc
import os
import time
from typing import Any

import gevent
import pytest
from gevent.hub import get_hub
from slices import spent, until

from gzmqsource import transfer
from gzmqsource._socket.budget import yield_to_io
from gzmqsource._socket.hub_slice import HubSlice
from gzmqsource.testing import wait_until
from gzmqsource.transfer.pure import AFTER_WAIT, LONGEST_STRIDE, PureAllowance

ALLOWANCES = [PureAllowance]
if transfer.backend == "native":
    ALLOWANCES.append(transfer._native.NativeAllowance)


@pytest.fixture(params=ALLOWANCES, ids=lambda kind: kind.__name__)
def allowance(request):
    return request.param()


def test_nothing_passes_before_a_refill(allowance):
    assert (allowance.left, allowance.spend()) == (0, False)


def test_as_many_messages_pass_as_were_allowed(allowance):
    allowance.refill(10, 60.0)
    assert spent(allowance) == 10
    assert allowance.left == 0


def test_the_time_ends_it_within_a_stride(allowance):
    allowance.refill(1000, 0.0)
    assert spent(allowance) == 1


def test_messages_that_take_their_time_are_looked_at_one_by_one(allowance):
    allowance.refill(1000, 0.02)
    for _ in range(2 * LONGEST_STRIDE):  # quick ones first: strides are long now
        allowance.spend()
    passed = 0
    while allowance.spend():
        passed += 1
        gevent.sleep(0.01)
    assert passed <= LONGEST_STRIDE + 1


def test_many_messages_are_counted_at_once(allowance):
    allowance.refill(100, 60.0)
    assert allowance.spend(99)
    assert allowance.left == 1
    assert allowance.spend(5)
    assert allowance.left < 0
    assert not allowance.spend()


def test_after_a_batch_the_next_message_has_a_look_at_the_clock(allowance):
    allowance.refill(1000, 0.05)
    for _ in range(2 * LONGEST_STRIDE):  # strides are long now
        allowance.spend()
    allowance.spend_batch(2)
    wait_until(lambda: not allowance.seconds_left())
    assert not allowance.spend()


def use(budgets, seconds):
    """A socket's greenlet that computes for so long for each message, and need not wait."""
    budget = budgets(5000, HubSlice.length)
    used = []

    def run():
        while True:
            budget.take()
            began = time.thread_time()
            until(began + seconds)
            used.append(time.thread_time() - began)

    return gevent.spawn(run), used


def test_as_many_are_likely_to_pass_as_the_pace_so_far_allows(allowance):
    assert allowance.likely() == 1
    allowance.refill(100_000, 10.0)
    assert allowance.likely() == 100_000
    until(time.thread_time() + 0.02)
    assert allowance.spend(2)
    assert 1 <= allowance.likely() <= 1000
    allowance.refill(100_000, 0.0)
    assert allowance.spend()
    assert allowance.likely() == 1


@pytest.fixture
def no_collection():
    """No collection of garbage, which may take 20 ms, and is charged to one of the sockets."""
    gc.disable()
    yield
    gc.enable()


def test_a_budget_has_one_part_of_a_slice(budgets, long_slices):
    budget = budgets()
    assert not budget.exhausted()
    assert spent(budget) == 5
    assert budget.exhausted()
    yield_to_io(get_hub())
    assert budget.exhausted()
    budget.yield_to_io()
    assert spent(budget) == 5


def test_a_slice_that_is_over_is_not_followed_by_another_before_the_hub_has_polled(budgets):
    first, second = budgets(), budgets()
    until(time.thread_time() + HubSlice.length)
    first.exhausted()
    until(time.thread_time() + HubSlice.length)
    assert not second.exhausted()
    assert spent(second) == 1  # its first message in each slice needs no turn
    assert second.exhausted()
    gevent.sleep(0)  # callbacks of the hub are no turn of I/O
    assert second.exhausted()
    yield_to_io(get_hub())
    assert not second.exhausted()


def test_a_socket_has_one_message_while_others_wait_for_their_parts(budgets, long_slices):
    busy, other = budgets(), budgets()
    busy.exhausted()
    spent(busy)
    waiting = gevent.spawn(busy.yield_to_io)
    gevent.sleep(0)
    assert not other.exhausted()
    assert spent(other) == 1
    waiting.join()


def test_a_wait_begins_a_short_part_and_the_rest_of_the_slice_follows(budgets, long_slices):
    budget = budgets(100)
    for _ in range(2):
        budget.restart()
        assert spent(budget) == AFTER_WAIT
        assert not budget.exhausted()
        assert spent(budget) == 100
        assert budget.exhausted()


def test_a_slice_that_is_over_has_no_message_after_a_short_part(budgets):
    budget = budgets(max_seconds=HubSlice.length)
    budget.exhausted()
    budget.restart()
    until(time.thread_time() + HubSlice.length)
    assert spent(budget) == 1
    assert budget.exhausted()


def test_after_a_wait_a_message_and_its_answer_pass_although_the_slice_is_over(budgets):
    budget = budgets()
    budget.exhausted()
    until(time.thread_time() + HubSlice.length)
    budget.restart()
    assert 2 <= spent(budget) <= 3


@pytest.mark.limit(120)
def test_equal_sockets_have_equal_shares_of_the_time(budgets, no_collection):
    running, passed = zip(*(use(budgets, 50e-6) for _ in range(20)), strict=True)
    while sum(map(len, passed)) < 20_000:  # another process may cost one of them its part
        yield_to_io(get_hub())
    gevent.killall(running)
    numbers = [len(each) for each in passed]
    assert min(numbers) >= 0.7 * max(numbers), numbers


@pytest.mark.limit(120)
def test_a_slow_one_among_quick_ones_has_its_share_of_the_time(budgets):
    running, used = zip(use(budgets, 2e-3), *(use(budgets, 50e-6) for _ in range(10)), strict=True)
    while len(used[0]) < 30:
        yield_to_io(get_hub())
    gevent.killall(running)
    # The last of the slow ones is yet to be paid.
    assert sum(used[0][:-1]) <= 1.3 * min(map(sum, used[1:]))


def test_a_timer_is_called_once_in_a_slice_however_many_are_busy(budgets):
    passed_between: list[int] = []
    running, passed = zip(*(use(budgets, 50e-6) for _ in range(100)), strict=True)
    while len(passed_between) < 50:
        before = sum(map(len, passed))
        yield_to_io(get_hub())
        passed_between.append(sum(map(len, passed)) - before)
    gevent.killall(running)
    # At first each has a message at once. From then on 100 sockets pass what fits into a slice,
    # and one part beyond it.
    most = HubSlice.length * (1 + HubSlice.least_part) / 50e-6
    assert max(passed_between[2:]) <= most + 2, passed_between


def test_io_that_is_ready_comes_before_those_that_wait(budgets):
    order = []
    reading, writing = os.pipe()
    os.write(writing, b"x")
    budget = budgets()

    def wait():
        budget.yield_to_io()
        order.append("resumed")

    def be_ready():
        ready.stop()
        order.append("ready")

    waiting = gevent.spawn(wait)
    gevent.sleep(0)
    ready: Any = get_hub().loop.io(reading, 1)
    ready.start(be_ready)
    waiting.join()
    ready.close()
    os.close(reading)
    os.close(writing)
    assert order == ["ready", "resumed"]


def test_timers_that_became_due_in_a_turn_come_before_the_next_turn(budgets):
    order = []
    timer: Any = get_hub().loop.timer(0.005)

    def use(budget):
        budget.yield_to_io()
        order.append("turn")
        if order == ["turn"]:
            timer.start(order.append, "timer", update=True)
        ends = time.thread_time() + 0.01
        while time.thread_time() < ends:  # a part is counted by the CPU time
            pass

    waiting = [gevent.spawn(use, budget) for budget in (budgets(), budgets())]
    gevent.joinall(waiting)
    timer.close()
    assert order == ["turn", "timer", "turn"]


def test_what_is_used_in_the_turn_of_another_socket_belongs_to_that_turn(budgets, long_slices):
    """A handler sends to another source, while others wait for their parts."""
    receiving, sending, other = budgets(100), budgets(100), budgets()
    waiting = gevent.spawn(other.yield_to_io)
    gevent.sleep(0)
    passed = []

    def handle():
        for _ in range(50):
            passed.append(not sending.take())

    receiving.shared.run(receiving, handle)
    assert passed == 50 * [True]
    assert not receiving.shared.running
    waiting.join()


def test_a_wait_for_a_turn_ends_with_its_time(budgets):
    greenlet, _ = use(budgets, 0.001)
    late = budgets()
    late.charged = late.shared._charged + 100  # it has no turn while the other is busy
    gevent.sleep(0)
    waiting = gevent.spawn(late.yield_to_io, 0.01)
    waiting.get(timeout=10)
    assert not late.waiters
    assert late.left <= 0
    greenlet.kill()


def test_what_is_received_has_a_turn_and_what_is_sent_may_pass_without(budgets):
    budget = budgets()
    budget.exhausted()
    until(time.thread_time() + HubSlice.length)
    other = budgets()
    assert other.exhausted(receives=True)
    assert not budgets().exhausted()


def test_all_greenlets_of_a_socket_share_its_part(budgets, long_slices):
    budget, other = budgets(), budgets()
    order = []

    def run(which, name, number):
        for _ in range(number):
            which.take()
            order.append(name)

    for which in (budget, other):
        which.exhausted()
        spent(which)
    running = [gevent.spawn(run, budget, name, 2) for name in "abcd"]
    running.append(gevent.spawn(run, other, "x", 5))
    gevent.joinall(running)
    assert "".join(order[:10]) == "aabbcxxxxx"
    assert sorted(order[10:]) == ["c", "d", "d"]


def test_a_greenlet_that_is_killed_while_it_waits_costs_the_others_no_turn(budgets, long_slices):
    budgets_of_all = [budgets() for _ in range(3)]
    for budget in budgets_of_all:
        budget.exhausted()
        spent(budget)
    waiting = [gevent.spawn(budget.yield_to_io) for budget in budgets_of_all]
    gevent.sleep(0)
    waiting[0].kill()
    waiting[1].kill()
    waiting[2].join(5)
    assert waiting[2].successful()
    assert not budgets_of_all[0].shared.is_crowded


def test_a_closed_budget_is_never_exhausted(budgets):
    budget = budgets()
    budget.exhausted()
    spent(budget)
    budget.close()
    assert not budget.exhausted()
    assert budget.spend()


def test_a_greenlet_whose_budget_is_closed_while_it_waits_is_resumed(budgets):
    budget = budgets()
    waiting = gevent.spawn(budget.yield_to_io)
    gevent.sleep(0)
    budget.close()
    waiting.join(5)
    assert waiting.successful()
