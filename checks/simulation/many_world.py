"""A ROUTER with many peers that are full, leave and return: of a source, and of the drop-in."""

import functools
import inspect
from typing import Any, ClassVar

from gzmqsource._source.core import State
from gzmqsource.green._shared import shared_socket
from simulation.green_world import GreenWorld
from simulation.source_world import SourceWorld
from simulation.world import action, check, loop

MANY = range(9)


def with_many(world):
    """Decorate a world: its steps may concern any of many peers, and accidents come later."""
    for name, step in inspect.getmembers(world, lambda each: hasattr(each, "ranges")):
        if "peer" in step.ranges:
            setattr(world, name, _among_many(step))
    return world


def _among_many(step):
    @functools.wraps(step)
    def among_many(self, *values, **arguments):
        step(self, *values, **arguments)

    ranges = step.ranges | {"peer": MANY}
    if "calls" in ranges:
        ranges["calls"] = range(1, 41)
    return action(step.weight, **ranges)(among_many)


class ManyPeers:
    """What both worlds have in common. So few are tried at a time that these are many."""

    possible = MANY

    #: Rounds may be interrupted several times in a row.
    confirmed = 0.2

    def begin(self: Any, many, few, full):
        """Let there be peers that are full."""
        self.many = many
        for peer in range(full):
            self.attach(peer=peer)
        loop.step()
        many.destinations.few = few
        for peer in range(full):
            self.make_full(peer)
        loop.step()

    @property
    def is_stopping(self) -> bool:
        """Whether the socket is used until it closes: a stop looks at it again and again."""
        return False

    @action(weight=4, first=MANY, count=range(1, 9))
    def many_receive(self: Any, first, count):
        """Let several peers read at once."""
        for index in range(first, first + count):
            self.peer_receives(peer=index % len(MANY))

    @action(weight=1, first=MANY, count=range(1, 9))
    def many_die(self: Any, first, count):
        for index in range(first, first + count):
            self.peer_dies(peer=index % len(MANY))

    @action(weight=2)
    def fall_silent(self: Any):
        """Let the time pass until nothing happens any more: not even a clock."""
        self.settle()
        loop.advance(2.5)
        self.check_rest()
        is_silent = self.many._timer is None or self.is_stopping
        check(is_silent, "the clock of a silent socket goes on")


@with_many
class ManySourceWorld(ManyPeers, SourceWorld):
    """A source whose peers are many."""

    options: ClassVar = SourceWorld.options | {
        "kind": ["ROUTER"],
        "mandatory": [True],
        "few": [1, 2, 3],
        "full": [0, 3, 6, 9],
    }

    def __init__(self, few, full, **options):
        super().__init__(**options)
        self.begin(self.source._core.socket.readiness.many, few, full)

    @property
    def is_stopping(self) -> bool:
        return self.source._core.state in (State.DRAINING, State.STOPPING)

    def make_full(self, peer):
        self.fill(peer=peer)


@with_many
class ManyGreenWorld(ManyPeers, GreenWorld):
    """A socket of the drop-in whose peers are many."""

    options: ClassVar = GreenWorld.options | {
        "kind": ["ROUTER"],
        "mandatory": [True],
        "attached": [0],
        "few": [1, 2, 3],
        "full": [0, 3, 6, 9],
    }

    def __init__(self, few, full, **options):
        super().__init__(**options)
        self.begin(shared_socket(self.socket).readiness.many, few, full)

    def make_full(self, peer):
        for _ in range(3):
            self.send(frames=1, peer=peer)
