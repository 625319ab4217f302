"""Every program of the README runs as it stands, in a process of its own."""

import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

README = pathlib.Path(__file__).parent.parent / "README.rst"

PROGRAMS = [
    textwrap.dedent(block)
    for block in re.findall(
        r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README.read_text(), re.MULTILINE
    )
]


def test_the_readme_has_its_eight_programs():
    assert len(PROGRAMS) == 8


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_of_the_readme_runs(program):
    command = [sys.executable, "-W", "error", "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_the_demo_loses_nothing():
    demo = README.parent / "examples" / "demo.py"
    command = [sys.executable, str(demo), "--clients", "2", "--count", "2000"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "4,000 of 4,000" in finished.stdout
