"""Messages and putters that other threads leave for a lane, until its owner's hub takes over."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from gzmqsource._source.bounds import Bounds
from gzmqsource._source.putter import ForeignPutter, Putter
from gzmqsource.transfer.message import Message

#: A message that has a place in its lane, or a putter: one that waits, or one that has answered.
Arrival = Any


class Arrivals:
    """The arrivals for one lane, in the order they came; used under the lock of the outbox.

    Parameters
    ----------
    bounds : Bounds
        The limits of the lanes; arrivals count against them.
    """

    __slots__ = ("_bounds", "_entries", "bytes", "places", "putters")

    def __init__(self, bounds: Bounds) -> None:
        self._entries: deque[tuple[Arrival, int]] = deque()
        self._bounds = bounds
        #: The number of messages that have a place, and the bytes that they count.
        self.places = self.bytes = 0
        #: The number of putters; while there is one, no new message gets a place.
        self.putters = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Arrival]:
        return (arrival for arrival, _ in self._entries)

    def append(self, message: Message, size: int) -> None:
        """Append a message that has a place, with the bytes that it counts."""
        self._append((message, size))

    def append_putter(self, putter: Putter | ForeignPutter) -> None:
        """Append a putter."""
        self._append((putter, 0))

    @property
    def first(self) -> tuple[Arrival, int]:
        """The first arrival and the bytes that it counts; 0 for a putter."""
        return self._entries[0]

    def popleft(self) -> tuple[Arrival, int]:
        """Remove and return the first arrival and the bytes that it counts."""
        size = self._entries[0][1]
        if size:
            self.places -= 1
            self.bytes -= size
            self._bounds.arrived -= size
        else:
            self.putters -= 1
        # The only call, and the last step: a signal handler raises before all of it, or after.
        return self._entries.popleft()

    def _append(self, entry: tuple[Arrival, int]) -> None:
        try:
            self._entries.append(entry)
            size = entry[1]
            if size:
                self.places += 1
                self.bytes += size
                self._bounds.arrived += size
            else:
                self.putters += 1
        except BaseException:
            # It came from the call, before the entry was counted.
            if self._entries and self._entries[-1] is entry:
                self._entries.pop()
            raise
