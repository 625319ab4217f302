"""What became of the messages of each fault, and the list of all faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What became of the messages of a fault."""

    runs: int = 0
    sent: int = 0
    lost: int = 0
    twice: int = 0
    torn: int = 0
    disordered: int = 0

    def add(self, sent: int, received: list[int]) -> None:
        whole = [number for number in received if number >= 0]
        self.sent += sent
        self.lost += sent - len(set(whole))
        self.twice += len(whole) - len(set(whole))
        self.torn += len(received) - len(whole)
        self.disordered += sum(later < earlier for earlier, later in itertools.pairwise(whole))


@dataclass
class Fault:
    """A fault: ``run(tally)`` brings it about once."""

    what: str
    run: Callable[[Tally], None]
    #: Whether ZeroMQ promises that nothing is lost.
    promised: bool
    tally: Tally = field(default_factory=Tally)

    @property
    def is_good(self) -> bool:
        tally = self.tally
        harmed = tally.twice + tally.torn + tally.disordered
        return harmed == 0 and not (self.promised and tally.lost)


FAULTS: list[Fault] = []


def fault(what, promised=True):
    def add(run):
        FAULTS.append(Fault(what, run, promised))
        return run

    return add
