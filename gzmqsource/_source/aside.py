"""Messages of a long lane that are set aside, so that one can be withdrawn without a search."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from gzmqsource._source.bounds import Bounds
from gzmqsource.transfer.message import Message


class Aside:
    """Messages in order, each of which can be found by its content.

    Parameters
    ----------
    bounds : Bounds
        The limits of the lanes; these messages count against them.
    """

    __slots__ = ("_all", "_messages", "_number", "_numbers", "bytes")

    def __init__(self, bounds: Bounds) -> None:
        self._all = bounds.all
        self._number = 0
        self._messages: OrderedDict[int, tuple[Message, int]] = OrderedDict()
        # The number of a message, or the numbers of equal messages, oldest first.
        self._numbers: dict[Any, int | deque[int]] = {}
        #: The bytes that they count.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return (message for message, _ in list(self._messages.values()))

    def append(self, message: Message, size: int) -> None:
        """Append a message, with the bytes that it counts."""
        content = _content(message)
        number = self._number = self._number + 1
        self._messages[number] = message, size
        # No call comes in between, so no exception of a signal handler either.
        self.bytes += size
        self._all.total += size
        numbers = self._numbers.get(content)
        if numbers is None:
            self._numbers[content] = number
        elif isinstance(numbers, int):
            self._numbers[content] = deque((numbers, number))
        else:
            numbers.append(number)

    def first(self) -> tuple[Message, int]:
        """Return the oldest message, and the bytes that it counts."""
        for entry in self._messages.values():  # no call comes between the two steps
            return entry
        raise IndexError("there is none")

    def remove(self, message: Message) -> bool:
        """Remove the oldest message that is equal to *message*; return False if there is none."""
        content = _content(message)
        numbers = self._numbers.get(content)
        if numbers is None:
            return False
        number = numbers if isinstance(numbers, int) else numbers.popleft()
        if number is numbers or not numbers:
            del self._numbers[content]
        self._subtract(self._messages.pop(number)[1])
        return True

    def pop(self) -> None:
        """Remove the newest message, also one that an exception has left without a number."""
        number, (message, size) = self._messages.popitem()
        self._subtract(size)
        content = _content(message)
        numbers = self._numbers.get(content)
        if numbers == number:
            del self._numbers[content]
        elif isinstance(numbers, deque) and numbers[-1] == number:
            numbers.pop()

    def _subtract(self, size: int) -> None:
        self.bytes -= size
        self._all.total -= size


def _content(message: Message) -> Any:
    return message if isinstance(message, bytes) else tuple(message)
