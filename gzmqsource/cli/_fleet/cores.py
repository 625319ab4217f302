"""How many cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

#: The quota of processor time of the cgroup of this process, and its period, in microseconds. A
#: container sees all cores of its host, but has only this share of them.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """Return how many cores this process may use, by its affinity and its cgroup's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # "max" is not a number, and other systems do not have the file.
    with contextlib.suppress(OSError, ValueError):
        share, period = map(int, quota.read_text().split())
        cores = min(cores or 1, math.ceil(share / period))
    return max(1, cores or 1)
