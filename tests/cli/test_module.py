"""`python -m gzmqsource` is the command, whose verbs explain an endpoint without a transport."""

import sys

import pytest
from command_under_test import run
from gevent import subprocess

import gzmqsource

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

MODULE = (sys.executable, "-m", "gzmqsource")


def run_module(*words, before=MODULE):
    return subprocess.run([*before, *words], capture_output=True, timeout=60, check=False)


def test_the_package_is_run_as_the_command_is():
    finished = run_module("--version")
    assert finished.returncode == 0
    assert finished.stdout.decode() == f"python -m gzmqsource, version {gzmqsource.__version__}\n"
    assert b"Usage: python -m gzmqsource send [OPTIONS]" in run_module("send", "--help").stdout
    assert run_module("send", "--no-such").returncode == 2


#: Runs the package as `python -m` does, without a package of the extra.
WITHOUT = """
import runpy, sys
sys.modules[{name!r}] = None
runpy.run_module("gzmqsource", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", ["click", "rich"])
def test_the_package_names_what_the_command_lacks(name):
    finished = run_module(before=(sys.executable, "-c", WITHOUT.format(name=name)))
    assert finished.returncode == 1
    assert finished.stderr.decode() == (
        f"gzmqsource: {name} is missing: pip install 'gzmqsource[cli]'\n"
    )


VERBS = {
    "send": ("send", "--connect", "{}", "x"),
    "recv": ("recv", "--bind", "{}"),
    "request": ("request", "--connect", "{}", "x"),
    "monitor": ("monitor", "--connect", "{}"),
    "monitor of a server": ("monitor", "--bind", "{}"),
    "serve": ("serve", "json:dumps", "--bind", "{}"),
    "serve jobs": ("serve", "builtins:print", "--type", "pull", "--bind", "{}"),
    "serve with workers": ("serve", "json:dumps", "--workers", "2", "--bind", "{}"),
    "serve for a broker": ("serve", "json:dumps", "--join", "{}"),
    "proxy": ("proxy", "{}", "tcp://127.0.0.1:*"),
    "proxy at the back": ("proxy", "tcp://127.0.0.1:*", "{}"),
    "broker": ("broker", "{}", "tcp://127.0.0.1:*"),
    "broker at the back": ("broker", "tcp://127.0.0.1:*", "{}"),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_every_verb_explains_an_endpoint_without_its_transport(verb):
    finished = run(*(word.format("127.0.0.1:5555") for word in verb))
    assert finished.returncode == 2
    last = finished.stderr.decode().splitlines()[-1]
    assert last.startswith("Error: cannot ")
    assert last.endswith(
        " to 127.0.0.1:5555: it has no transport, and an endpoint is tcp://HOST:PORT, "
        "ipc://PATH or inproc://NAME: use tcp://127.0.0.1:5555"
    )
