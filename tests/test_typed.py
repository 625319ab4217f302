"""The types of what is public, as users' type checkers see them: mypy and pyright."""

import collections
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from optional import needs

TYPED = pathlib.Path(__file__).parent / "typed"
PROJECT = TYPED.parent.parent

#: Checked in one run, for most of it goes into the types of what they import.
FILES = [str(TYPED / "right.py"), str(TYPED / "wrong.py")]

#: The kinds of mistakes, and what the type checkers call them.
KINDS = {
    "argument": {
        *("arg-type", "call-arg", "call-overload", "dict-item", "list-item", "return-value"),
        *("reportArgumentType", "reportCallIssue"),
    },
    "attribute": {"attr-defined", "reportAttributeAccessIssue"},
    "override": {
        *("override", "reportIncompatibleMethodOverride", "reportIncompatibleVariableOverride"),
    },
    "parameter": {"type-var", "reportInvalidTypeArguments"},
}


def run(*command):
    """Run a type checker; return its output, and end the test if it has not done its work."""
    process = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=PROJECT,
        env={**os.environ, "MYPYPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode in (0, 1), process.stdout + process.stderr
    return process.stdout


@functools.cache
def mypy():
    """Return the file, the line and the name of each error of mypy."""
    # As the oldest Python that is supported, and with none of this project's settings.
    how = ("--strict", "--config-file=", "--python-version=3.10", "--output=json")
    found = run("mypy", *how, "--cache-dir=.mypy_cache/typed", *FILES)
    return [
        (pathlib.Path(error["file"]).name, error["line"], error["code"])
        for error in map(json.loads, filter(None, found.splitlines()))
        if error["severity"] == "error"
    ]


@functools.cache
def missing_of_pyright():
    """Return what the package, which gets pyright from npm, reports where it cannot; else None."""
    command = [sys.executable, "-m", "pyright", "--version"]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.TimeoutExpired:
        return "npm takes longer than a minute"
    except subprocess.CalledProcessError as error:
        return error.stderr.strip().splitlines()[-1]
    return None


@functools.cache
def pyright():
    """Return the file, the line and the name of each error of pyright."""
    if missing_of_pyright() is not None:
        pytest.skip(f"pyright needs Node.js and npm: {missing_of_pyright()}")
    found = run("pyright", "--outputjson", "--pythonpath", sys.executable, *FILES)
    return [
        (
            pathlib.Path(error["file"]).name,
            error["range"]["start"]["line"] + 1,
            error.get("rule", error["message"]),
        )
        for error in json.loads(found)["generalDiagnostics"]
        if error["severity"] == "error"
    ]


CHECKERS = [
    pytest.param(mypy, marks=needs("mypy", "gevent-stubs", extra="dev"), id="mypy"),
    pytest.param(pyright, marks=needs("pyright", "gevent-stubs", extra="dev"), id="pyright"),
]

pytestmark = [
    pytest.mark.once,
    # Each begins with the types of zmq and gevent, which a cache may not have.
    pytest.mark.limit(300),
]


@pytest.mark.parametrize("errors_of", CHECKERS)
def test_what_is_right_has_no_error(errors_of):
    assert [error for error in errors_of() if error[0] != "wrong.py"] == []


@pytest.mark.parametrize("errors_of", CHECKERS)
def test_what_is_wrong_is_seen_on_the_lines_that_say_so_and_on_no_other(errors_of):
    path = TYPED / "wrong.py"
    lines = enumerate(path.read_text().splitlines(), 1)
    marked = {
        number: {mark[1]} for number, line in lines if (mark := re.search("# error: (.+)", line))
    }
    seen: dict[int, set[str]] = collections.defaultdict(set)
    for file, number, name in errors_of():
        if file != path.name:
            continue
        kinds = {kind for kind, names in KINDS.items() if name in names}
        seen[number] |= kinds or {name}
    assert seen == marked
