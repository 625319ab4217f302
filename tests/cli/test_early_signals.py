"""A signal that comes right after a verb has bound its socket."""

import signal
import sys

import pytest
from command_under_test import until_told
from gevent import subprocess

pytestmark = [pytest.mark.once, pytest.mark.limit(60)]

#: Runs a verb that is sent a signal by its first bind, when peers may be sending already.
PROGRAM = """
import os, sys, zmq
bind = zmq.Socket.bind
def bind_and_signal(socket, endpoint):
    result = bind(socket, endpoint)
    if not endpoint.startswith("inproc:"):
        os.kill(os.getpid(), {number})
    return result
zmq.Socket.bind = bind_and_signal
from gzmqsource.cli import main
main()
"""

VERBS = {
    "serve": ("serve", "builtins:print", "--bind", "tcp://127.0.0.1:*"),
    "serve jobs": ("serve", "builtins:print", "--type", "pull", "--bind", "tcp://127.0.0.1:*"),
    "recv": ("recv", "--bind", "tcp://127.0.0.1:*"),
    "proxy": ("proxy", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
}


@pytest.mark.parametrize("workers", [(), ("--workers", 1)], ids=["alone", "workers"])
def test_a_signal_that_the_parent_has_blocked_stops_a_server(serving, workers):
    blocked = {signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        process = serving(*workers)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
    if workers:
        until_told(process, "is ready")
    process.terminate()
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_signal_right_after_the_bind_stops_a_verb_in_order(verb, number):
    program = PROGRAM.format(number=int(number))
    finished = subprocess.run(
        [sys.executable, "-c", program, *verb], capture_output=True, timeout=50, check=False
    )
    assert finished.returncode == 0, finished.stderr.decode()
