"""Do each thing to requests, and print a table of what became of them.

The exit status is 1 if anything is not as the goal says.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from rich.console import Console
from rich.table import Table

from service import brokered, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how often servers are restarted")
    parser.add_argument("--seconds", type=float, default=10, help="of overload, and of a flood")
    parser.add_argument("--only", default="", help="part of the name of the rows to print")
    chosen = parser.parse_args()
    makers = {
        "restarts of one server": lambda: rows.restarts(1, chosen.runs),
        "restarts of two servers": lambda: rows.restarts(2, chosen.runs),
        "restarts, blocked askers": lambda: rows.restarts(1, chosen.runs, 0.15),
        "restarts behind a proxy": lambda: rows.proxied(chosen.runs),
        "stuck hub": lambda: rows.stuck("a loop that never yields"),
        "stopped process": lambda: rows.stuck("SIGSTOP"),
        "leaving callers": rows.leaving_callers,
        "overload": lambda: rows.overload(chosen.seconds),
        "retries": lambda: itertools.chain(rows.retried(False), rows.retried(True)),
        "absent servers": rows.absent,
        "late hub": rows.late_hub,
        "flood": lambda: rows.flood(chosen.seconds),
        "stuck worker": lambda: itertools.chain(
            *(
                brokered.stuck(how, redeliver)
                for redeliver in (False, True)
                for how in brokered.STUCK
            )
        ),
        "killed workers": lambda: itertools.chain(
            *(brokered.killed(chosen.runs, redeliver) for redeliver in (False, True))
        ),
        "rolled workers": lambda: brokered.rolled(chosen.runs),
        "restarts of a broker": lambda: brokered.restarts(chosen.runs),
        "killed brokers": lambda: brokered.killed_brokers(chosen.runs),
        "workers come and go": lambda: brokered.come_and_go(chosen.runs),
    }
    table = Table("what is done", "goal", "seen", "", title="What becomes of requests")
    is_right = True
    for name, make in makers.items():
        if chosen.only not in name:
            continue
        began = time.monotonic()
        for row in make():
            table.add_row(row.name, row.goal, row.seen, "" if row.is_right else "NOT REACHED")
            is_right = is_right and row.is_right
        print(f"{time.monotonic() - began:6.1f} s  {name}", flush=True)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    sys.exit(not is_right)


if __name__ == "__main__":
    main()
