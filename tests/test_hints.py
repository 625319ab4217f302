"""What a new user is told who imports or starts something in the wrong way."""

import importlib
import inspect
import subprocess
import sys

import pytest

import gzmqsource

pytestmark = pytest.mark.once

HINTED = [(module, name) for module, names in gzmqsource._ELSEWHERE.items() for name in names]


@pytest.mark.parametrize(("module", "name"), HINTED)
def test_a_name_that_is_elsewhere_is_reported_with_its_module(module, name):
    assert name in importlib.import_module(f"gzmqsource.{module}").__all__
    hint = f"it is in gzmqsource.{module}$"
    with pytest.raises(ImportError, match=hint):
        exec(f"from gzmqsource import {name}")
    with pytest.raises(AttributeError, match=hint):
        getattr(gzmqsource, name)
    assert not hasattr(gzmqsource, name)


def test_each_public_class_has_a_hint():
    for module in gzmqsource._ELSEWHERE:
        found = importlib.import_module(f"gzmqsource.{module}")
        classes = {each for each in found.__all__ if inspect.isclass(getattr(found, each))}
        assert classes <= {name for _, name in HINTED}


def test_a_name_that_is_nowhere_has_python_s_own_error():
    with pytest.raises(ImportError, match=r"^cannot import name 'Nope' from 'gzmqsource' \("):
        exec("from gzmqsource import Nope")


def patched(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "gzmqsource.monkey", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "there is no SCRIPT to run"),
        (("--no-ssl",), "there is no SCRIPT to run"),
        (("--nonsense", "x.py"), "there is no option --nonsense"),
        (("-m", "x"), "there is no option -m"),
        (("nowhere.py",), "there is no file nowhere.py: a module needs --module"),
    ],
)
def test_a_program_that_cannot_run_patched_is_refused_with_the_reason(arguments, reason):
    done = patched(*arguments)
    first, *rest = done.stderr.splitlines()
    assert (done.returncode, done.stdout, first) == (2, "", f"gzmqsource.monkey: {reason}")
    assert not rest or rest[1].startswith("usage: python -m gzmqsource.monkey ")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.main", ".main"])
def test_a_module_that_is_not_there_is_an_error_of_one_line(name):
    done = patched("--module", name)
    assert done.returncode == 1
    assert done.stderr == f"gzmqsource.monkey: there is no module {name}\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_usage_names_this_module_and_the_parts_that_gevent_patches(option):
    done = patched("--verbose", option)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m gevent" not in done.stdout
    assert "  socket, dns, " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
