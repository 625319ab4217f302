"""What each of many flooded sockets has, and how late everything else is meanwhile."""

from __future__ import annotations

import gevent

from simulation.world import check, loop

#: Ways that now and then have nothing to do: one waits for a greenlet, or for its peer to read.
_AT_TIMES = ("workers", "pool", "sends", "green sends")

#: Seconds that calls on sockets take, in all that one thing waits for.
_CALLS = 0.0005


class Fairness:
    """Takes note during a flood.

    Parameters
    ----------
    world : SourcesWorld
        The world that has just begun to flood its sockets.
    """

    def __init__(self, world):
        self._world = world
        self._served = [each for each in world.sockets if each.is_served]
        self._late = []
        self._asked_at = None
        self._used = dict.fromkeys(self._served, 0.0)
        #: When each was served last, and the longest time between two.
        self._last = dict.fromkeys(self._served, loop.time)
        self._most_waited = dict.fromkeys(self._served, 0.0)

    def tick(self):
        """Note how late a timer is, again and again."""
        while True:
            due = loop.time + self._world.slice
            gevent.sleep(self._world.slice)
            self._late.append(loop.time - due)

    def note_asked(self):
        """Note that the quiet socket is sent a message."""
        self._asked_at = self._asked_at or loop.time

    def note(self, flooded):
        """Note that a socket is served."""
        if flooded is self._world.quiet and self._asked_at is not None:
            self._late.append(loop.time - self._asked_at)
            self._asked_at = None
        elif flooded in self._used:
            self._used[flooded] += flooded.work
            self._note_wait(flooded)

    def check(self):
        """Check that nothing was late, that nobody starved, and that equal sockets had as much."""
        for each in self._served:
            self._note_wait(each)
        if self._asked_at is not None:
            self._late.append(loop.time - self._asked_at)
        # Greenlets of one socket wake each other, and each takes a message.
        works = [each.work for each in self._served for _ in each.takers or [None]]
        # What is left of a slice, half a slice for those that wait, and the last one's part, before
        # it and after; and a message of each that has just become ready.
        late, length = max(self._late, default=0), self._world.slice
        allowed = 2 * length + 2 * max(works, default=0) + sum(works) + _CALLS
        check(late <= allowed, f"something was late by {late:.5f}, more than {allowed:.5f}")
        for each in self._served:
            self._check_wait(each, works)
            self._check_share(each)

    def _note_wait(self, flooded):
        waited = loop.time - self._last[flooded]
        self._most_waited[flooded] = max(self._most_waited[flooded], waited)
        self._last[flooded] = loop.time

    def _check_wait(self, flooded, works):
        if flooded.way in _AT_TIMES:
            return
        # The others have a part each, and as much as it had, if it was slow: a message, or two of a
        # loop that polls, for its poll and its receive have a turn each.
        waited, length = self._most_waited[flooded], self._world.slice
        most = max(works) * (2 if flooded.way == "polled" else 1)
        allowed = 3 * length + 1.5 * len(works) * (most + length / 2) + _CALLS
        check(waited <= allowed, f"{flooded.way} waited {waited:.5f}, more than {allowed:.5f}")

    def _check_share(self, flooded):
        """Compare sockets of one greenlet each, which always have something to do."""
        for other in self._served:
            if not (_is_alone(flooded) and _is_alone(other)):
                continue
            more = self._used[flooded] - self._used[other]
            # A part of each, and what each may have at once after an edge. The calls of quick ones
            # take time, too.
            allowed = 2.5 * self._world.slice + 3 * (flooded.work + other.work) + _CALLS
            check(
                more <= allowed,
                f"{flooded.way} had {more:.5f} more than {other.way}, {allowed:.5f} are allowed",
            )


def _is_alone(flooded):
    return flooded.way not in _AT_TIMES and len(flooded.takers) <= 1
