"""Which of many destinations to try, when one of them may have room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import Any

#: The destination of a message: a routing id, or None if a socket has one destination.
Key = Hashable


class Destinations:
    """The destinations that had no room when they were tried last, in two rotations.

    An edge does not say which peer has room, and trying a thousand for each edge costs more than
    the messages. So a few *hot* ones are tried at a time, whose peers have read recently. The
    others are *cold*. Each attempt counts as a failure until `add` reports that something was
    taken.
    """

    #: The most hot ones, and the most cold ones, that are tried for an edge. One that is full costs
    #: 0.1 us in a source, and 0.4 us in the drop-in.
    few = 16

    def __init__(self) -> None:
        # An OrderedDict: a dict that is used as a queue is searched past all removed keys.
        #: The hot ones, and whether a round has failed since they took something.
        self._hot: OrderedDict[Key, bool] = OrderedDict()
        self._cold: OrderedDict[Key, None] = OrderedDict()
        #: How often a destination came, left, or took something.
        self.changes = 0

    def __len__(self) -> int:
        return len(self._hot) + len(self._cold)

    @property
    def has_hot(self) -> bool:
        """Whether any is hot."""
        return bool(self._hot)

    def add(self, key: Key) -> None:
        """Note that a destination is new, or has taken something: it is hot."""
        self._cold.pop(key, None)
        self._hot[key] = False
        self.changes += 1

    def discard(self, key: Key) -> None:
        """Forget a destination, for which nothing waits any more."""
        self._cold.pop(key, None)
        self._hot.pop(key, None)
        self.changes += 1

    def take_hot(self) -> list[Key]:
        """Return a few hot ones, in rotation."""
        return _rotate(self._hot, self.few)

    def take_some(self) -> list[Key]:
        """Return a few hot ones and a few cold ones, in rotation."""
        return self.take_hot() + _rotate(self._cold, self.few)

    def take_all(self) -> list[Key]:
        """Return all of them, for a round; a hot one for which the last round failed becomes cold.

        The time decides, not the attempts: a peer that takes a hundred messages each millisecond is
        full in between, and a thousand edges of other peers may come in that millisecond.
        """
        keys = [*self._hot, *self._cold]
        for key, has_failed in list(self._hot.items()):
            if has_failed:
                del self._hot[key]
                # In front: of the cold ones, those that were hot are the likeliest to have room.
                self._cold[key] = None
                self._cold.move_to_end(key, last=False)
            else:
                self._hot[key] = True
        return keys


def _rotate(queue: OrderedDict[Key, Any], most: int) -> list[Key]:
    """Return the first ones of a queue, and move them to its end."""
    keys = list(islice(queue, most))
    for key in keys:
        queue.move_to_end(key)
    return keys
