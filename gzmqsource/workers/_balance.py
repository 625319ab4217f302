"""The choice of the connection for the next request: the one with the fewest outstanding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sized
from typing import Generic, Protocol, TypeVar


class Loaded(Protocol):
    """A connection, with the calls that are outstanding over it."""

    @property
    def outstanding(self) -> Sized:
        """The calls."""


_Connection = TypeVar("_Connection", bound=Loaded)


class Balance(Generic[_Connection]):
    """The live connections, by the number of calls that are outstanding over each.

    To take the least loaded connection, or to note that one has a call more or less, takes as long
    for a thousand as for two. With a single one, which most requesters have, nothing is noted.
    """

    def __init__(self) -> None:
        #: The live connection, if it is the only one; then `note` does not have to be called.
        self.only: _Connection | None = None
        self._levels: dict[int, OrderedDict[_Connection, None]] = {}
        self._level_of: dict[_Connection, int] = {}
        # No level below this has a connection.
        self._lowest = 0

    def __len__(self) -> int:
        return 1 if self.only is not None else len(self._level_of)

    def __contains__(self, connection: object) -> bool:
        return connection is self.only or connection in self._level_of

    def add(self, connection: _Connection) -> None:
        """Add a connection that is live now."""
        if not self:
            self.only = connection
            return
        for each in filter(None, (self.only, connection)):
            self._put(each)
        self.only = None

    def remove(self, connection: _Connection) -> None:
        """Remove a connection, if it was added."""
        if connection is self.only:
            self.only = None
        elif connection in self._level_of:
            self._take(connection)
            if len(self._level_of) == 1:
                (self.only,) = self._level_of
                self._take(self.only)

    def renew(self, connections: Iterable[_Connection]) -> None:
        """Have these live connections, and no others."""
        self.only = None
        self._levels.clear()
        self._level_of.clear()
        for connection in connections:
            self.add(connection)

    def note(self, connection: _Connection) -> None:
        """Note that a connection has more or fewer calls than before."""
        if connection in self._level_of:
            self._take(connection)
            self._put(connection)

    def least(self, but_for: Collection[object] = ()) -> _Connection | None:
        """Return the connection with the fewest calls whose last turn is longest ago; or None.

        Parameters
        ----------
        but_for : collection
            Connections that are left out.
        """
        if not but_for:
            return self.only if not self._level_of else next(self._in_order())
        return next((each for each in self._in_order() if each not in but_for), None)

    def _in_order(self) -> Iterator[_Connection]:
        if self.only is not None:
            yield self.only
        elif self._level_of:
            while self._lowest not in self._levels:
                self._lowest += 1  # no more often than there were calls
            yield from self._levels[self._lowest]
            for level in sorted(self._levels)[1:]:
                yield from self._levels[level]

    def _put(self, connection: _Connection) -> None:
        level = len(connection.outstanding)
        self._level_of[connection] = level
        self._levels.setdefault(level, OrderedDict())[connection] = None
        self._lowest = min(level, self._lowest)

    def _take(self, connection: _Connection) -> None:
        level = self._level_of.pop(connection)
        del self._levels[level][connection]
        if not self._levels[level]:
            del self._levels[level]
