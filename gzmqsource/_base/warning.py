"""Counting what peers do wrong, and logging it at a bounded rate."""

from __future__ import annotations

import logging
import time


class LimitedWarning:
    """A count, and a warning that is logged at once and then at most once per `interval`.

    Parameters
    ----------
    logger : logging.Logger
        Where it is logged.
    text : str
        What has happened, with ``%s`` for a detail of the last time.
    """

    #: Seconds from one line to the next: a flood writes 1440 lines a day.
    interval = 60.0

    def __init__(self, logger: logging.Logger, text: str) -> None:
        #: How often it has happened.
        self.count = 0
        self._logger = logger
        self._text = text
        self._logged = 0
        self._quiet_until = float("-inf")

    def __call__(self, detail: object) -> None:
        """Count one more, and log it if the last line is old enough."""
        self.count += 1
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + self.interval
            since, self._logged = self.count - self._logged, self.count
            self._logger.warning(self._text + " (%d since the last such line)", detail, since)
