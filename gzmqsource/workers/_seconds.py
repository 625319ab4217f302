"""The seconds that the two ends of a request count in their own ticks."""

from __future__ import annotations

from gzmqsource._base.deadline import LONGEST, checked_number

#: The shortest *dead_after*: it has up to eight ticks, and libuv's timers take 1 ms at least.
SHORTEST = 0.02


def checked_dead_after(seconds: float) -> float:
    """Return the seconds of silence after which a peer counts as dead; see `checked_seconds`."""
    return checked_seconds("dead_after", seconds, SHORTEST)


def checked_seconds(name: str, seconds: float, least: float) -> float:
    """Return seconds that have both bounds, as a float; the upper one is that of all timers.

    Raises
    ------
    TypeError, ValueError
        They are not a number, or out of bounds.
    """
    rule = f"seconds from {least:g} to {LONGEST:.0f}"
    number = checked_number(name, seconds, rule)
    if not least <= number <= LONGEST:
        raise ValueError(f"{name}={seconds!r}: {rule}")
    return number
