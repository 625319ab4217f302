"""What the command says of an endpoint that is none."""

import pytest
from command_under_test import run

pytestmark = pytest.mark.once


@pytest.mark.parametrize("port", ["065536", "9" * 5000, "\N{SUPERSCRIPT TWO}", "\u0663" * 6])
def test_a_port_that_is_none_is_refused_in_a_line(port):
    finished = run("recv", "--bind", f"tcp://127.0.0.1:{port}")
    assert finished.returncode in (1, 2)
    assert b"Error: " in finished.stderr
    assert b"Traceback" not in finished.stderr
