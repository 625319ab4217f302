"""Draw what the benchmarks have saved into docs/benchmarks/."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from measure import HERE, RESULTS, cell_name

mpl.use("svg")
import matplotlib.pyplot as plt

TARGET = HERE.parent / "docs" / "benchmarks"
OURS, OTHERS, BOUND = "#b5442e", "#7a8a99", "#c9b458"


def load(title: str) -> list[dict[str, Any]]:
    path = RESULTS / f"{title}.json"
    if not path.exists():
        raise SystemExit(f"{path} is missing: run make bench first")
    figures: list[dict[str, Any]] = json.loads(path.read_text())["figures"]
    return figures


def values(one: dict[str, Any], figure: str) -> list[float]:
    return [run[figure] for run in one["runs"]]


def colour(name: str) -> str:
    if name.startswith("Source"):
        return OURS
    return BOUND if name == "C" else OTHERS


def bars(
    axes: Any, figures: list[dict[str, Any]], value: Callable[[dict[str, Any]], list[float]]
) -> None:
    """Draw a bar for each contender, best first, with the least and the most of its runs."""
    rows = sorted(((one["contender"], value(one)) for one in figures), key=lambda row: min(row[1]))
    medians = [statistics.median(runs) for _, runs in rows]
    spread = [
        [middle - min(runs) for middle, (_, runs) in zip(medians, rows, strict=True)],
        [max(runs) - middle for middle, (_, runs) in zip(medians, rows, strict=True)],
    ]
    names = [name for name, _ in rows]
    axes.barh(names, medians, xerr=spread, color=[colour(name) for name in names])
    for index, median in enumerate(medians):
        axes.annotate(f"{median:.3g}", (median, index), xytext=(6, 5), textcoords="offset points")
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Any, name: str) -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(TARGET / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def draw_rates() -> None:
    for question in ("receive", "send"):
        figures = load(question)
        cells = sorted({cell_name(one["cell"]) for one in figures if one["cell"]["size"] == 32})
        cells = [cell for cell in cells if cell.startswith("tcp")]
        drawing, axes = plt.subplots(1, len(cells), figsize=(11, 4.2))
        for cell, ax in zip(cells, axes, strict=True):
            bars(
                ax,
                [one for one in figures if cell_name(one["cell"]) == cell],
                lambda one: [rate / 1e6 for rate in values(one, "rate")],
            )
            ax.set(title=f"{question}: {cell}", xlabel="million messages a second")
        save(drawing, question)


def draw_sizes() -> None:
    figures = [one for one in load("receive") if one["cell"]["frames"] == 1]
    sizes = sorted({one["cell"]["size"] for one in figures})
    if len(sizes) < 2:
        return
    drawing, axes = plt.subplots(figsize=(7, 4.2))
    for name in ("C", "Source", "pyzmq", "zmq.green"):
        rows = {
            one["cell"]["size"]: statistics.median(values(one, "rate"))
            for one in figures
            if one["contender"] == name and one["cell"]["transport"] == "tcp"
        }
        axes.loglog(sizes, [rows[size] * size / 1e9 for size in sizes], "o-", label=name)
    axes.set(title="receive over tcp", xlabel="bytes of a message", ylabel="GB a second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
    save(drawing, "sizes")


def draw_roundtrip() -> None:
    figures = [one for one in load("roundtrip") if one["cell"]["transport"] == "tcp"]
    drawing, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    bars(left, figures, lambda one: [1e6 / rate for rate in values(one, "rate")])
    left.set(title="REQ/REP over tcp", xlabel="us for a round trip")
    bars(right, figures, lambda one: [1e6 * cpu for cpu in values(one, "cpu_per_message")])
    right.set(title="its CPU, libzmq's threads included", xlabel="us for a round trip")
    save(drawing, "roundtrip")


def draw_fairness() -> None:
    figures = [
        one for name in ("Source", "zmq.green", "zmq.asyncio") for one in load(f"fairness {name}")
    ]
    drawing, axes = plt.subplots(figsize=(7, 2.6))
    bars(axes, figures, lambda one: [1e3 * late for late in values(one, "tick_99")])
    axes.set(
        title="a ticking greenlet under a flood", xlabel="ms late, 99 % of the ticks", xscale="log"
    )
    save(drawing, "fairness")


def draw_pressure() -> None:
    drawing, axes = plt.subplots(figsize=(7, 3.2))
    for one in load("pressure"):
        held = one["runs"][0]["held"]
        times = [one["runs"][0]["seconds"] * index / len(held) for index in range(len(held))]
        axes.plot(times, held, label=one["contender"], color=colour(one["contender"]))
    axes.set(
        title="messages that a server holds which cannot keep up", xlabel="seconds", yscale="symlog"
    )
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
    save(drawing, "pressure")


def main() -> None:
    draw_rates()
    draw_sizes()
    draw_roundtrip()
    draw_fairness()
    draw_pressure()
    print(f"drawn into {TARGET}")


if __name__ == "__main__":
    main()
