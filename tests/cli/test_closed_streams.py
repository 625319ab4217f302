"""Verbs that are started with a standard stream closed, as by ``>&-`` in a shell."""

from contextlib import closing

import pytest
import zmq
from command_under_test import COMMAND, run
from gevent import subprocess
from helpers import process_of

from gzmqsource import Source

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]

#: What Python says of a write to the output that was closed.
FAILED = "cannot write: Bad file descriptor\n"


def closing_streams(closed, *words):
    """Return the command line of a verb with some streams closed, such as ``>&- 2>&-``."""
    return ("sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *words)


def finished(closed, *words):
    return subprocess.run(
        closing_streams(closed, *words), capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.parametrize("words", [("doctor",), ("--version",), ("completion", "bash")])
def test_a_text_for_a_closed_output_is_an_error(words):
    ended = finished(">&-", *words)
    assert (ended.returncode, ended.stderr) == (1, f"gzmqsource: {FAILED}")


@pytest.mark.parametrize(
    ("closed", "said"), [(">&-", f"Error: {FAILED}"), ("<&- >&-", f"Error: {FAILED}"), ("2>&-", "")]
)
def test_a_message_for_a_closed_output_is_an_error(address, context, closed, said):
    with closing(Source.open(zmq.PUSH, bind=address, context=context, linger=0)) as source:
        source.send(b"one")
        ended = finished(closed, "recv", "--connect", address, "--count", "1", "--timeout", "9")
    assert ended.stderr == said
    assert (ended.returncode, ended.stdout) == ((1, "") if said else (0, "one\n"))


@pytest.mark.parametrize("closed", ["", "<&-", "2>&-"])
def test_another_bad_descriptor_is_not_taken_for_the_output(tmp_path, closed):
    (tmp_path / "echo.py").write_text("def answer(request):\n    return request\n")
    line = ("--join", "ipc://absent", "--tether", "999")
    command = closing_streams(closed, "serve", "echo:answer", *line)
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "cannot write" not in ended.stderr
    if closed != "2>&-":
        assert ended.stderr.endswith("OSError: [Errno 9] Bad file descriptor\n")


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_closed_input_is_at_its_end(address, closed):
    ended = finished(closed, "send", "--connect", address)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_log_that_is_closed_is_discarded():
    ended = finished("<&- 2>&-", "recv", "--bind", "tcp://127.0.0.1:*", "--count=1", "--timeout=0")
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["alone", "workers"])
def test_what_a_handler_prints_to_a_closed_output_is_discarded(address, tmp_path, workers):
    code = "def answer(request):\n    print('seen', flush=True)\n    return request\n"
    (tmp_path / "printing.py").write_text(code)
    command = closing_streams(">&-", "serve", "printing:answer", "--bind", address, *workers)
    with process_of(*command, cwd=tmp_path):
        asked = run("request", "x", "--connect", address, "--timeout", 30)
    assert (asked.returncode, asked.stdout) == (0, b"x\n")
