"""What is logged while a fault lasts: few lines, however often it happens."""

from __future__ import annotations

import collections
import contextlib
import logging
import time


class _Counting(logging.Handler):
    """Counts lines by their kind: who logs, and how the line begins."""

    def __init__(self):
        super().__init__()
        self.lines: collections.Counter[str] = collections.Counter()

    def emit(self, record):
        self.lines[" ".join([record.name, *record.getMessage().split()[:2]])] += 1


@contextlib.contextmanager
def few_lines():
    """Take what the package logs, and check that of each kind there is a line a second at most."""
    counting, logger = _Counting(), logging.getLogger("gzmqsource")
    logger.addHandler(counting)
    logger.propagate = False
    began = time.monotonic()
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(counting)
    most = time.monotonic() - began + 1
    for kind, count in counting.lines.items():
        assert count <= most, f"{count} lines within {most - 1:.1f} s: {kind}"
