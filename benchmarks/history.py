"""Draw the ratios of all kept runs, over time, for docs/history.rst."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from drawing.palette import Palette
from matplotlib.ticker import MaxNLocator
from panels import SMALL as SMALL_TEXT
from panels import TARGET, from_zero, number, picture
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
    less: bool = False  #: whether less is better

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
    Ratio(
        "Receiving: rate of a Source / of zmq.green",
        "receive",
        "rate",
        "Source",
        "zmq.green",
        SMALL | {"frames": 3},
    ),
    Ratio(
        "Receiving: rate of a Source / of a C program",
        "receive",
        "rate",
        "Source",
        "C",
        SMALL | {"frames": 3},
    ),
    Ratio(
        "Sending: rate of a Source / of zmq.green",
        "send",
        "rate",
        "Source",
        "zmq.green",
        SMALL | {"frames": 3},
    ),
    Ratio(
        "Sending: rate of a Source / of a C program",
        "send",
        "rate",
        "Source",
        "C",
        SMALL | {"frames": 3},
    ),
    Ratio(
        "Round trips: rate of a Source / of pyzmq",
        "roundtrip",
        "rate",
        "Source",
        "pyzmq",
        SMALL,
    ),
    Ratio(
        "recv: rate of gzmqsource.green / of zmq.green",
        "green rec",
        "rate",
        "gzmqsource.green",
        "zmq.green",
    ),
    Ratio(
        "Requests: rate of a Requester / of zmq.green",
        "workers",
        "rate",
        "Requester",
        "zmq.green",
    ),
    Ratio(
        "Proxy: rate of ours / of a C program's",
        "proxy",
        "rate",
        "Proxy",
        "C program",
        {"size": 32, "frames": 1},
    ),
    Ratio(
        "Late ticks: beside a Source / zmq.green",
        "fairness",
        "tick_99",
        "Source",
        "zmq.green",
        less=True,
    ),
    Ratio(
        "CPU of a request: Broker / libzmq's proxy",
        "broker",
        "cpu_per_message",
        "Broker",
        "Proxy",
        less=True,
    ),
    Ratio(
        "CPU of a reply: 400 full peers / one",
        "peers",
        "thread_cpu_per_message",
        "Source",
        "Source",
        {"others": 400},
        {"others": 1},
        less=True,
    ),
    Ratio(
        "CPU of a polled message: 1,000 sockets / 10",
        "scale",
        "cpu_each",
        "a message to a polled socket",
        "a message to a polled socket",
        {"others": 1000},
        {"others": 10},
        less=True,
    ),
)


def label(run: Run) -> str:
    return run.date[5:10] + "\n" + run.date[11:16]


def draw(runs: list[tuple[Run, list[Record]]]) -> None:
    def paint(panels: Sequence[Any], palette: Palette) -> None:
        for axes, ratio in zip(panels, RATIOS, strict=True):
            full = []  # only these are connected: a short run is not comparable
            for index, (run, records) in enumerate(runs):
                values = ratio.of(run, records)
                if not values:
                    continue
                median = statistics.median(values)
                if not run.is_short:
                    full.append((index, median))
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
                    number(median) if median >= 0.1 else f"{median:.2g}",
                    (index, median),
                    xytext=(7, 5),
                    textcoords="offset points",
                    size=SMALL_TEXT + 0.5,
                )
            axes.plot(*zip(*full, strict=True) if full else ((), ()), color=palette.faint, zorder=0)
            axes.set_title(f"{ratio.title} {'↓' if ratio.less else '↑'}")
            axes.set_xlim(-0.4, len(runs) - 0.2)
            axes.set_xticks(range(len(runs)), [label(run) for run, _ in runs])
            axes.set_ylim(top=axes.get_ylim()[1] * 1.15)
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.grid(axis="y")
        from_zero(panels)

    picture(
        "history",
        "Ratios within one run, run after run",
        [
            "↑ more is better; ↓ less is better. Dates of the runs are in UTC",
            "filled, and connected: full runs; hollow: a short run, not comparable",
            "median, with the least and the most of the repeats where known",
        ],
        paint,
        rows=len(RATIOS),
        height=136 * len(RATIOS),
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
