"""Sessions for many interpreters; ``nox --list`` lists them. ``make test`` needs none of this.

A session whose interpreter is not at hand is skipped, and says so. ``checks/cells.py`` has the
environments of the support table, and where they are looked for.
"""

import os
import sys

import nox

sys.path.append(os.path.join(os.path.dirname(__file__), "checks"))

from cells import CELLS, CPYTHONS

nox.needs_version = ">=2026.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"
nox.options.sessions = ["tests", "floor", "debian", "pypy", "i386-smoke", "lint", "docs"]

#: What the passes of the suite set, as in ``checks/passes.mk``, and the marks of its tests.
NATIVE = ({"GEVENT_LOOP": "libev-cext"}, "not idle")
LIBUV = ({"GEVENT_LOOP": "libuv", "GZMQSOURCE_TRANSFER": "pure"}, "not idle and not once")
PATCHED = (
    {"GEVENT_LOOP": "libev-cext", "GZMQSOURCE_TEST_PATCHED": "1"},
    "not idle and not once and not processes",
)


def run_suite(session, *passes):
    """Run passes of the suite in an environment with what most tests need."""
    session.install("--editable", ".[test]")
    for environment, marks in passes:
        session.run("python", "-m", "pytest", "-m", marks, *session.posargs, env=environment)


@nox.session(python=CPYTHONS)
def tests(session):
    """Run the whole suite, in its three passes."""
    run_suite(session, NATIVE, LIBUV, PATCHED)


@nox.session
def libuv(session):
    """Run the suite over libuv and the transfer in Python."""
    run_suite(session, LIBUV)


@nox.session
def patched(session):
    """Run the suite with the standard library monkey-patched."""
    run_suite(session, PATCHED)


def run_cell(session, cell):
    """Run the core of the suite in one environment of the support table."""
    [chosen] = [each for each in CELLS if each.name == cell]
    if not list(chosen.found()):
        session.skip(f"it needs {chosen.wants}")
    session.run(sys.executable, "checks/support.py", cell, external=True)


@nox.session(venv_backend="none")
def floor(session):
    """Run the core over the oldest pyzmq and gevent that the metadata admits."""
    run_cell(session, "floor")


@nox.session(venv_backend="none")
def debian(session):
    """Run the core over Debian's own Python, pyzmq and gevent."""
    run_cell(session, "debian")


@nox.session(venv_backend="none")
def pypy(session):
    """Run the core, or see the refusal, on PyPy."""
    run_cell(session, "pypy")


@nox.session(venv_backend="none", name="i386-smoke")
def i386(session):
    """Run the core on a Python of 32 bits."""
    run_cell(session, "i386")


@nox.session(venv_backend="none")
def lint(session):
    """Run the linters and mypy, in the environment of ``make``."""
    session.run("make", "lint", external=True)


@nox.session(venv_backend="none")
def docs(session):
    """Build the pages, in the environment of ``make``."""
    session.run("make", "docs", external=True)


@nox.session(venv_backend="none")
def checks(session):
    """Run what is no test, in a short form, in the environment of ``make``."""
    for command in ("simulate", "moments MOMENTS=--short", "chaos RUNS=2", "soak MINUTES=2"):
        session.run("make", *command.split(), external=True)
    for command in ("fuzz SECONDS=3", "pyzmq PYZMQ=--short", "packages", "sanitize"):
        session.run("make", *command.split(), external=True)
