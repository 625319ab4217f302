"""A SIGHUP ends every verb that has nothing to load again, also one that came during its start."""

import os
import signal
import sys

import pytest
from command_under_test import COMMAND, run
from gevent import subprocess
from helpers import process_of

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(60)]

ENDPOINTS = ("tcp://127.0.0.1:*", "tcp://127.0.0.1:0")

#: Runs a broker that is hung up while it is imported.
PROGRAM = """
import os, signal
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "gzmqsource.broker":
            os.kill(os.getpid(), signal.SIGHUP)
import sys
sys.meta_path.insert(0, Finder())
from gzmqsource.cli import main
main()
"""


def test_a_hangup_ends_a_broker_without_keys_to_read_again(starting):
    process = starting("broker", *ENDPOINTS)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == -signal.SIGHUP


def test_a_hangup_during_its_start_ends_a_broker_without_keys_to_read_again():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "broker", *ENDPOINTS], timeout=50, check=False
    )
    assert ended.returncode == -signal.SIGHUP


def test_a_hangup_has_a_broker_read_its_keys_again(starting, tmp_path):
    assert run("keygen", tmp_path).returncode == 0
    keys = ("--curve-key", tmp_path / "gzmqsource.key_secret", "--curve-clients", tmp_path)
    process = starting("broker", *ENDPOINTS, *keys)
    process.send_signal(signal.SIGHUP)
    assert "was read again" in process.stderr.readline()


def test_options_of_another_verb_keep_no_verb_from_its_end():
    command = (*COMMAND, "proxy", *ENDPOINTS)
    variables = os.environ | {"GZMQSOURCE_RECV_CURVE_CLIENTS": "/"}
    with process_of(*command, stderr=subprocess.PIPE, env=variables) as process:
        assert "is served" in process.stderr.readline()
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=20) == -signal.SIGHUP


def test_a_hangup_that_was_ignored_at_the_start_is_ignored(starting):
    command = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh", *COMMAND, "broker", *ENDPOINTS)
    with process_of(*command, stderr=subprocess.PIPE) as process:
        assert "pid" in process.stderr.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert "stopped" in process.stderr.readline()
        assert process.wait(timeout=20) == 0
