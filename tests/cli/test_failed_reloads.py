"""A reload that has failed, as `doctor` with a running server and systemd report it."""

import json
import signal

import pytest
import zmq.auth
from command_under_test import run, until_told
from helpers import free_ports
from http_pages import ask

from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

BROKEN = "raise RuntimeError('bad deploy')\n"
ANSWER = "answer = list\n"


@pytest.fixture
def port():
    return free_ports(1)[0]


def problems(port):
    """Return the exit status of ``doctor``, and the problems that it finds."""
    finished = run("doctor", port, "--json")
    return finished.returncode, json.loads(finished.stdout)["problems"]


#: Exceptions that have no text.
WITHOUT_TEXT = """
class Wrong(Exception):
    def __str__(self):
        return "code " + 7

    __repr__ = __str__
raise {}
"""


@pytest.mark.parametrize("raised", ["Wrong", "SystemExit(Wrong())"])
def test_an_exception_without_a_text_ends_neither_the_reload_nor_the_next_one(
    serving, tmp_path, port, raised
):
    code = tmp_path / "code.py"
    code.write_text(ANSWER)
    process = serving("--metrics", port, target="code:answer")
    assert problems(port) == (0, [])
    code.write_text(WITHOUT_TEXT.format(raised))
    process.send_signal(signal.SIGHUP)
    until_told(process, "reloading failed")
    assert problems(port)[0] == 1
    code.write_text(f"# no longer than needed\n{ANSWER}")
    process.send_signal(signal.SIGHUP)
    until_told(process, "was reloaded")
    assert problems(port) == (0, [])


@pytest.mark.parametrize(
    ("options", "failure", "success"),
    [
        ((), "reloading failed", "was reloaded"),
        (("--workers", 1), "the workers continue with the old code", "all workers were replaced"),
    ],
    ids=["alone", "workers"],
)
def test_a_server_with_old_code_is_not_well_until_a_reload_succeeds(
    serving, systemd, tmp_path, port, options, failure, success
):
    code = tmp_path / "code.py"
    code.write_text(ANSWER)
    process = serving(
        *("--metrics", port, *options), target="code:answer", NOTIFY_SOCKET=systemd.names[0]
    )
    if options:
        until_told(process, "is ready")
    assert problems(port) == (0, [])
    code.write_text(BROKEN)
    process.send_signal(signal.SIGHUP)
    until_told(process, failure)
    wait_until(lambda: systemd.count("STATUS=the last reload failed"))
    status, (problem,) = problems(port)
    assert (status, problem["kind"]) == (1, "reload-failed")
    assert problem["text"] == "the last reload failed: the old code is still in use"
    assert "send SIGHUP again" in problem["fix"]
    assert ask(port, "/readyz") == (200, "ready\n")  # it answers, by the old code
    code.write_text(f"# no longer than needed\n{ANSWER}")
    process.send_signal(signal.SIGHUP)
    until_told(process, success)
    wait_until(lambda: systemd.count("STATUS=reloaded"))
    assert problems(port) == (0, [])


HELD_UP = """
import os, time
open("importing", "w").close()
while not os.path.exists("go on"):
    time.sleep(0.01)
"""


def test_while_workers_are_replaced_no_reload_has_failed(serving, tmp_path, port):
    code = tmp_path / "code.py"
    code.write_text(ANSWER)
    process = serving("--metrics", port, "--workers", 1, target="code:answer")
    until_told(process, "is ready")
    code.write_text(HELD_UP + ANSWER)
    process.send_signal(signal.SIGHUP)
    wait_until((tmp_path / "importing").exists, timeout=60)
    assert problems(port) == (0, [])
    (tmp_path / "go on").touch()
    until_told(process, "all workers were replaced")
    assert problems(port) == (0, [])


def test_a_broker_with_a_key_that_cannot_be_read_is_not_well(starting, tmp_path, port):
    zmq.auth.create_certificates(tmp_path, "own")
    friends = tmp_path / "friends"
    friends.mkdir()
    process = starting(
        *("broker", "tcp://127.0.0.1:*", f"ipc://{tmp_path}/back"),
        *("--curve-key", tmp_path / "own.key_secret", "--curve-clients", friends),
        *("--metrics", port),
    )
    assert problems(port) == (0, [])
    (friends / "bad.key").write_text("this is no key")
    process.send_signal(signal.SIGHUP)
    until_told(process, "the same keys as before are accepted")
    status, (problem,) = problems(port)
    assert (status, problem["kind"]) == (1, "reload-failed")
    assert "--curve-clients" in problem["text"]
    (friends / "bad.key").unlink()
    process.send_signal(signal.SIGHUP)
    until_told(process, "was read again")
    assert problems(port) == (0, [])
