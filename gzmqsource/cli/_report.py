"""The report of ``doctor``, as lines for people or as JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import click

from gzmqsource.cli._text import printable


@dataclass(frozen=True)
class Fact:
    """Something to know, with its name and its text for people."""

    name: str
    text: str
    #: The same for programs, by keys that stay as they are.
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or could be better, and how to fix it."""

    #: Its kind, for programs: a word that does not change between versions.
    kind: str
    text: str
    fix: str
    #: The worker that it is about, if it is about one.
    worker: str | None = None
    #: Whether it is wrong, and not only an advice.
    is_wrong: bool = True


class Report:
    """Facts and findings.

    Parameters
    ----------
    facts : iterable of Fact
        The facts, in the order of the report.
    findings : iterable of Finding
        The problems, and possible improvements.
    """

    def __init__(self, facts: Iterable[Fact], findings: Iterable[Finding]) -> None:
        self._facts = list(facts)
        found = list(findings)
        self._problems = [each for each in found if each.is_wrong]
        self._advice = [each for each in found if not each.is_wrong]

    @property
    def status(self) -> int:
        """The exit status: 1 if something is wrong."""
        return 1 if self._problems else 0

    def write(self) -> None:
        """Write lines to the standard output, folded on a terminal and whole in a pipe."""
        _write_rows((each.name, each.text) for each in self._facts)
        for mark, findings in ("!", self._problems), ("-", self._advice):
            for each in findings:
                _write_rows([(mark, each.text), ("", f"fix: {each.fix}")], gap=1)
        if not self._problems:
            click.echo("no known problems")

    def write_json(self) -> None:
        """Write one object of JSON to the standard output."""
        facts: dict[str, Any] = {}
        for fact in self._facts:
            facts |= fact.values
        content = {
            "ok": not self._problems,
            "problems": [_as_json(each) for each in self._problems],
            "advice": [_as_json(each) for each in self._advice],
            "facts": facts,
        }
        click.echo(json.dumps(content, indent=2, allow_nan=False))


def _as_json(finding: Finding) -> dict[str, str]:
    about = {} if finding.worker is None else {"worker": finding.worker}
    return {"kind": finding.kind, **about, "text": finding.text, "fix": finding.fix}


def _write_rows(rows: Iterable[tuple[str, str]], gap: int = 2) -> None:
    """Write names and texts in two columns; on a terminal no line is longer than it is wide."""
    shown = [(printable(name), printable(text)) for name, text in rows]
    indent = max((len(name) for name, _ in shown), default=0) + gap
    for name, text in shown:
        lines = [text]
        if sys.stdout.isatty():
            width = max(10, shutil.get_terminal_size().columns - indent)
            lines = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
        click.echo(name.ljust(indent) + f"\n{' ' * indent}".join(lines))
