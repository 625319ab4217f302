"""What one operation costs, in CPU of the hub's thread, beside 1 to 10,000 others of its kind."""

from __future__ import annotations

import subprocess

from contenders.operations import OPERATIONS
from measure import Figures, arguments, build, print_table, run, save
from rich.console import Console
from rich.progress import track

#: Seconds after which a run is given up, and with it all that have more of the same.
LIMIT = 20


def main() -> None:
    chosen = arguments(__doc__)
    build()
    counts = [10, 1000] if chosen.short else [1, 10, 100, 1000, 10_000]
    figures: list[Figures] = []
    for operation in track(OPERATIONS, "scale", console=Console(stderr=True)):
        figures += measure(operation, counts, chosen.seconds / 5, min(chosen.runs, 3))
    save("scale", figures)
    rows = []
    for operation in OPERATIONS:
        costs = {
            one.cell["others"]: one.median("cpu_each") * 1e6
            for one in figures
            if one.contender == operation
        }
        slow = f"over {LIMIT} s"
        shown = [f"{costs[others]:.1f}" if others in costs else slow for others in counts]
        ratio = f"{costs[max(costs)] / min(costs.values()):.1f}"
        rows.append([operation, *shown, ratio if len(costs) == len(counts) else f"over {ratio}"])
    header = ["n", *map(str, counts), "most n, of the cheapest"]
    print_table("CPU us of one operation beside n others", header, rows)
    for one in figures:
        if one.contender == "open a source" and one.cell["others"] == counts[-1]:
            print(f"an open source takes {one.median('bytes_each') / 1024:.1f} KB")
        if one.contender == "a request that expires" and one.cell["others"] == counts[-1]:
            longest = one.median("longest") * 1e3
            print(f"{counts[-1]} requests that expire at once keep the hub for {longest:.1f} ms")


def measure(operation: str, counts: list[int], seconds: float, runs: int) -> list[Figures]:
    """Measure an operation beside more and more others, until that takes too long."""
    figures = []
    for others in counts:
        one = Figures(operation, {"others": others, "seconds": seconds})
        try:
            one.runs += [run(operation, "scale", one.cell, LIMIT) for _ in range(runs)]
        except subprocess.TimeoutExpired:
            break
        figures.append(one)
    return figures


if __name__ == "__main__":
    main()
