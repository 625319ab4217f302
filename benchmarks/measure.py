"""Running contenders in turn, and keeping, printing and comparing what they measured."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gevent
import zmq
from peer import build
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gzmqsource import __version__, transfer

HERE = pathlib.Path(__file__).parent
RESULTS = HERE.parent / "build" / "benchmarks" / "results"
LIBRARIES = ("pyzmq", "gevent", "eventlet", "tornado", "aiozmq", "zerorpc")

#: Seconds after which a run is given up.
LIMIT = 120

#: What of a cell is set in the environment.
SETTINGS = {"loop": "GEVENT_LOOP", "transfer": "GZMQSOURCE_TRANSFER"}

#: How many messages are tried, one after another, to find how many a run needs.
TRIED = (200, 5000, 100_000)


@dataclass
class Figures:
    """What one contender measured in one cell, run after run."""

    contender: str
    cell: dict[str, Any]
    runs: list[dict[str, Any]] = field(default_factory=list)

    def of(self, figure: str) -> list[float]:
        return [run[figure] for run in self.runs]

    def median(self, figure: str) -> float:
        return statistics.median(self.of(figure))

    def ratio(self, figure: str, other: Figures) -> float:
        """Give the median of the ratios to another one in the same run.

        A machine that is shared may be half as fast a minute later.
        """
        pairs = zip(self.of(figure), other.of(figure), strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def shown(self, figure: str, scale: float = 1, digits: int = 2) -> str:
        """Show a median with its spread: half the way from the least to the most."""
        values = [value * scale for value in self.of(figure)]
        spread = (max(values) - min(values)) / 2
        return f"{statistics.median(values):.{digits}f} ±{spread:.{digits}f}"


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--short", action="store_true", help="fewer cells, fewer and shorter runs")
    parser.add_argument("--runs", type=int, help="runs of each contender, taking turns")
    parser.add_argument("--seconds", type=float, help="the length of a run, about")
    chosen = parser.parse_args()
    chosen.runs = chosen.runs or (1 if chosen.short else 5)
    chosen.seconds = chosen.seconds or (0.2 if chosen.short else 0.5)
    return chosen


def run(
    contender: str, question: str, cell: dict[str, Any], limit: float = LIMIT
) -> dict[str, Any]:
    """Run one contender once, in a process of its own."""
    command = [sys.executable, "-m", "contenders", contender, question, json.dumps(cell)]
    settings = {name: cell[key] for key, name in SETTINGS.items() if cell.get(key)}
    process = subprocess.run(
        command,
        cwd=HERE,
        stdout=subprocess.PIPE,
        text=True,
        timeout=limit,
        check=False,
        env={**os.environ, **settings},
    )
    if process.returncode:
        raise SystemExit(f"{contender}, {question}, {cell}: exit status {process.returncode}")
    result: dict[str, Any] = json.loads(process.stdout)
    messages = result.get("messages") or cell.get("count", 1) - 1
    if result.get("seconds"):
        result["rate"] = messages / result["seconds"]
        for figure in ("cpu", "thread_cpu", "all"):
            if figure in result:
                result[f"{figure}_per_message"] = result[figure] / messages
    return result


def tried(
    contender: str,
    question: str,
    cell: dict[str, Any],
    seconds: float,
    counts: Iterable[int] = TRIED,
) -> Figures:
    """Run a contender with more and more messages, until that takes a tenth of so long."""
    for count in counts:
        one = Figures(contender, cell | {"count": count})
        one.runs.append(run(contender, question, one.cell))
        if one.runs[0]["seconds"] > seconds / 10:
            break
    return one


def enough(contender: str, question: str, cell: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Give the cell a count with which a run takes about so long."""
    rate = tried(contender, question, cell, seconds).median("rate")
    return cell | {"count": max(100, int(rate * seconds))}


def compare(
    title: str,
    question: str,
    cells: Iterable[dict[str, Any]],
    contenders: Callable[[dict[str, Any]], list[str]],
    chosen: argparse.Namespace,
    calibrate: bool = True,
) -> list[Figures]:
    """Measure all contenders in all cells; in each run all of them take turns, A B A B.

    In the short form the run that finds a count is the first of the runs.
    """
    build()
    build("library")
    plan = [(cell, contenders(cell)) for cell in cells]
    figures = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        runs = chosen.runs - (calibrate and chosen.short)
        total = sum(len(names) for _, names in plan) * (runs + calibrate)
        task = progress.add_task(title, total=total)
        for cell, names in plan:
            for name in names:
                one = Figures(name, cell)
                if calibrate and chosen.short:
                    one = tried(name, question, cell, chosen.seconds, TRIED[1:])
                elif calibrate:
                    one.cell = enough(name, question, cell, chosen.seconds)
                figures.append(one)
                progress.advance(task, calibrate)
        for _ in range(runs):
            for one in figures:
                one.runs.append(run(one.contender, question, one.cell))
                progress.advance(task)
    save(title, figures)
    return figures


def machine() -> dict[str, Any]:
    """Return where, how and with what this was measured."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "options": sys.argv[1:],
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "gzmqsource": __version__,
        "libzmq": zmq.zmq_version(),
        "loop": type(gevent.get_hub().loop).__module__,
        "transfer": transfer.backend,
        **{name: found for name in LIBRARIES if (found := installed(name))},
    }


def processor() -> str:
    """Return the processor's name, which `platform` does not know on Linux."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def installed(name: str) -> str | None:
    """Give the version of a library; None if it is not there, as rivals need not be."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def save(title: str, figures: list[Figures]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "machine": machine(), "figures": [vars(one) for one in figures]}
    (RESULTS / f"{title}.json").write_text(json.dumps(content, indent=1))


def print_table(title: str, header: list[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # Into a file or a pipe a table is as wide as it needs to be.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def cell_name(cell: dict[str, Any]) -> str:
    """Name a cell: tcp, 3 x 32 B."""
    power = min(2, (cell["size"].bit_length() - 1) // 10)
    size = f"{cell['size'] >> 10 * power} {('B', 'KB', 'MB')[power]}"
    frames = f"{cell['frames']} x " if cell["frames"] > 1 else ""
    return f"{cell['transport']}, {frames}{size}"


def by_cell(figures: list[Figures]) -> dict[str, dict[str, Figures]]:
    rows: dict[str, dict[str, Figures]] = {}
    for one in figures:
        rows.setdefault(cell_name(one.cell), {})[one.contender] = one
    return rows
