"""Pauses between errors that would otherwise follow each other endlessly."""

from __future__ import annotations

from gzmqsource._source.limits import Limits


class BackOff:
    """The pauses after each of several errors in a row.

    Parameters
    ----------
    limits : Limits
        The tunables.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._errors = 0

    def fail(self) -> float:
        """Count an error; return the seconds to pause: 0 after the first in a row."""
        self._errors += 1
        if self._errors == 1:
            return 0.0
        doublings = min(self._errors - 2, 30)
        return min(self._limits.min_delay * 2.0**doublings, self._limits.max_delay)

    def succeed(self) -> None:
        """Begin a new row."""
        self._errors = 0
