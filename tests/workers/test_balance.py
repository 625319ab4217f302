"""`Balance`: the least loaded connection."""

import random
import time

from gzmqsource.workers._balance import Balance


class Connection:
    def __init__(self, outstanding=0):
        self.outstanding = [None] * outstanding


def test_the_least_loaded_is_next_and_equals_take_turns():
    balance: Balance[Connection] = Balance()
    connections = [Connection() for _ in range(3)]
    for each in connections:
        balance.add(each)
    taken = []
    for _ in range(6):
        least = balance.least()
        assert least is not None
        taken.append(least)
        least.outstanding.append(None)
        balance.note(least)
    assert taken == connections * 2


def test_it_agrees_with_a_search_through_all():
    chance = random.Random(3)
    balance: Balance[Connection] = Balance()
    live: list[Connection] = []
    for _ in range(20_000):
        step = chance.random()
        if step < 0.05 and len(live) < 8:
            live.append(Connection(chance.randrange(5)))
            balance.add(live[-1])
        elif step < 0.1 and live:
            balance.remove(live.pop(chance.randrange(len(live))))
        elif step < 0.5 and live:
            each = chance.choice(live)
            if each.outstanding:
                each.outstanding.pop()
                balance.note(each)
        elif live:
            least = balance.least()
            assert least in live
            assert len(least.outstanding) == min(len(each.outstanding) for each in live)
            but_for = set(chance.sample(live, len(live) // 2))
            other = balance.least(but_for)
            left = [each for each in live if each not in but_for]
            assert other in left
            assert len(other.outstanding) == min(len(each.outstanding) for each in left)
            least.outstanding.append(None)
            balance.note(least)
        else:
            assert balance.least() is None
        assert len(balance) == len(live)
        assert (balance.only is not None) == (len(live) == 1)
        assert all(each in balance for each in live)


def test_what_was_not_added_is_not_removed():
    balance: Balance[Connection] = Balance()
    balance.remove(Connection())
    balance.note(Connection())
    assert balance.least() is None


def cost_of(connections, times=20_000):
    """Return the CPU seconds of that many calls over so many connections."""
    balance: Balance[Connection] = Balance()
    for _ in range(connections):
        balance.add(Connection())
    began = time.process_time()
    for _ in range(times):
        least = balance.least()
        assert least is not None
        least.outstanding.append(None)
        balance.note(least)
    return time.process_time() - began


def test_a_thousand_cost_about_what_two_do():
    cost_of(2)
    assert cost_of(1000) < 5 * cost_of(2)
