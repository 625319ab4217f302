"""The pictures of the pages, and the runs of the benchmarks that they are drawn from."""

import json
import pathlib
import re

import pytest

DOCS = pathlib.Path(__file__).parent.parent / "docs"
RUNS = sorted((DOCS / "benchmarks" / "runs").glob("*.json"))
IMAGE = re.compile(r"^\.\. image:: (\S+)\n((?:    *:?\S.*\n)*)", re.MULTILINE)

pytestmark = pytest.mark.once


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.rst")), ids=lambda page: page.stem)
def test_each_picture_of_a_light_page_is_followed_by_its_dark_one(page):
    images = IMAGE.findall(page.read_text())
    light = [path for path, options in images if ":class: only-light" in options]
    dark = [path for path, options in images if ":class: only-dark" in options]
    assert dark == [path.replace(".svg", "-dark.svg") for path in light]
    for path in [*light, *dark]:
        file = DOCS / path.lstrip("/") if path.startswith("/") else page.parent / path
        assert file.is_file(), path


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_kept_run_says_when_with_what_and_in_which_units_it_was_measured(path):
    run = json.loads(path.read_text())
    assert {"date", "commit", "options", "gzmqsource", "libzmq", "python", "cores"} <= run.keys()
    assert "load" in run or "source" in run
    assert run["date"].startswith(path.stem.rpartition("T")[0])
    for record in run["records"]:
        assert record["question"]
        assert record["contender"]
        assert record["figures"].keys() <= run["units"].keys()
        assert all(record["figures"].values())


def test_runs_are_kept():
    assert RUNS
