"""Draw and tabulate what the questions of many have measured, for docs/scale.rst."""

from __future__ import annotations

import csv
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from contenders.operations import OPERATIONS
from drawing.palette import Palette
from panels import TARGET, counts, footer, from_zero, lines, picture, repeats
from runs import Record, newest

#: How handlers are run, as `many` names them.
KINDS = ("handler", "spawn=20", "Pool(20)", "pulled", "green recv")

LOOPS = ("libev-cext", "libuv-cffi")


def write(name: str, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    with (TARGET / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def by_count(
    records: Iterable[Record], figure: str, factor: float
) -> list[tuple[int, list[float]]]:
    """Return each n, from the least, with the figure beside so many."""
    return sorted((one.cell["others"], repeats(one, figure, factor)) for one in records)


def draw_many() -> None:
    records = [one for one in newest("many") if one.cell["work"]]

    def paint(panels: Sequence[Any], palette: Palette) -> None:
        for axes, kind in zip(panels, KINDS, strict=False):
            numbers = {one.cell["others"] for one in records if one.contender == kind}
            for loop, color, dashes in zip(
                LOOPS, (palette.of("Source"), palette.muted), ("-", "--"), strict=True
            ):
                mine = [
                    one for one in records if one.contender == kind and one.cell["loop"] == loop
                ]
                points = by_count(mine, "tick_99", 1e3)
                lines(axes, points, color=color, dashes=dashes, label=loop.partition("-")[0])
            counts(axes, sorted(numbers))
            axes.set_title(kind)
        for axes in panels[::2]:
            axes.set_ylabel("ms late")
        for axes in panels[3:5]:
            axes.set_xlabel("flooded sockets (log)")
        handles, labels = panels[0].get_legend_handles_labels()
        from_zero(panels[:1])
        panels[-1].set_axis_off()
        panels[-1].legend(handles, labels, loc="center", title="loop")

    picture(
        "many",
        "A 1 ms ticker beside flooded sockets, 99 %",
        footer(records, "tick_99"),
        paint,
        rows=3,
        columns=2,
        height=440,
    )


def tabulate_many() -> None:
    records = [one for one in newest("many") if one.cell["loop"] == LOOPS[0]]
    records.sort(key=lambda one: (one.cell["work"], KINDS.index(one.contender)))
    rows = [
        [
            one.contender,
            f"{one.cell['work'] * 1e6:.0f}",
            one.cell["others"],
            f"{1e-3 / one.median('thread_cpu_per_message'):.1f}",
            *(f"{one.median(name, 1e3):.2f}" for name in ("tick_50", "tick_99", "echo_99")),
            f"{one.median('jain'):.3f}",
        ]
        for one in records
    ]
    header = ["served by", "handler, µs", "sockets", "1000 messages per s of CPU"]
    lateness = ["tick late, median, ms", "tick late, 99 %, ms", "echo late, 99 %, ms"]
    write("many", [*header, *lateness, "Jain index"], rows)
    write(
        "slow",
        ["served by", "its share of the CPU, %", "an equal share, %"],
        [
            [one.contender, f"{one.median('share_of_slow', 100):.1f}", f"{100 / 21:.1f}"]
            for one in newest("many slow")
        ],
    )


def draw_peers() -> None:
    records = newest("peers")

    def paint(panels: Sequence[Any], palette: Palette) -> None:
        for axes, name in zip(panels, ("Source", "gzmqsource.green"), strict=True):
            mine = [one for one in records if one.contender == name]
            points = by_count(mine, "thread_cpu_per_message", 1e6)
            lines(axes, points, color=palette.of(name))
            counts(axes, [n for n, _ in points], "other peers, all full (log)")
            axes.set_title(name)
        panels[0].set_ylabel("µs of CPU")
        from_zero(panels[:1])

    picture(
        "peers",
        "A ROUTER answers one peer that reads",
        footer(records, "thread_cpu_per_message"),
        paint,
        columns=2,
        height=215,
    )


def tabulate_peers() -> None:
    rows = [
        [
            one.contender,
            one.cell["others"],
            f"{one.median('thread_cpu_per_message', 1e6):.1f}",
            f"{one.median('rate'):.0f}",
            f"{one.median('delay_99', 1e3):.2f}",
            f"{one.median('idle_cpu', 100):.2f}",
        ]
        for one in [*newest("peers"), *newest("clients")]
    ]
    rows.sort(key=lambda row: row[0] != "Source")
    header = ["served by", "full peers", "µs of CPU", "answers per s", "delay, 99 %, ms"]
    write("peers", [*header, "idle, % of a core"], rows)


def tabulate_pools() -> None:
    handlers = {0: "returns at once", 10: "one in ten waits 1 ms", 1: "waits 1 ms"}
    records = newest("pools")
    rows = []
    for name in ("Source", "Responder"):
        for every, handler in handlers.items():
            costs = {
                one.cell["spawn"]: f"{one.median('thread_cpu_per_message', 1e6):.2f}"
                for one in records
                if one.contender == name and one.cell["every"] == every
            }
            rows.append([name, handler, costs["None"], costs["int"], costs["Pool"]])
    header = ["served by", "the handler", "spawn=None", "spawn=100", "spawn=Pool(100)"]
    write("pools", header, rows)


def draw_scale() -> None:
    records = newest("scale")

    def paint(panels: Sequence[Any], palette: Palette) -> None:
        for axes, operation in zip(panels, OPERATIONS, strict=False):
            mine = [one for one in records if one.contender == operation]
            points = by_count(mine, "cpu_each", 1e6)
            lines(axes, points, color=palette.vermilion)
            counts(axes, [n for n, _ in points])
            axes.set_title(textwrap.fill(operation, 24))
        from_zero(panels)
        for axes in panels[: len(OPERATIONS)][-2:]:
            axes.set_xlabel("others of its kind (log)")
        panels[-1].set_axis_off()

    picture(
        "scale",
        "µs of CPU of one operation beside n others",
        footer(records, "cpu_each"),
        paint,
        rows=6,
        columns=2,
        height=800,
        share_y=False,
    )


def tabulate_scale() -> None:
    records = newest("scale")
    numbers = sorted({one.cell["others"] for one in records})
    rows = []
    for operation in OPERATIONS:
        costs = {
            one.cell["others"]: one.median("cpu_each", 1e6)
            for one in records
            if one.contender == operation
        }
        shown = [f"{costs[n]:.1f}" if n in costs else "given up" for n in numbers]
        rows.append([operation, *shown, f"{costs[max(costs)] / min(costs.values()):.1f}"])
    header = ["µs of CPU beside", *(f"{n:,}" for n in numbers), "last / least"]
    write("scale", header, rows)


def describe_machine() -> None:
    """Write where this was measured, as a sentence of the page."""
    facts = newest("scale")[0].run.facts
    (TARGET / "machine.txt").write_text(
        f"Measured on {facts['cores']} cores with CPython {facts['python']}, libzmq "
        f"{facts['libzmq']}, pyzmq {facts['pyzmq']} and gevent {facts['gevent']}.\n"
    )


def main() -> None:
    draw_many()
    tabulate_many()
    draw_peers()
    tabulate_peers()
    tabulate_pools()
    draw_scale()
    tabulate_scale()
    describe_machine()
    print(f"written into {TARGET}")


if __name__ == "__main__":
    main()
