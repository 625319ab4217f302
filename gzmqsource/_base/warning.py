"""Counting the faults of peers, and logging them at a bounded rate."""

from __future__ import annotations

import logging

from gzmqsource._base.reports import Reports, printable

#: By the logger and the text: the reports of many objects are of one kind.
_kinds: dict[tuple[str, str], Reports] = {}


class LimitedWarning:
    """A count, and warnings that are logged as `gzmqsource._base.reports.Reports` describes.

    Objects with the same logger and text share their lines, and each has its own count.

    Parameters
    ----------
    logger : logging.Logger
        The logger of the warnings.
    text : str
        The text of the warning, with ``%s`` for a detail. The detail may contain data from a peer:
        it is escaped.
    """

    def __init__(self, logger: logging.Logger, text: str) -> None:
        #: How often it has happened.
        self.count = 0
        self._text = text
        kind = logger.name, text
        if kind not in _kinds:
            _kinds[kind] = Reports(logger.name)
        self._report = _kinds[kind]

    def __call__(self, detail: object) -> None:
        """Count one more, and report it."""
        self.count += 1
        self._report(lambda: self._text % printable(str(detail)))
