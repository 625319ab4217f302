"""Steady growth, told apart from a step and from noise."""

from itertools import pairwise
from statistics import fmean

#: Parts into which a series is cut. A leak makes each higher than the one before it; noise does so
#: once in 6! = 720 runs, and steps only if there is one on each of the five borders.
WINDOWS = 6


def steady_growth(values, work, level=min):
    """Return by how much *values* grow for each unit of *work*, where they grow least.

    Parameters
    ----------
    values, work : sequences of numbers
        What was measured, and how much had been done by then; `WINDOWS` of each, at least.
    level : callable, optional
        Makes one number of the values of a window. The lowest is the one that noise on top, such
        as what is just under way, changes least.

    Returns
    -------
    float
        The least growth from one window to the next, for each unit of work; zero or less if some
        window is not higher than the one before it.
    """
    borders = [number * len(values) // WINDOWS for number in range(WINDOWS + 1)]
    windows = [slice(*pair) for pair in pairwise(borders)]
    levels = [(fmean(work[window]), level(values[window])) for window in windows]
    return min(
        (after - before) / (done_after - done_before)
        for (done_before, before), (done_after, after) in pairwise(levels)
    )
