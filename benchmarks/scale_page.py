"""Draw and tabulate what the questions of many have saved, for docs/scale.rst."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable
from typing import Any

from contenders.operations import OPERATIONS
from measure import RESULTS
from plots import OTHERS, OURS, TARGET, load, plt, save, values

#: How handlers are run, as `many` names them, and a colour for each.
KINDS = {
    "handler": OURS,
    "spawn=20": "#d98f3d",
    "Pool(20)": "#c9b458",
    "pulled": "#4f7f5b",
    "green recv": OTHERS,
}


def median(one: dict[str, Any], figure: str) -> float:
    return statistics.median(values(one, figure))


def write(name: str, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    with (TARGET / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def log_axes(axes: Any, **labels: str) -> None:
    axes.set(xscale="log", yscale="log", **labels)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize="small", frameon=False)


def by_count(
    figures: list[dict[str, Any]], figure: str, scale: float
) -> tuple[list[int], list[float]]:
    """Give each n, from the least, and the figure beside so many."""
    rows = sorted((one["cell"]["others"], median(one, figure) * scale) for one in figures)
    return [n for n, _ in rows], [value for _, value in rows]


def draw_many() -> None:
    figures = [one for one in load("many") if one["cell"]["work"]]
    drawing, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for loop, axes in zip(("libev-cext", "libuv-cffi"), panels, strict=True):
        for kind, colour in KINDS.items():
            mine = [
                one for one in figures if one["contender"] == kind and one["cell"]["loop"] == loop
            ]
            axes.plot(*by_count(mine, "tick_99", 1e3), "o-", label=kind, color=colour)
        log_axes(axes, title=loop.partition("-")[0], xlabel="flooded sockets, handlers of 50 us")
    panels[0].set_ylabel("ms that a tick is late, 99 %")
    save(drawing, "many")


def tabulate_many() -> None:
    rows = []
    figures = [one for one in load("many") if one["cell"]["loop"] == "libev-cext"]
    for one in sorted(
        figures, key=lambda one: (one["cell"]["work"], [*KINDS].index(one["contender"]))
    ):
        rates = [run["messages"] / run["thread_cpu"] for run in one["runs"]]
        rows.append(
            [
                one["contender"],
                f"{one['cell']['work'] * 1e6:.0f}",
                one["cell"]["others"],
                f"{statistics.median(rates) / 1e3:.1f}",
                *(f"{median(one, name) * 1e3:.2f}" for name in ("tick_50", "tick_99", "echo_99")),
                f"{median(one, 'jain'):.3f}",
            ]
        )
    header = ["served by", "handler, µs", "sockets", "1000 messages per s of CPU"]
    lateness = ["tick late, median, ms", "tick late, 99 %, ms", "echo late, 99 %, ms"]
    write("many", [*header, *lateness, "Jain index"], rows)
    write(
        "slow",
        ["served by", "its share of the CPU, %", "an equal share, %"],
        [
            [one["contender"], f"{median(one, 'share_of_slow') * 100:.1f}", f"{100 / 21:.1f}"]
            for one in load("many slow")
        ],
    )


def draw_peers() -> None:
    drawing, axes = plt.subplots(figsize=(7, 4.2))
    for name, colour in (("Source", OURS), ("gzmqsource.green", OTHERS)):
        mine = [one for one in load("peers") if one["contender"] == name]
        counts, costs = by_count(mine, "thread_cpu_per_message", 1e6)
        axes.plot(counts, costs, "o-", label=name, color=colour)
    log_axes(
        axes,
        title="an answer of a ROUTER to a peer that reads",
        xlabel="other peers, all of them full",
        ylabel="us of CPU",
    )
    save(drawing, "peers")


def tabulate_peers() -> None:
    rows = [
        [
            one["contender"],
            one["cell"]["others"],
            f"{median(one, 'thread_cpu_per_message') * 1e6:.1f}",
            f"{median(one, 'rate'):.0f}",
            f"{median(one, 'delay_99') * 1e3:.2f}",
            f"{median(one, 'idle_cpu') * 100:.2f}",
        ]
        for one in [*load("peers"), *load("clients")]
    ]
    rows.sort(key=lambda row: row[0] != "Source")
    header = ["served by", "full peers", "µs of CPU", "answers per s", "delay, 99 %, ms"]
    write("peers", [*header, "idle, % of a core"], rows)


def tabulate_pools() -> None:
    handlers = {0: "returns at once", 10: "one in ten waits 1 ms", 1: "waits 1 ms"}
    figures = load("pools")
    rows = []
    for name in ("Source", "Responder"):
        for every, handler in handlers.items():
            costs = {
                one["cell"]["spawn"]: f"{median(one, 'thread_cpu_per_message') * 1e6:.2f}"
                for one in figures
                if one["contender"] == name and one["cell"]["every"] == every
            }
            rows.append([name, handler, costs["None"], costs["int"], costs["Pool"]])
    header = ["served by", "the handler", "spawn=None", "spawn=100", "spawn=Pool(100)"]
    write("pools", header, rows)


def draw_scale() -> None:
    drawing, axes = plt.subplots(figsize=(9, 5.4))
    colours = plt.get_cmap("tab20")
    figures = load("scale")
    for index, operation in enumerate(OPERATIONS):
        mine = [one for one in figures if one["contender"] == operation]
        counts, costs = by_count(mine, "cpu_each", 1e6)
        axes.plot(counts, costs, "o-", label=operation, color=colours(index))
    log_axes(axes, xlabel="others of its kind", ylabel="us of CPU of one operation")
    axes.legend(fontsize="small", frameon=False, bbox_to_anchor=(1, 1))
    save(drawing, "scale")


def tabulate_scale() -> None:
    figures = load("scale")
    counts = sorted({one["cell"]["others"] for one in figures})
    rows = []
    for operation in OPERATIONS:
        costs = {
            one["cell"]["others"]: median(one, "cpu_each") * 1e6
            for one in figures
            if one["contender"] == operation
        }
        shown = [f"{costs[n]:.1f}" if n in costs else "given up" for n in counts]
        rows.append([operation, *shown, f"{costs[max(costs)] / min(costs.values()):.1f}"])
    header = ["µs of CPU beside", *(f"{n:,}" for n in counts), "last / least"]
    write("scale", header, rows)


def tell_machine() -> None:
    """Write where this was measured, as a sentence of the page."""
    machine = json.loads((RESULTS / "scale.json").read_text())["machine"]
    (TARGET / "machine.txt").write_text(
        f"Measured on {machine['cores']} cores with CPython {machine['python']}, libzmq "
        f"{machine['libzmq']}, pyzmq {machine['pyzmq']} and gevent {machine['gevent']}.\n"
    )


def main() -> None:
    draw_many()
    tabulate_many()
    draw_peers()
    tabulate_peers()
    tabulate_pools()
    draw_scale()
    tabulate_scale()
    tell_machine()
    print(f"written into {TARGET}")


if __name__ == "__main__":
    main()
