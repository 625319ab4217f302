"""The seconds that the two ends of a request count in their own ticks."""

from __future__ import annotations

from gzmqsource._base.deadline import LONGEST, check_number

#: The shortest *dead_after*: it has up to eight ticks, and libuv's timers take 1 ms at least.
SHORTEST = 0.02


def check_dead_after(seconds: float) -> None:
    """Check the seconds of silence after which a peer counts as dead; errors as `check_seconds`."""
    check_seconds("dead_after", seconds, SHORTEST)


def check_seconds(name: str, seconds: float, least: float) -> None:
    """Check seconds that have both bounds; the upper one is that of all timers.

    Raises
    ------
    TypeError, ValueError
        They are not a number, or out of bounds.
    """
    rule = f"seconds from {least:g} to {LONGEST:.0f}"
    check_number(name, seconds, rule)
    if not least <= seconds <= LONGEST:
        raise ValueError(f"{name}={seconds!r}: {rule}")
