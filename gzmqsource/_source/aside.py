"""Messages of a long lane that have been set aside, so that one can leave without a search."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from gzmqsource._source.bounds import Bounds
from gzmqsource.transfer.message import Message


class Aside:
    """Messages in their order, each of which is found by its content.

    Parameters
    ----------
    bounds : Bounds
        What the lanes may hold; these messages count there.
    """

    __slots__ = ("_all", "_messages", "_number", "_numbers", "bytes")

    def __init__(self, bounds: Bounds) -> None:
        self._all = bounds.all
        self._number = 0
        self._messages: OrderedDict[int, tuple[Message, int]] = OrderedDict()
        # The number of a message, or those of equal ones, oldest first.
        self._numbers: dict[Any, int | deque[int]] = {}
        #: How many bytes they count.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return (message for message, _ in self._messages.values())

    def append(self, message: Message, size: int) -> None:
        """Append a message, with what it counts."""
        self._number += 1
        self._messages[self._number] = message, size
        content = _content(message)
        numbers = self._numbers.get(content)
        if numbers is None:
            self._numbers[content] = self._number
        elif isinstance(numbers, int):
            self._numbers[content] = deque((numbers, self._number))
        else:
            numbers.append(self._number)
        self._add(size)

    def first(self) -> tuple[Message, int]:
        """Return the oldest message, and what it counts."""
        return next(iter(self._messages.values()))

    def remove(self, message: Message) -> bool:
        """Remove the oldest message that is equal to *message*; return False if there is none."""
        content = _content(message)
        numbers = self._numbers.get(content)
        if numbers is None:
            return False
        number = numbers if isinstance(numbers, int) else numbers.popleft()
        if number is numbers or not numbers:
            del self._numbers[content]
        self._add(-self._messages.pop(number)[1])
        return True

    def _add(self, size: int) -> None:
        self.bytes += size
        self._all.total += size


def _content(message: Message) -> Any:
    return message if isinstance(message, bytes) else tuple(message)
