"""Draw the ratios of all kept runs, over time, for docs/history.rst."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from drawing.palette import Palette
from panels import TARGET, from_zero, picture
from runs import Record, Run, kept


@dataclass(frozen=True)
class Ratio:
    """A figure of one contender over that of another one, or of another cell, in the same run."""

    title: str
    question: str
    figure: str
    above: str
    below: str
    cell: dict[str, Any] = field(default_factory=dict)
    other_cell: dict[str, Any] | None = None

    def of(self, run: Run, records: list[Record]) -> list[float]:
        """Return the ratio in each repeat of the run, if it has both."""
        mine = self._find(records, self.above, self.cell)
        other = self._find(records, self.below, self.other_cell or self.cell)
        if mine is None or other is None:
            return []
        values, others = mine.figures[self.figure], other.figures[self.figure]
        # Contenders take turns, but of a run that was read from a picture the order is not known.
        if len(values) == len(others) and "source" not in run.facts:
            return [one / another for one, another in zip(values, others, strict=True)]
        return [statistics.median(values) / statistics.median(others)]

    def _find(self, records: list[Record], contender: str, cell: dict[str, Any]) -> Record | None:
        for one in records:
            is_mine = one.question.startswith(self.question) and one.contender == contender
            if is_mine and cell.items() <= one.cell.items() and self.figure in one.figures:
                return one
        return None


SMALL = {"transport": "tcp", "size": 32}

RATIOS = (
    Ratio("Receive, of zmq.green", "receive", "rate", "Source", "zmq.green", SMALL | {"frames": 3}),
    Ratio("Receive, of C", "receive", "rate", "Source", "C", SMALL | {"frames": 3}),
    Ratio("Send, of zmq.green", "send", "rate", "Source", "zmq.green", SMALL | {"frames": 3}),
    Ratio("Send, of C", "send", "rate", "Source", "C", SMALL | {"frames": 3}),
    Ratio("Round trips, of pyzmq", "roundtrip", "rate", "Source", "pyzmq", SMALL),
    Ratio("Drop-in, of zmq.green", "green rec", "rate", "gzmqsource.green", "zmq.green"),
    Ratio("Requests, of zmq.green", "workers", "rate", "Requester", "zmq.green"),
    Ratio("Proxy, of one in C", "proxy", "rate", "Proxy", "C program", {"size": 32, "frames": 1}),
    Ratio("Ticks late, of zmq.green", "fairness", "tick_99", "Source", "zmq.green"),
    Ratio("Broker: CPU, of Proxy", "broker", "cpu_per_message", "Broker", "Proxy"),
    Ratio(
        "400 full peers, CPU of 1",
        "peers",
        "thread_cpu_per_message",
        "Source",
        "Source",
        {"others": 400},
        {"others": 1},
    ),
    Ratio(
        "Poll of 1k, CPU of 10",
        "scale",
        "cpu_each",
        "a message to a polled socket",
        "a message to a polled socket",
        {"others": 1000},
        {"others": 10},
    ),
)


def label(run: Run) -> str:
    return run.date[5:10] + "\n" + run.date[11:16]


def draw(runs: list[tuple[Run, list[Record]]]) -> None:
    def paint(panels: Sequence[Any], palette: Palette) -> None:
        for axes, ratio in zip(panels, RATIOS, strict=True):
            at, medians = [], []
            for index, (run, records) in enumerate(runs):
                values = ratio.of(run, records)
                if not values:
                    continue
                median = statistics.median(values)
                at.append(index)
                medians.append(median)
                axes.errorbar(
                    index,
                    median,
                    yerr=[[median - min(values)], [max(values) - median]],
                    color=palette.vermilion,
                    marker="o",
                    markersize=6,
                    markerfacecolor="none" if run.is_short else palette.vermilion,
                    elinewidth=1,
                )
                axes.annotate(
                    f"{median:.3g}",
                    (index, max(values)),
                    xytext=(0, 4),
                    textcoords="offset points",
                    ha="center",
                    size=9.5,
                )
            axes.plot(at, medians, color=palette.faint, linewidth=1.5, zorder=0)
            axes.set_title(ratio.title)
            axes.set_xlim(-0.6, len(runs) - 0.4)
            axes.set_xticks(range(len(runs)), [])
            axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
            axes.grid(axis="y")
        from_zero(panels)
        for axes in panels[-2:]:
            axes.set_xticks(range(len(runs)), [label(run) for run, _ in runs], size=8.5)

    picture(
        "history",
        "Ratios within one run, run after run",
        [
            "filled: a full run; hollow: a short one, which only checks the form",
            "median, with the least and the most of the repeats where they are known",
        ],
        paint,
        rows=len(RATIOS) // 2,
        columns=2,
        height=130 * len(RATIOS) // 2,
        share_y=False,
    )


def tabulate(runs: list[tuple[Run, list[Record]]]) -> None:
    with (TARGET / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for run, records in runs:
            facts = run.facts
            writer.writerow(
                [
                    run.date[:16].replace("T", " "),
                    facts["gzmqsource"],
                    facts["commit"],
                    facts.get("pyzmq", ""),
                    facts["libzmq"],
                    facts.get("gevent", ""),
                    facts["python"],
                    " ".join(facts["options"]) or "full",
                    f"{facts['load']} on {facts['cores']}" if "load" in facts else "not recorded",
                    len(records),
                ]
            )


def main() -> None:
    tabulate(kept())
    draw([(run, records) for run, records in kept() if any(one.of(run, records) for one in RATIOS)])
    print(f"drawn into {TARGET}")


if __name__ == "__main__":
    main()
