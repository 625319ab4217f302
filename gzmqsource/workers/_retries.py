"""How often, and how soon, requests are sent again."""

from __future__ import annotations

import random
import time


class RetryBudget:
    """Bounds how many requests are sent again, so that an outage is not multiplied.

    Parameters
    ----------
    ratio : float
        How many of the requests of a window may be sent again, as a part of them.
    """

    #: Seconds of a window.
    window = 10.0

    #: How many more may be sent again in each window: with few requests, a part of them is none.
    floor = 100

    def __init__(self, ratio: float) -> None:
        if not ratio >= 0:
            raise ValueError(f"retry_budget={ratio!r}: a part of the requests, from 0 up")
        self._ratio = ratio
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

    Up to a half is left to chance, so that what has failed together does not come back together.
    """
    return min(first * 2.0 ** min(times, 60), most) * random.uniform(0.5, 1.0)
