"""`bench` and `doctor`."""

import os

import pytest
from command_under_test import run
from optional import needs

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@needs("matplotlib", extra="plot")
def test_a_benchmark_gives_ratios_and_a_picture(tmp_path):
    picture = tmp_path / "rates.svg"
    finished = run("bench", "--count", 1000, "--runs", 1, "--plot", picture)
    assert finished.returncode == 0, finished.stderr
    text = finished.stdout.decode()
    for line in ("receive, 1 frame", "receive, 3 frames", "send, 1 frame", "send, 3 frames"):
        assert line in text
    assert picture.read_text().startswith("<?xml")


def test_the_doctor_tells_what_is_in_use():
    finished = run("doctor", env=os.environ | {"GZMQSOURCE_TRANSFER": "pure"})
    assert finished.returncode == 0
    text = finished.stdout.decode()
    assert "pure: GZMQSOURCE_TRANSFER=pure" in text
    assert "! the transfer in Python is slower" in text
