"""Every number that `gzmqsource serve --metrics` has: what docs/metrics holds.

``python checks/metrics_page.py docs/metrics`` writes a table for each kind of object.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from gzmqsource.cli._exposition import Exposition

#: The tables, by what their names begin with. What begins with none of these is the process's, or
#: has the labels of a source.
KINDS = ("requester", "responder", "broker", "authenticator", "proxy")

#: What is counted or measured, by the first expression that a name matches.
UNITS = (
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
    ("_frames_", "frames"),
    ("_messages|_malformed", "messages"),
    ("_(late_|unknown_)?replies|broker_late", "replies"),
    ("_askers", "peers"),
    ("broker_workers", "workers"),
    ("_(requester|responder|broker)_", "requests"),
    ("_authenticator_", "peers"),
    ("_metrics_missed", "answers"),
    ("_sources", "sources"),
    ("_errors", "errors"),
    ("_wakeups", "edges"),
    ("_budget_stops", "budgets"),
    ("_ready|_reload_failed", "1 or 0"),
    ("_pid", "process id"),
    ("_build_info", "always 1"),
)

_SUFFIXES = {"counter": "_total", "info": "_info"}


def families() -> Iterator[Any]:
    """Yield all that a server with workers has, as prometheus_client does."""
    exposition = Exposition(workers=lambda _: {})
    try:
        for family in sorted(REGISTRY.collect(), key=lambda family: family.name):
            if family.name.startswith("gzmqsource_"):
                yield family
    finally:
        exposition.close()


def name_of(family: Any) -> str:
    return str(family.name) + _SUFFIXES.get(family.type, "")


def labels_of(family: Any) -> list[str]:
    if family.type == "info":
        return sorted(family.samples[0].labels)
    return [*getattr(family, "_labelnames", ())]


def unit_of(name: str) -> str:
    return next(unit for pattern, unit in UNITS if re.search(pattern, name))


def tables() -> dict[str, list[list[str]]]:
    """Return the rows of each table."""
    rows = defaultdict(list)
    for family in families():
        name, labels = name_of(family), labels_of(family)
        kind = next((each for each in KINDS if name.startswith(f"gzmqsource_{each}_")), None)
        kind = kind or ("source" if "endpoint" in labels else "process")
        # Of those that all series of sources have there is one sentence on the page.
        own = [f"``{each}``" for each in labels if each not in ("source", "type", "endpoint")]
        row = [f"``{name}``", family.type, unit_of(name), family.documentation]
        if own:
            row[-1] += f" By {', '.join(own)}."
        rows[kind].append(row)
    return rows


def main() -> None:
    for kind, rows in tables().items():
        with Path(sys.argv[1], f"{kind}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
