"""What systemd is told while `serve --workers` replaces its workers."""

import signal

import pytest
from command_under_test import until_told

from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

HELD_UP = """
import os, time
open("importing", "w").close()
while not os.path.exists("go on"):
    time.sleep(0.01)
"""
ANSWER = "answer = list\n"


@pytest.fixture
def rolling(serving, systemd, tmp_path):
    """Start a roll, to code of which each worker is held up until a file ``go on`` is there."""

    def start(code):
        (tmp_path / "code.py").write_text(ANSWER)
        options = {"target": "code:answer", "NOTIFY_SOCKET": systemd.names[0]}
        process = serving("--workers", 2, **options)
        for _ in range(2):
            until_told(process, "is ready")
        (tmp_path / "code.py").write_text(HELD_UP + code)
        process.send_signal(signal.SIGHUP)
        wait_until((tmp_path / "importing").exists, timeout=60)
        return process

    return start


def firsts(systemd):
    """Return the states, without a mere status as before the first worker is ready."""
    return [name for each in systemd.told if (name := each.split("=")[0]) != "STATUS"]


def test_it_reloads_until_all_workers_are_replaced(rolling, systemd, tmp_path):
    process = rolling(ANSWER)
    assert firsts(systemd) == ["READY", "RELOADING"]
    (tmp_path / "go on").touch()
    until_told(process, "is ready")
    assert firsts(systemd) == ["READY", "RELOADING"]  # one of two
    until_told(process, "all workers were replaced")
    wait_until(lambda: firsts(systemd) == ["READY", "RELOADING", "READY"])


def test_it_reloads_until_new_code_has_failed(rolling, systemd, tmp_path):
    process = rolling("raise KeyError\n")
    assert firsts(systemd) == ["READY", "RELOADING"]
    (tmp_path / "go on").touch()
    until_told(process, "the workers continue with the old code")
    wait_until(lambda: firsts(systemd) == ["READY", "RELOADING", "READY"])


def test_after_another_hangup_it_reloads_until_the_end_of_both(rolling, systemd, tmp_path):
    process = rolling("raise KeyError\n")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: systemd.count("RELOADING=1") == 2)
    (tmp_path / "code.py").write_text(ANSWER)
    assert systemd.count("READY=1") == 1
    (tmp_path / "go on").touch()
    until_told(process, "all workers were replaced")
    wait_until(lambda: systemd.count("READY=1") == 3)
    assert firsts(systemd) == ["READY", "RELOADING", "RELOADING", "READY", "READY"]


def test_a_stop_ends_a_roll(rolling, systemd, tmp_path):
    process = rolling(ANSWER)
    process.terminate()
    assert process.wait(timeout=20) == 0
    wait_until(lambda: systemd.count("STOPPING=1"))
    assert firsts(systemd) == ["READY", "RELOADING", "STOPPING"]
