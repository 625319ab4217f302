"""What is claimed to be supported: it was run, and no test failed. ``make support`` runs it."""

import configparser
import csv
import pathlib
import re

import pytest
from cells import CELLS, floors

pytestmark = pytest.mark.once

PROJECT = pathlib.Path(__file__).parent.parent

with (PROJECT / "docs" / "support.csv").open() as table:
    ROWS = list(csv.DictReader(table))

CLAIMED = [row for row in ROWS if row["Claimed"] == "yes"]


def test_what_is_claimed_was_run_over_all_its_loops_and_transfers():
    run = {(row["Cell"], row["Loop"], row["Transfer"]) for row in CLAIMED}
    claimed = {
        (cell.name, loop.partition("-")[0], transfer)
        for cell in CELLS
        if cell.claimed
        for loop, transfer in cell.passes
    }
    assert run == claimed


def test_no_test_failed_where_support_is_claimed():
    assert [row for row in CLAIMED if row["Failed"] != "0" or not int(row["Passed"])] == []


def test_the_metadata_names_no_python_that_is_not_claimed():
    metadata = configparser.ConfigParser()
    metadata.read(PROJECT / "setup.cfg")
    named = re.findall(r"Python :: (3\.\d+)$", metadata["metadata"]["classifiers"], re.MULTILINE)
    oldest = metadata["options"]["python_requires"].removeprefix(">=").strip()
    claimed = {row["Interpreter"].rpartition(".")[0] for row in CLAIMED}
    assert {f"CPython {version}" for version in (oldest, *named)} <= claimed


def test_the_oldest_pyzmq_and_gevent_of_the_metadata_are_claimed():
    run = {(f"pyzmq=={row['pyzmq']}", f"gevent=={row['gevent']}") for row in CLAIMED}
    assert floors() in run
