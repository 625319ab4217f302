"""Servers for the tests of the command, each with its own port."""

import os

import pytest
from command_under_test import COMMAND
from gevent import subprocess
from helpers import free_ports, process_of

HANDLER = """
import gevent
def answer(payload):
    gevent.sleep(0.02)
    return [b"{version}", *payload]
def note(payload):
    with open("accepted", "ab", 0) as file:
        file.write(payload[0] + b"\\n")
    return answer(payload)[1:]
def fail(payload):
    raise KeyError("no such thing")
def block(payload):
    gevent.sleep(60)
"""


@pytest.fixture
def address():
    return f"tcp://127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture
def serving(tmp_path, address):
    """Start ``serve`` with more arguments, those of all verbs, and variables; gives its process."""
    path = tmp_path / "served.py"
    path.write_text(HANDLER.replace("{version}", "old"))
    stack = []

    def start(*arguments, target="served:answer", common=(), binds=True, **environment):
        process = process_of(
            *COMMAND,
            *common,
            "serve",
            target,
            *(("--bind", address) if binds else ()),
            *arguments,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        )
        stack.append(process)
        started = process.__enter__()
        assert "pid" in started.stderr.readline()
        return started

    yield start
    for process in stack:
        process.__exit__(None, None, None)
