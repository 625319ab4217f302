"""Counting what passes, and computing, in tests of budgets."""

import time


def spent(allowance, most=1000):
    """How many messages pass."""
    return next(number for number in range(most) if not allowance.spend())


def until(end):
    """Compute until this thread has had so much CPU time."""
    while time.thread_time() < end:
        pass
