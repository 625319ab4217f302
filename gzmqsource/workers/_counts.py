"""The counters of a requester."""

from __future__ import annotations

import logging

from gzmqsource._base.warning import LimitedWarning
from gzmqsource.workers._stats import RequesterStats

_log = logging.getLogger("gzmqsource.workers")


class Counts:
    """The counters of `gzmqsource.workers.RequesterStats`, which describes them."""

    def __init__(self) -> None:
        self.replies = 0
        self.timeouts = 0
        self.lost = 0
        self.cancelled = 0
        self.failed = 0
        self.retries = 0
        self.refused = 0
        self.late = 0
        self.unknown = LimitedWarning(_log, "a reply that answers nothing was dropped: %s")

    def requests(self, outstanding: int) -> int:
        """Return how many requests were made: each is outstanding, or has ended in one way."""
        ended = self.replies + self.timeouts + self.lost + self.cancelled + self.failed
        return ended + outstanding

    def snapshot(self, outstanding: int, waiting: int) -> RequesterStats:
        """Return the counters."""
        return RequesterStats(
            requests=self.requests(outstanding),
            outstanding=outstanding,
            waiting=waiting,
            replies=self.replies,
            timeouts=self.timeouts,
            lost=self.lost,
            cancelled=self.cancelled,
            failed=self.failed,
            retries=self.retries,
            refused=self.refused,
            late=self.late,
            unknown=self.unknown.count,
        )
