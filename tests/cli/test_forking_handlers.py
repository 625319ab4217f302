"""A handler of ``serve`` that forks: its child is not a second server."""

import pathlib
import signal
from functools import partial

import pytest
from command_under_test import until_told

from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.limit(60)]

FORKS = """
from os import fork

def answer(payload):
    child = fork()
    if not child and payload[0] == b"raise":
        raise SystemExit(3)
    return b"%d" % child
"""


def has_ended(pid):
    """Return whether a process is gone, or is only to be reaped."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # before the file is opened, or after
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["alone", "workers"])
def test_a_child_that_returns_from_the_handler_ends(starting, tmp_path, context, address, workers):
    (tmp_path / "forks.py").write_text(FORKS)
    server = starting("serve", "forks:answer", "--bind", address, "--dead-after", 20, *workers)
    with Requester.open(address, context=context, linger=0, dead_after=20) as requester:
        for payload in (b"return", b"raise"):
            child = int(requester.request(payload, timeout=30)[0])
            assert child
            until_told(server, "its child returns")
            wait_until(partial(has_ended, child))
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0


@pytest.mark.parametrize("end", ["pass", "raise SystemExit", "1 / 0"])
def test_a_child_that_a_reload_forks_ends(starting, tmp_path, context, address, end):
    """It would answer at the same endpoint, and on the same page of metrics."""
    code = tmp_path / "forks.py"
    code.write_text("child = 1\ndef answer(payload):\n    return b'%d' % child\n")
    server = starting("serve", "forks:answer", "--bind", address, "--dead-after", 20)
    with Requester.open(address, context=context, linger=0, dead_after=20) as requester:
        assert requester.request(b"", timeout=30) == [b"1"]
        forking = f"import os\nchild = os.fork()\nif not child: {end}"
        code.write_text(code.read_text().replace("child = 1", forking))
        server.send_signal(signal.SIGHUP)
        until_told(server, "its child returns")
        wait_until(lambda: requester.request(b"", timeout=30) != [b"1"])
        wait_until(partial(has_ended, int(requester.request(b"", timeout=30)[0])))
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
