"""Timeouts: one check of what a caller passes, and one deadline over several waits."""

from __future__ import annotations

import time


def check_timeout(timeout: float | None) -> None:
    """Raise `ValueError` unless *timeout* is None or a non-negative number of seconds."""
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout={timeout!r}: a timeout is seconds from 0 up, or None")


class Deadline:
    """A point in time, *timeout* seconds from now; with None, it never comes."""

    #: The shortest wait, in seconds: libuv's timers count in milliseconds, and warn below one.
    resolution = 0.001

    __slots__ = ("_at",)

    def __init__(self, timeout: float | None) -> None:
        check_timeout(timeout)
        self._at = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Return the seconds that are left: 0.0, or at least `resolution`; None means forever."""
        if self._at is None:
            return None
        left = self._at - time.monotonic()
        return max(left, self.resolution) if left > 0 else 0.0
