"""gevent's plugin, and what the environment tells it: for programs that patch themselves."""

import os
import subprocess
import sys

import pytest
from patching import EXCHANGE, run

pytestmark = [pytest.mark.once, pytest.mark.limit(90)]

#: A program that patches itself and knows nothing of gzmqsource.
PROGRAM = f"""
from gevent import monkey; monkey.patch_all(ARGUMENTS)
{EXCHANGE}
import gzmqsource.monkey
print(gzmqsource.monkey.is_patched(), gzmqsource.monkey.is_patched("zmq.green"))
"""


def program(arguments="", then=""):
    return PROGRAM.replace("ARGUMENTS", arguments) + then


def environment(value):
    return os.environ | {"GZMQSOURCE_PATCH": value}


def test_the_environment_patches_a_program_that_patches_itself():
    assert run(program(then="exchange()"), env=environment("1")) == ["True", "True", "cooperative"]


@pytest.mark.parametrize("value", ["", "0"])
def test_an_empty_value_or_zero_patches_nothing(value):
    assert run(program(), env=environment(value)) == ["False", "False"]


def test_gevent_finds_the_plugin_without_the_help_that_tests_start_with():
    path = os.environ["PYTHONPATH"].split(os.pathsep)
    assert path[0].endswith("startup")
    plain = environment("1") | {"PYTHONPATH": os.pathsep.join(path[1:])}
    text = program(then="from importlib import metadata; print(type(metadata).__name__)")
    assert run(text, env=plain) == ["True", "True", "module"]


def test_green_is_the_switch():
    assert run(program(), env=environment("green")) == ["False", "True"]


ARGUMENTS = {
    ("zmq=True", "0"): ["True", "True"],
    ("zmq=False", "1"): ["False", "False"],
    ("zmq='green'", "1"): ["False", "True"],
    ("zmq=True", "no such"): ["True", "True"],
}


@pytest.mark.parametrize(("arguments", "value"), list(ARGUMENTS))
def test_the_programs_own_argument_is_stronger_than_the_environment(arguments, value):
    assert run(program(arguments), env=environment(value)) == ARGUMENTS[arguments, value]


@pytest.mark.parametrize("value", ["yes", "true", "zmq.green"])
def test_any_other_value_ends_the_program_with_the_values_that_there_are(value):
    done = subprocess.run(
        [sys.executable, "-c", program()],
        env=environment(value),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert f"ValueError: GZMQSOURCE_PATCH='{value}': use 1, green, or 0" in done.stderr


def test_any_other_value_of_the_argument_is_an_error_too():
    done = subprocess.run(
        [sys.executable, "-c", program("zmq='gren'")],
        env=environment(""),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "ValueError: patch_all(zmq='gren'): use True, 'green', or False" in done.stderr


def test_patching_only_sockets_is_not_enough_for_the_plugin_and_all_is():
    text = """
        from gevent import monkey
        import gzmqsource.monkey
        monkey.patch_socket()
        print(gzmqsource.monkey.is_patched())
        monkey.patch_all(thread=False)
        print(gzmqsource.monkey.is_patched())
        """
    assert run(text, env=environment("1")) == ["False", "True"]
