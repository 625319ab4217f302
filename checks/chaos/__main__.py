"""Faults with real processes, each many times: ``make chaos RUNS=20``.

Every message has a number and a checksum. At the end a table tells, for each fault, how many were
sent, and how many of them were lost, received twice, torn, or came out of order. What ZeroMQ does
not promise, what was under way to or from a killed process, is counted too, and marked as such. The
exit status is 1 if anything happened that is not.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

import gevent
from rich.console import Console
from rich.table import Table

from chaos.counting import FAULTS

#: The modules of `chaos` that have faults.
MODULES = (
    "processes",
    "links",
    "readers",
    "resources",
    "program",
    "handlers",
    "monitors",
    "endings",
    "strangers",
    "reloads",
)


def report(console):
    table = Table(title="faults, with sequence numbers and checksums end to end")
    for column in ("fault", "runs", "sent", "lost", "twice", "torn", "disordered", ""):
        table.add_column(column, justify="left" if column in ("fault", "") else "right")
    for each in FAULTS:
        tally = each.tally
        verdict = "as promised" if each.promised else "loss is not excluded by ZeroMQ"
        numbers = (tally.runs, tally.sent, tally.lost, tally.twice, tally.torn, tally.disordered)
        table.add_row(each.what, *map(str, numbers), verdict if each.is_good else "BROKEN")
    console.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how often each fault happens")
    parser.add_argument("--only", default="", help="part of the name of the faults to try")
    options = parser.parse_args()
    for module in MODULES:
        importlib.import_module(f"chaos.{module}")
    FAULTS[:] = [each for each in FAULTS if options.only in each.what]
    console = Console(width=140)
    for each in FAULTS:
        began = time.monotonic()
        for _ in range(options.runs):
            with gevent.Timeout(120):
                each.run(each.tally)
            each.tally.runs += 1
        console.print(f"{time.monotonic() - began:6.1f} s  {each.what}")
    report(console)
    return 0 if all(each.is_good for each in FAULTS) else 1


if __name__ == "__main__":
    sys.exit(main())
