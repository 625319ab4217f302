"""One line that is broken."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from dataclasses import dataclass

#: In place of tests: `simulation`, until it finds a schedule.
SIMULATION = "simulation"

#: The same, each of one world.
REQUESTS_SIMULATION = f"{SIMULATION} RequestsWorld"
BROKER_SIMULATION = f"{SIMULATION} BrokerWorld"


@dataclass
class Mutation:
    """A line that is broken, and the tests that should notice."""

    what: str
    module: str
    line: str
    broken: str
    tests: str
    transfer: str = "native"

    def make_in(self, tree: pathlib.Path) -> None:
        path = tree / "gzmqsource" / self.module
        text = path.read_text()
        if text.count(self.line) != 1:
            raise SystemExit(f"{self.what}: {self.module} has no line {self.line!r}, or several")
        path.write_text(text.replace(self.line, self.broken))
        if path.suffix in (".pyx", ".pxi"):
            build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--force"]
            subprocess.run(build, cwd=tree, check=True, stderr=subprocess.DEVNULL)
