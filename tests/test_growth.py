"""What `make soak` takes for a leak, and what not."""

import itertools
import random
import statistics

import pytest
from growth import WINDOWS, steady_growth

pytestmark = pytest.mark.once

#: Messages between two notes, and how many notes of a run of 20 minutes.
MESSAGES, NOTES = 25_000, 228

MB = 1 << 20

WORK = [MESSAGES * number for number in range(1, NOTES + 1)]

#: KB, as noted in a run beside which others kept the machine busy.
STEPPED = """
    33432 33360 33552 35044 34972 34804 35548 35348 34764 34056 33372 33392 34524 35372 35620 35908
    34408 34780 33392 34688 34840 39904 39780 40044 39920 39736 39740 39908 40104 40104
"""


def memory(seed, leak=0, arena=1):
    """Return what a process holds: a noise of 1 MB on top, and a leak, in whole arenas, below."""
    chance = random.Random(seed)
    return [30 * MB + MB * chance.random() + leak * done // arena * arena for done in WORK]


@pytest.mark.parametrize("arena", [1, MB], ids=["bytes", "arenas"])
@pytest.mark.parametrize("leak", [2, 20, 200])
@pytest.mark.parametrize("seed", range(20))
def test_a_leak_of_some_bytes_for_each_message_is_found(seed, leak, arena):
    assert 0.5 < steady_growth(memory(seed, leak, arena), WORK) <= leak * 1.1


@pytest.mark.parametrize("seed", range(100))
def test_noise_is_no_leak(seed):
    assert steady_growth(memory(seed), WORK) < 0.5


@pytest.mark.parametrize("at", range(0, NOTES, 10))
def test_a_step_is_no_leak(at):
    stepped = [held + 5 * MB * (index > at) for index, held in enumerate(memory(at))]
    assert steady_growth(stepped, WORK) < 0.5


def test_the_step_that_was_seen_on_a_busy_machine_is_no_leak():
    noted = [1024 * int(held) for held in STEPPED.split()]
    assert steady_growth(noted, WORK[: len(noted)]) < 0.5


@pytest.mark.parametrize("borders", [*itertools.combinations(range(1, WINDOWS), WINDOWS - 2)])
def test_a_step_on_each_border_but_one_is_no_leak(borders):
    steps = [NOTES * border // WINDOWS for border in borders]
    stepped = [
        held + sum(MB * (index >= at) for at in steps) for index, held in enumerate(memory(1))
    ]
    assert steady_growth(stepped, WORK) < 0.5


def test_a_process_that_comes_to_rest_has_no_leak():
    settling = [held - 20 * MB * 0.95**index for index, held in enumerate(memory(1))]
    assert steady_growth(settling, WORK) < 0.5


def test_a_leak_beside_a_step_is_found():
    stepped = [held + 5 * MB * (index > NOTES / 2) for index, held in enumerate(memory(1, leak=4))]
    assert 3 < steady_growth(stepped, WORK) < 5


def test_a_latency_that_doubles_while_others_keep_the_machine_busy_does_not_grow_steadily():
    chance = random.Random(1)
    busy = [(1 + (index > NOTES / 3)) * (1 + chance.random()) for index in range(NOTES)]
    assert steady_growth(busy, WORK, level=statistics.median) < 1 / WORK[-1]
    rising = [(1 + 2 * index / NOTES) * (1 + chance.random()) for index in range(NOTES)]
    assert steady_growth(rising, WORK, level=statistics.median) > 1 / WORK[-1]
