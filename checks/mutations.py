"""Break, one at a time, each line that keeps an invariant, and see that the suite fails.

Run by ``make mutations``. Each mutation is made in a copy of the project, over which the tests that
should notice run until the first of them does. The exit status is 1 if one goes unnoticed, and if
they fail over a copy that is not broken.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from mutants import MUTATIONS, SIMULATION, Mutation

HERE = pathlib.Path(__file__).parent.parent
COPIED = (
    "gzmqsource",
    "tests",
    "checks",
    "docs",
    "examples",
    "README.rst",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)

#: Seconds after which the tests of one mutation count as noticing it: they hang.
LIMIT = 300


@contextlib.contextmanager
def copied():
    """Copy the project for the time of the block."""
    with tempfile.TemporaryDirectory() as name:
        tree = pathlib.Path(name)
        for each in COPIED:
            source = HERE / each
            if source.is_dir():
                shutil.copytree(source, tree / each)
            else:
                shutil.copy(source, tree)
        yield tree


def fails(tree: pathlib.Path, tests: str, transfer: str, seconds: int = 150) -> bool:
    """Run tests in a copy of the project, or the simulation for some seconds, until one fails."""
    # The copy's package comes first on the path, also of the tests' own processes in other folders.
    files = [f"tests/{each}" for each in tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not idle", *files]
    environment = os.environ | {"GZMQSOURCE_TRANSFER": transfer, "PYTHONPATH": str(tree)}
    name, _, world = tests.partition(" ")
    if name == SIMULATION:
        command = [sys.executable, "-m", "simulation", "--seconds", str(seconds), "--seed", "1"]
        command += ["--world", world] if world else []
        environment |= {"PYZMQ_BACKEND": "simulation.backend", "GZMQSOURCE_TRANSFER": "pure"}
        environment["PYTHONPATH"] = os.pathsep.join((str(tree / "checks"), str(tree)))
    try:
        finished = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    if finished.returncode in (2, 3, 4, 5):
        raise SystemExit(f"pytest could not run {tests}")
    return finished.returncode != 0


def notices(mutation: Mutation) -> bool:
    """Run the tests over a broken copy; True if they fail."""
    with copied() as tree:
        mutation.make_in(tree)
        return fails(tree, mutation.tests, mutation.transfer)


def check_unbroken(chosen: list[Mutation]) -> None:
    """End here if tests fail without a mutation, for those would seem to notice any."""
    with copied() as tree:
        for tests, transfer in sorted({(each.tests, each.transfer) for each in chosen}):
            if fails(tree, tests, transfer, seconds=5):
                raise SystemExit(f"without a mutation, {tests} fails")


def main() -> int:
    wanted = " ".join(sys.argv[1:])
    chosen = [each for each in MUTATIONS if wanted in each.what]
    check_unbroken(chosen)
    unnoticed = 0
    for mutation in chosen:
        started = time.monotonic()
        noticed = notices(mutation)
        unnoticed += not noticed
        seconds = time.monotonic() - started
        print(f"{'noticed' if noticed else 'NOT NOTICED':<12} {seconds:5.0f} s  {mutation.what}")
        sys.stdout.flush()
    print(f"{len(chosen) - unnoticed} of {len(chosen)} noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
