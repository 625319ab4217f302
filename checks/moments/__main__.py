"""Each call at each moment, in a process of its own: ``make moments``; ``--short`` takes 20 s.

The table goes into ``docs/moments.csv``. The exit status is 1 if anything was torn, doubled, lost
or deaf.
"""

from __future__ import annotations

import argparse
import csv
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from moments import calls, others
from moments.moments import MOMENTS

CALLS = {call.name: call for call in (*calls.CALLS, *others.CALLS)}

TABLE = pathlib.Path(__file__).parents[2] / "docs" / "moments.csv"


TRANSFERS = ("native", "pure")


def run_one(call, moment):
    """Run one pair in this process."""
    import zmq

    MOMENTS[moment](CALLS[call](zmq.Context(), *((0,) if moment in BUSY else ())))
    sys.stdout.flush()
    os._exit(0)


#: The moments in which calls are made one after another, and none should wait.
BUSY = {"a signal's handler raises", "it sends, or receives", "no memory"}


def is_torn(transfer, call, moment):
    """Return whether a message is torn: the pure transfer sends and receives frame by frame."""
    is_green = call.startswith("``green")
    return transfer == "pure" and moment in (BUSY if is_green else BUSY - {"it sends, or receives"})


def outcome(pair):
    """Return what went wrong in a process that runs one pair over one transfer."""
    transfer, call, moment = pair
    environment = os.environ | {"GZMQSOURCE_TRANSFER": transfer}
    command = [sys.executable, "-W", "ignore", "-m", "moments", "--call", call, "--moment", moment]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=20, check=False
        )
    except subprocess.TimeoutExpired:
        return "did not end"
    if done.returncode == 0:
        return "ok"
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return lines[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="one pair of five, and no table")
    parser.add_argument("--call")
    parser.add_argument("--moment")
    parser.add_argument("--only", default="", help="part of a call's name")
    options = parser.parse_args()
    if options.moment:
        run_one(options.call, options.moment)
    pairs = [
        (transfer, call, moment)
        for call in CALLS
        if options.only in call
        for moment in MOMENTS
        if moment not in CALLS[call].excluded
        for transfer in TRANSFERS
        if not is_torn(transfer, call, moment)
    ]
    if options.short:
        pairs = pairs[::5]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(pairs, pool.map(outcome, pairs), strict=True))
    bad = {pair: result for pair, result in results.items() if result != "ok"}
    for pair, result in bad.items():
        print(*pair, result, sep=" | ")
    print(f"{len(results) - len(bad)} of {len(results)} pairs are good")
    if not options.short and not options.only:
        write(results)
    return 1 if bad else 0


def write(results):
    """Write the table for the pages."""
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", *MOMENTS])
        for call in CALLS:
            outcomes = [
                {
                    results[each, call, moment]
                    for each in TRANSFERS
                    if (each, call, moment) in results
                }
                for moment in MOMENTS
            ]
            words = {frozenset({"ok"}): "whole", frozenset(): "\N{EN DASH}"}
            writer.writerow([call, *(words.get(frozenset(one), "**broken**") for one in outcomes)])


if __name__ == "__main__":
    sys.exit(main())
