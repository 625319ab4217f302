"""The variables that every program reads, with values that they cannot have."""

import os
import sys

import pytest
from asking import Asker
from command_under_test import COMMAND
from gevent import subprocess

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(60)]

WRONG = {
    "GZMQSOURCE_PATCH": ("7", "use 1, green or 0"),
    "GZMQSOURCE_TRANSFER": ("foo", "use native or pure"),
    "GZMQSOURCE_DEBUG": ("yes", "use 1 or 0"),
}

VERBS = {
    "serve": ("serve", "json:dumps", "--bind", "tcp://127.0.0.1:*"),
    "workers": ("serve", "json:dumps", "--bind", "tcp://127.0.0.1:*", "--workers", "2"),
    "doctor": ("doctor",),
    "help": ("--help",),
}


def run(*command, **environment):
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_one_line_and_the_status_of_a_wrong_command_line(name, verb):
    value, fix = WRONG[name]
    finished = run(*COMMAND, *verb, **{name: value})
    assert finished.stderr == f"Error: {name}={value!r}: {fix}\n"
    assert (finished.returncode, finished.stdout) == (2, "")


def test_a_program_that_is_patched_is_not_run_with_a_wrong_value():
    program = (sys.executable, "-m", "gzmqsource.monkey", "--module", "json.tool", "--help")
    finished = run(*program, GZMQSOURCE_PATCH="7")
    assert finished.stderr.startswith("gzmqsource.monkey: GZMQSOURCE_PATCH='7': use ")
    assert len(finished.stderr.splitlines()) == 1
    assert (finished.returncode, finished.stdout) == (2, "")


IS_PATCHED = """
from gzmqsource.monkey import is_patched
def answer(request):
    return b"%d" % is_patched()
"""


@pytest.mark.parametrize(("value", "patched"), [("", b"1"), ("0", b"0")])
def test_an_empty_variable_counts_as_not_set(starting, tmp_path, address, context, value, patched):
    (tmp_path / "code.py").write_text(IS_PATCHED)
    starting("serve", "code:answer", "--bind", address, GZMQSOURCE_PATCH=value)
    with Asker(context, address) as asker:
        assert asker.wait_for(asker.ask()) == [patched]
