"""Keep what `make bench` has measured, a file for each run, and find it again for the pictures."""

from __future__ import annotations

import json
import pathlib
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from measure import HERE, RESULTS

RUNS = HERE.parent / "docs" / "benchmarks" / "runs"

#: What is kept of each contender, with the unit; the rest of the results can be computed from it.
UNITS = {
    "rate": "1/s",
    "cpu_per_message": "s",
    "thread_cpu_per_message": "s",
    "all_per_message": "s",
    "cpu_each": "s",
    "seconds": "s",
    "tick_50": "s",
    "tick_99": "s",
    "echo_99": "s",
    "c_echo_99": "s",
    "delay_99": "s",
    "wait_50": "s",
    "wait_99": "s",
    "longest": "s",
    "idle_cpu": "of a core",
    "idle": "of a core",
    "jain": "1",
    "share_of_slow": "1",
    "bytes": "B",
    "bytes_each": "B",
    "memory": "B",
    "most_held": "messages",
}

#: The most points that are kept of what was sampled over time.
POINTS = 150


@dataclass(frozen=True)
class Run:
    """One `make bench`: when, where and with what, without its figures."""

    facts: dict[str, Any]

    @property
    def is_short(self) -> bool:
        return "--short" in self.facts["options"]

    @property
    def date(self) -> str:
        return str(self.facts["date"])

    def footer(self) -> list[str]:
        """Return the lines below each picture."""
        facts = self.facts
        names = ("gzmqsource", "pyzmq", "libzmq", "gevent")
        versions = [f"{name} {facts[name]}" for name in names if name in facts]
        machine = [f"Python {facts['python']}", f"{facts['cores']} cores", facts.get("processor")]
        machine.append(self.date[:10])
        if self.is_short:
            machine.append("short run")
        if "load" in facts:
            machine.append(f"load {facts['load']:.1f}")
        return [" · ".join(versions), " · ".join(filter(None, machine))]


@dataclass(frozen=True)
class Record:
    """One contender in one cell, with the repeats of each of its figures."""

    run: Run
    question: str
    contender: str
    cell: dict[str, Any]
    figures: dict[str, list[float]]
    series: dict[str, Any] | None = None

    def median(self, figure: str, factor: float = 1) -> float:
        return statistics.median(self.figures[figure]) * factor


@cache
def kept() -> list[tuple[Run, list[Record]]]:
    """Return all runs with their records, the oldest first."""
    found = []
    for path in RUNS.glob("*.json"):
        content = json.loads(path.read_text())
        records = content.pop("records")
        run = Run(content)
        found.append((run, [Record(run, **one) for one in records]))
    return sorted(found, key=lambda pair: pair[0].date)


def newest(question: str) -> list[Record]:
    """Return a question's records from the last run that has them, a short one only if need be."""
    choices = []
    for run, records in kept():
        mine = [one for one in records if one.question == question]
        if mine:
            choices.append((not run.is_short, run.date, mine))
    if not choices:
        raise SystemExit(f"no run in {RUNS} has {question}: run make bench first")
    return max(choices, key=lambda choice: choice[:2])[2]


def condensed(question: str, one: dict[str, Any]) -> dict[str, Any]:
    """Return the record of one contender in one cell."""
    figures = {
        name: [float(f"{run[name]:.5g}") for run in one["runs"] if run.get(name) is not None]
        for name in UNITS
    }
    record = {
        "question": question,
        "contender": one["contender"],
        "cell": {key: value for key, value in one["cell"].items() if key != "count"},
        "figures": {name: repeats for name, repeats in figures.items() if repeats},
    }
    if figures["most_held"]:
        run = one["runs"][0]
        step = len(run["held"]) // POINTS + 1
        seconds = round(run["seconds"] / len(run["held"]) * step, 4)
        record["series"] = {"seconds": seconds, "held": run["held"][::step]}
    return record


def written(facts: dict[str, Any], records: Iterable[dict[str, Any]]) -> str:
    """Return the text of a file: a line for each fact, and for each record."""
    facts = facts | {"units": UNITS}
    head = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in facts.items()]
    body = ",\n".join("  " + json.dumps(one, ensure_ascii=False) for one in records)
    return "{\n" + "\n".join(head) + '\n "records": [\n' + body + "\n ]\n}\n"


def commit() -> str:
    """Return the last commit of the package, with a plus sign if it was changed since."""

    def git(*words: str) -> str:
        command = ["git", *words, "--", "gzmqsource"]
        done = subprocess.run(
            command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.strip()

    return git("log", "-1", "--format=%h") + "+" * bool(git("status", "--porcelain"))


def keep(results: pathlib.Path = RESULTS) -> pathlib.Path:
    """Write all results into one file, and return its path."""
    contents = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if not contents:
        raise SystemExit(f"{results} is empty: run make bench first")
    machines = sorted((one["machine"] for one in contents), key=lambda machine: machine["date"])
    facts = machines[0] | {
        "commit": commit(),
        "load": round(statistics.median(machine["load"] for machine in machines), 1),
    }
    records = [
        condensed(content["title"], one) for content in contents for one in content["figures"]
    ]
    RUNS.mkdir(parents=True, exist_ok=True)
    path = RUNS / f"{facts['date'][:16].replace(':', '-')}.json"
    path.write_text(written(facts, records))
    return path


if __name__ == "__main__":
    print(f"kept in {keep()}")
