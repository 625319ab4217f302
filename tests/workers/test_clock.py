"""`Clock`: deadlines in one heap."""

import random

import pytest
from helpers import _sleep

from gzmqsource.testing import all_blocked, wait_until
from gzmqsource.workers._clock import Clock


class Call:
    deadline: float | None = None


def test_calls_expire_in_the_order_of_their_deadlines():
    expired: list[Call] = []
    clock = Clock(expired.append, lambda calls: None)
    calls = [Call() for _ in range(50)]
    for number in random.Random(1).sample(range(50), 50):
        clock.start(calls[number], 0.002 * number)
    ticks = {call: clock._tick(call.deadline) for call in calls if call.deadline}
    wait_until(lambda: len(expired) == 50)
    # A pause between two starts may bring two deadlines into one tick.
    assert [ticks[call] for call in expired] == sorted(ticks.values())


def test_a_sooner_deadline_is_not_late():
    expired: list[Call] = []
    clock = Clock(expired.append, lambda calls: None)
    late, soon = Call(), Call()
    clock.start(late, 60)
    all_blocked()
    clock.start(soon, 0.01)
    wait_until(lambda: expired == [soon])
    clock.close()


class Tick(int):
    """A tick that counts how often it is compared."""

    compared = 0

    def __le__(self, other):
        Tick.compared += 1
        return int(self) <= other

    def __lt__(self, other):
        Tick.compared += 1
        return int(self) < other

    def __gt__(self, other):
        Tick.compared += 1
        return int(self) > other


def test_a_deadline_costs_no_more_beside_thousands_of_later_ones(monkeypatch):
    monkeypatch.setattr(Clock, "_tick", lambda clock, deadline: Tick(deadline * 1000))
    monkeypatch.setattr(Tick, "compared", 0)
    expired: list[Call] = []
    clock = Clock(expired.append, lambda calls: None)
    for number in range(5000):
        clock.start(Call(), 60 + 0.01 * number)
    all_blocked()
    Tick.compared = 0
    clock.start(soon := Call(), 0.01)
    wait_until(lambda: expired == [soon])
    assert Tick.compared < 500
    clock.close()


def test_it_looks_for_all_that_is_due_at_once():
    looks: list[set[Call]] = []
    clock = Clock(lambda call: None, lambda calls: looks.append(set(calls)))
    calls = [Call() for _ in range(50)]
    for number, call in enumerate(calls):
        clock.start(call, 0.02 + 0.002 * number)
    _sleep(0.2)
    wait_until(lambda: not clock._runs.is_running)
    assert looks[0] == set(calls)


def test_what_is_taken_back_does_not_expire_and_does_not_pile_up():
    clock = Clock(pytest.fail, lambda calls: None)
    for _ in range(10_000):
        call = Call()
        clock.start(call, 60)
        clock.stop(call)
        clock.stop(call)
    assert len(clock._ticks) <= 2 * clock.slack + 1
    clock.close()
    all_blocked()
    assert not clock._runs.is_running


def test_a_call_may_be_started_again_as_it_expires():
    calls = []

    def expire(call):
        calls.append(call)
        if len(calls) < 3:
            clock.start(call, 0.005)

    clock = Clock(expire, lambda calls: None)
    clock.start(Call(), 0.005)
    wait_until(lambda: len(calls) == 3)


def test_it_looks_once_before_calls_expire_and_what_that_takes_back_does_not():
    expired: list[Call] = []
    looks = []
    answered, other, late, last = Call(), Call(), Call(), Call()

    def look(calls):
        looks.append((len(expired), set(calls)))
        clock.stop(answered)
        all_blocked(1)

    clock = Clock(expired.append, look)
    clock.start(last, 60)
    while len(clock.calls) != 2:  # until both are of one tick
        for call in (answered, other):
            clock.stop(call)
            clock.start(call, 0.005)
    wait_until(lambda: expired)
    assert (expired, looks) == ([other], [(0, {answered, other})])
    clock.start(late, 0.005)
    wait_until(lambda: late in expired)
    assert looks[1:] == [(1, {late})]
    clock.close()


def test_it_does_not_look_for_what_was_taken_back():
    clock = Clock(pytest.fail, lambda calls: pytest.fail("it looked"))
    call = Call()
    clock.start(call, 0.005)
    clock.stop(call)
    wait_until(lambda: not clock._runs.is_running)
