"""The limits of the lanes of an outbox, for each lane and for all together."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Any

from gzmqsource.transfer import Sizes
from gzmqsource.transfer.message import UNLIMITED


class Bounds:
    """The limits of the lanes, for each lane and for all of them together.

    A lane may hold as many bytes as are still free for all. So a lane that is not read has at most
    half of all bytes, the next one half of the rest, and so on: however many peers do not read,
    they leave room for one that does, and the lane that holds most is the first to be full. An
    empty lane takes any message, so that no message waits until other peers read.

    Parameters
    ----------
    messages : int
        The most messages of a lane.
    lane_bytes : int
        The most bytes of a lane.
    all_bytes : int
        The most bytes of all lanes; `UNLIMITED` if there is only one.
    """

    __slots__ = ("_heap", "_numbers", "_wanted", "all", "arrived", "lane_bytes", "messages")

    def __init__(self, messages: int, lane_bytes: int, all_bytes: int) -> None:
        self.messages = min(messages, UNLIMITED)
        self.lane_bytes = min(lane_bytes, UNLIMITED)
        #: The bytes in all lanes; only the owner's hub changes this.
        self.all = Sizes(min(all_bytes, UNLIMITED))
        #: The bytes that have arrived for them; changed only under the lock of the arrivals.
        self.arrived = 0
        # The bytes that each lane wants to hold, and those numbers in a heap, which also has some
        # that are out of date.
        self._wanted: dict[Any, int] = {}
        self._heap: list[tuple[int, int, Any]] = []
        self._numbers = count()

    @property
    def free(self) -> int:
        """The bytes that are free for all lanes."""
        return self.all.most - self.all.total - self.arrived

    def admit(self, messages: int, held: int, size: int) -> bool:
        """Return whether a message of *size* bytes may join *messages* of *held* bytes.

        A message that is alone may have any size.
        """
        if not messages:
            return True
        held += size
        return messages < self.messages and held <= self.lane_bytes and held <= self.free

    def want(self, key: Any, held: int | None) -> None:
        """Note how many bytes a lane wants to hold, once that many are free; None for no wish."""
        if held is None:
            self._wanted.pop(key, None)
        elif self._wanted.get(key) != held:
            self._wanted[key] = held
            if len(self._heap) > 2 * len(self._wanted) + 32:
                self._heap = [
                    (held, next(self._numbers), key) for key, held in self._wanted.items()
                ]
                heapq.heapify(self._heap)
            else:
                heapq.heappush(self._heap, (held, next(self._numbers), key))

    @property
    def is_wanted(self) -> bool:
        """Whether a lane may want bytes that become free."""
        return bool(self._heap)

    def next_wanting(self) -> Any:
        """Return the key of the lane that wants least, if that is free now, and forget its wish.

        It is None if there is no such lane; a source's only lane has no wish.
        """
        while self._heap and self._heap[0][0] <= self.free:
            held, _, key = heapq.heappop(self._heap)
            if self._wanted.get(key) == held:
                del self._wanted[key]
                return key
        return None
