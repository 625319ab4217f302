"""Timeouts: one check of the value that a caller passes, and one deadline over several waits."""

from __future__ import annotations

import math
import time
from numbers import Real

#: The longest timeout in seconds, 23 days; a longer one is the same as none. Of the limits of
#: libzmq, the loops and native locks, that of a linger is the smallest: 2**31 milliseconds.
LONGEST = 2e6

_RULES = {
    1: "a timeout is seconds from 0 up, or None",
    1000: "a timeout is milliseconds from 0 up, or None",
}


def check_timeout(
    timeout: float | None, name: str = "timeout", per_second: int = 1
) -> float | None:
    """Return *timeout* as a float, or None if it is so long that it is the same as endless.

    Every call with a timeout calls this before it does anything else, and uses what it returns: a
    sum with a `numpy.float16` would be one, too.

    Parameters
    ----------
    timeout : float or None
        In the unit of *per_second*; None means forever.
    name : str
        The name of the caller's parameter.
    per_second : int
        The unit: 1000 for milliseconds.

    Raises
    ------
    ValueError
        It is negative, or not a number that can be compared.
    TypeError
        It is neither a number nor None.
    """
    if timeout is None:
        return None
    number = timeout
    if type(timeout) is not float:  # which takes 0.3 us
        number = checked_number(name, timeout, _RULES[per_second])
    if not number >= 0:
        raise ValueError(f"{name}={timeout!r}: {_RULES[per_second]}")
    return number if number <= LONGEST * per_second else None


def checked_number(name: str, value: float, rule: str) -> float:
    """Return a number as a float; a `TypeError` has the name of the argument and its rule."""
    if not isinstance(value, Real):
        raise TypeError(f"{name}={value!r}: {rule}")
    try:
        return float(value)
    except OverflowError:  # an int, or a fraction, of hundreds of digits
        return math.inf if value > 0 else -math.inf


def checked_positive(name: str, seconds: float) -> float:
    """Return seconds that have to be more than 0, as a float.

    Raises
    ------
    TypeError, ValueError
        They are not a number, or not more than 0.
    """
    rule = "seconds, more than 0"
    number = checked_number(name, seconds, rule)
    if not number > 0:
        raise ValueError(f"{name}={seconds!r}: {rule}")
    return number


def check_poll_timeout(timeout: float | None, per_second: int) -> float | None:
    """Return the seconds of a timeout of ZeroMQ's polls, where a negative one means forever, too.

    Parameters
    ----------
    timeout : float or None
        The timeout; fractions of a millisecond are dropped.
    per_second : int
        Its unit: 1000 for milliseconds.

    Raises
    ------
    ValueError
        It is not a number that can be compared.
    TypeError
        It is neither a number nor None.
    """
    if isinstance(timeout, Real) and timeout < 0:
        return None
    timeout = check_timeout(timeout, per_second=per_second)
    return None if timeout is None else int(timeout * 1000 / per_second) / 1000


class Deadline:
    """A point in time, *timeout* seconds from now; with None, it never comes."""

    #: The shortest wait, in seconds: libuv's timers count in milliseconds, and warn below one.
    resolution = 0.001

    __slots__ = ("_at",)

    def __init__(self, timeout: float | None, name: str = "timeout") -> None:
        timeout = check_timeout(timeout, name)
        self._at = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Return the seconds that are left: 0.0, or at least `resolution`; None means forever."""
        if self._at is None:
            return None
        left = self._at - time.monotonic()
        return max(left, self.resolution) if left > 0 else 0.0
