"""How long ``from gzmqsource import Source`` takes beyond ``import gevent, zmq``."""

from __future__ import annotations

import os
import subprocess
import sys

from measure import Figures, arguments, print_table, save

IMPORTS = {
    "gevent, zmq": "gevent, zmq",
    "gevent, zmq, Source": "gevent, zmq; from gzmqsource import Source",
    "gevent, zmq.green": "gevent, zmq.green",
    "gevent, gzmqsource.green": "gevent, gzmqsource.green",
}

PROGRAM = """
import time
started = time.perf_counter()
import {}
print(time.perf_counter() - started)
"""


def seconds(modules: str) -> float:
    program = PROGRAM.format(modules)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
        # Compiled modules are kept, as an installed program's are.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    return float(done.stdout)


def main() -> None:
    chosen = arguments(__doc__)
    figures = [Figures(name, {}) for name in IMPORTS]
    for _ in range(4 * chosen.runs):
        for one in figures:
            one.runs.append({"seconds": seconds(IMPORTS[one.contender])})
    save("startup", figures)
    least = figures[0].median("seconds")
    rows = [
        [
            one.contender,
            one.shown("seconds", 1e3, 1),
            f"{(one.median('seconds') - least) * 1e3:.1f}",
        ]
        for one in figures
    ]
    print_table("Start-up", ["import", "ms", "ms beyond the first"], rows)


if __name__ == "__main__":
    main()
