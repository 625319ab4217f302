"""How often and how soon requests are sent again, and connections are attempted again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from gzmqsource._base.deadline import checked_number
from gzmqsource._base.event import Event


class RetryBudget:
    """Bounds how many requests are sent again, so that retries do not multiply an outage.

    Parameters
    ----------
    ratio : float
        The fraction of the requests of a window that may be sent again.
    """

    #: Seconds of a window.
    window = 10.0

    #: How many more may be sent again in each window: with few requests, the fraction is too small.
    floor = 100

    def __init__(self, ratio: float) -> None:
        rule = "a part of the requests, from 0 up"
        self._ratio = checked_number("retry_budget", ratio, rule)
        if not ratio >= 0:
            raise ValueError(f"retry_budget={ratio!r}: {rule}")
        self._ends = 0.0
        self._before = 0
        self._used = 0

    def take(self, requests: int, outstanding: int) -> bool:
        """Return whether one more may be sent again.

        Parameters
        ----------
        requests, outstanding : int
            How many there were so far, and how many of them have not ended.
        """
        now = time.monotonic()
        if now >= self._ends:
            self._ends = now + self.window
            self._before = requests - outstanding
            self._used = 0
        if self._used >= self.floor + self._ratio * (requests - self._before):
            return False
        self._used += 1
        return True


def back_off(times: int, first: float, most: float) -> float:
    """Return seconds to wait after a number of failures in a row: twice as long each time.

    Up to half of it is random, so that requests that failed together do not come back together.
    """
    return min(first * 2.0 ** min(times, 60), most) * random.uniform(0.5, 1.0)


class Pace:
    """How soon failed connections are attempted again; all connections of a requester share it.

    Attributes
    ----------
    has_live : callable
        Returns whether there is a connection to which requests go.
    """

    #: Seconds of the first pause after a failed attempt.
    first = 0.05

    #: Seconds of the longest pause while another connection is live, and while none is live.
    most_calm, most_urgent = 5.0, 0.5

    #: How many attempts per second there may be before the pauses grow, with and without a live
    #: connection: each takes 0.6 ms of a core. And the longest pause in seconds in that case.
    rate_calm, rate_urgent = 6, 40
    most_crowded = 30.0

    #: The longest pause is at most this many times the first one, which is longer among many.
    growth = 64

    def __init__(self) -> None:
        self.has_live: Callable[[], object] = lambda: False
        #: How many connections are being attempted or paused.
        self.attempted = 0
        self._is_urgent = Event()

    def pause(self, failures: int) -> None:
        """Wait after *failures* in a row, at most until no connection is live any more."""
        most = self.most_urgent, self.rate_urgent
        if self.has_live():
            most = self.most_calm, self.rate_calm
        longest = min(max(most[0], self.attempted / most[1]), self.most_crowded)
        first = max(self.first, longest / self.growth)
        self._is_urgent.wait(back_off(failures - 1, first, longest))

    def hurry(self) -> None:
        """End all pauses."""
        self._is_urgent.set()
        self._is_urgent.clear()
