"""The core of the suite in every environment at hand: ``make support``.

A row of ``docs/support.csv`` is one pass: how many tests passed, failed and were skipped. The rows
of what is not at hand stay as they are, and it is printed what that is. The exit status is 1 if a
test failed in an environment that is claimed.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

from cells import BOTH, CELLS, PROJECT

TABLE = PROJECT / "docs" / "support.csv"
LOGS = PROJECT / "build" / "support" / "logs"

COLUMNS = (
    *("Cell", "Interpreter", "System", "pyzmq", "libzmq", "gevent", "Loop", "Transfer"),
    *("Passed", "Failed", "Skipped", "Claimed"),
)

#: What a row is replaced by.
KEY = ("Cell", "System", "Loop", "Transfer")

#: Seconds for a pass that does not end; a test that hangs ends it after its own limit.
LIMIT = 900


def run_pass(cell, place, python, facts, loop, transfer):
    """Run the tests over one loop and one transfer; return a row of the table."""
    environment = os.environ | cell.environment
    environment |= {"GEVENT_LOOP": loop, "GZMQSOURCE_TRANSFER": transfer}
    environment.pop("PYTHONPATH", None)  # which may have another copy of the project
    folder = cell.folder(place) / "project"
    command = [python, "-m", "pytest", "-v", "-m", "not idle and not once", *cell.tests]
    log = LOGS / f"{cell.name}-{facts['System']}-{loop}-{transfer}.log".replace(" ", "-")
    with log.open("w") as output:
        process = subprocess.Popen(
            place.command(*command, folder=folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    said = log.read_text(errors="replace")
    row = facts | counts_of(said, status)
    row |= {"Loop": loop.partition("-")[0], "Transfer": transfer}
    print(*(row[name] for name in COLUMNS[:-1]), sep=" | ", flush=True)
    for line in re.findall(r"^(?:FAILED|ERROR) .*|^\S+ is over its hard limit", said, re.MULTILINE):
        print("   ", line, flush=True)
    return row


def counts_of(said, status):
    """Return how many tests passed, failed and were skipped, from what pytest says."""
    if status not in (0, 1):
        started = re.findall(r"^(tests/\S+::\S+)", said, re.MULTILINE) or ["the first test"]
        print("    it has ended in", started[-1], flush=True)
        return {"Passed": "", "Failed": f"ended with {status}", "Skipped": ""}
    [*_, summary] = re.findall(r"^=+ (.*) in [\d.]+s.* =+$", said, re.MULTILINE)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", summary)}
    failed = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
    return {
        "Passed": counts.get("passed", 0),
        "Failed": failed,
        "Skipped": counts.get("skipped", 0) + counts.get("xfailed", 0),
    }


def run_cells(found, jobs):
    """Run all passes of the cells, each with where it can be made; yield the rows."""
    LOGS.mkdir(parents=True, exist_ok=True)
    passes = []
    with ThreadPoolExecutor(jobs) as pool:
        for cell, where in found.items():
            for place, interpreter in where:
                facts = {"Cell": cell.name, "Claimed": "yes" if cell.claimed else "no"}
                try:
                    python = cell.make(place, interpreter)
                except subprocess.SubprocessError as error:
                    print(f"{cell.name} cannot be made: {error}", flush=True)
                    yield facts | {"Failed": "all"}
                    continue
                facts |= place.facts(python)
                passes += [
                    pool.submit(run_pass, cell, place, python, facts, *each) for each in cell.passes
                ]
        yield from (each.result() for each in as_completed(passes))


def write(row):
    """Put a row into the table, in the place of an earlier one, in the order of the cells."""
    kept = list(csv.DictReader(TABLE.open())) if TABLE.exists() else []
    table = {tuple(each[name] for name in KEY): each for each in [*kept, row]}
    order = [
        (cell.name, loop.partition("-")[0], transfer)
        for cell in CELLS
        for loop, transfer in cell.passes
    ]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for key in order:
            writer.writerows(
                each
                for each in table.values()
                if (each["Cell"], each["Loop"], each["Transfer"]) == key
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", help="the names of some; all if none is given")
    parser.add_argument(
        "--short", action="store_true", help="only two passes of the floor, no table"
    )
    parser.add_argument("--list", action="store_true", help="only say what is at hand, and where")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="passes at a time")
    options = parser.parse_args()
    names = options.cells or [cell.name for cell in CELLS]
    if unknown := set(names) - {cell.name for cell in CELLS}:
        parser.error(f"no such cells: {', '.join(unknown)}")
    found = {cell: list(cell.found()) for cell in CELLS if cell.name in names}
    for cell, where in found.items():
        if not where:
            print(f"skipped: {cell.name}, which needs {cell.wants}", flush=True)
        elif options.list:
            print(f"{cell.name}:", *(f"{python} {place}" for place, python in where))
    if options.list:
        return 0
    if options.short:
        [(floor, where)] = [each for each in found.items() if each[0].name == "floor"]
        found = {replace(floor, passes=BOTH): where}
    failed = False
    for row in run_cells(found, options.jobs):
        failed = failed or (row["Claimed"] == "yes" and row["Failed"] != 0)
        if "Loop" in row and not options.short:
            write(row)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
