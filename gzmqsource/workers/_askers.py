"""The peers that ask a responder and speak the protocol; plain peers are not remembered."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from gzmqsource.workers._bounds import Bounds
from gzmqsource.workers._header import Flag

#: How many ticks `dead_after` has: silence is noticed up to one of them late.
TICKS = 8


class Asker:
    """One peer, or more precisely one route.

    Parameters
    ----------
    route : list of bytes or zmq.Frame
        The frames before its headers.
    is_routed : bool
        Whether a ROUTER is in between.
    """

    __slots__ = (
        "flags",
        "has_left",
        "is_recent",
        "is_routed",
        "is_unreachable",
        "jobs",
        "patience",
        "route",
        "silence",
        "was_told",
    )

    def __init__(self, route: list[Any], is_routed: bool) -> None:
        self.route = route
        self.is_routed = is_routed
        #: The flags of the headers that are sent to it.
        self.flags = int(Flag.ROUTED) if is_routed else 0
        #: Its requests that wait or run, by their keys.
        self.jobs: dict[bytes, Any] = {}
        #: How many ticks have passed since its last message.
        self.silence = 0
        #: After how many ticks of silence it is dead, once it has sent a PING.
        self.patience: int | None = None
        #: Whether it was notified in this tick that the hub is alive.
        self.was_told = False
        #: Whether its connection had ended when a PONG was last sent to it.
        self.is_unreachable = False
        #: Whether it has sent NOMORE, or cannot be reached.
        self.has_left = False
        #: Whether it has sent a message since it was last passed over.
        self.is_recent = True


class Askers:
    """The peers that have sent a message recently, by their routes.

    Parameters
    ----------
    bounds : Bounds
        How many are remembered, not counting those that have requests here.
    """

    #: How many may be passed over for each new one: those that have sent a message since the last
    #: time, or have requests here. Two would be enough to get round.
    passes = 4

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._askers: OrderedDict[Any, Asker] = OrderedDict()
        #: Returns the asker at a route, or None.
        self.get = self._askers.get

    def __len__(self) -> int:
        return len(self._askers)

    def all(self) -> list[Asker]:
        """Return all of them."""
        return list(self._askers.values())

    def meet(self, name: Any, route: list[Any], is_routed: bool) -> Asker:
        """Remember a new one, and forget others if there are too many."""
        asker = self._askers[name] = Asker(route, is_routed)
        for _ in range(self.passes):
            if len(self._askers) <= self._bounds.max_askers:
                break
            name, oldest = next(iter(self._askers.items()))
            if oldest.jobs or oldest.is_recent:
                oldest.is_recent = False
                self._askers.move_to_end(name)
            else:
                del self._askers[name]
        return asker


def patience_of(left: int, tick: float) -> int:
    """Return the ticks after which a peer whose header has *left* milliseconds counts as silent."""
    # One more, because the first may have begun just before its message came.
    return 1 + max(2, math.ceil(left / 1000 / tick))


def name_of(route: list[Any]) -> Any:
    """Return a key that is equal for equal routes."""
    if len(route) == 1:
        frame = route[0]
        return frame if type(frame) is bytes else bytes(frame)
    return tuple(map(bytes, route))
