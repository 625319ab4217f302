"""The budget: how much passes before other I/O has its turn, in C and in Python alike."""

import gevent
import pytest
from gevent.hub import get_hub

from gzmqsource import transfer
from gzmqsource._socket.budget import Budget, yield_to_io
from gzmqsource.transfer.pure import LONGEST_STRIDE, PureAllowance

ALLOWANCES = [PureAllowance]
if transfer.backend == "native":
    ALLOWANCES.append(transfer._native.NativeAllowance)


@pytest.fixture(params=ALLOWANCES, ids=lambda kind: kind.__name__)
def allowance(request):
    return request.param()


@pytest.fixture
def budget():
    budget = Budget(get_hub(), 5, 60.0)
    yield budget
    budget.close()


def spent(allowance, most=1000):
    """How many messages pass."""
    return next(number for number in range(most) if not allowance.spend())


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


def test_a_budget_is_exhausted_until_the_hub_has_polled(budget):
    assert not budget.exhausted()
    assert spent(budget) == 5
    assert budget.exhausted()
    assert budget.exhausted()
    yield_to_io(get_hub())
    assert not budget.exhausted()
    assert budget.left == 5


def test_callbacks_of_the_hub_do_not_refill_a_budget(budget):
    budget.exhausted()
    spent(budget)
    gevent.sleep(0)
    assert budget.exhausted()


def test_a_wait_begins_a_short_budget_without_a_timer(budget):
    budget.restart()
    assert spent(budget) == 5
    assert not budget.exhausted()  # the hub has polled: the next one begins


def test_a_closed_budget_is_never_exhausted(budget):
    budget.exhausted()
    spent(budget)
    budget.close()
    assert not budget.exhausted()
    assert budget.spend()
