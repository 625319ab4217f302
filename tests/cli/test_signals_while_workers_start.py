"""Signals to all processes of `serve --workers`, and to one, while its workers start."""

import os
import signal

import pytest
from asking import Asker
from command_under_test import COMMAND, until_told
from gevent import subprocess
from helpers import process_of, python_path

from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: Holds a worker up in the start of Python, before any code of the command runs.
SLOW_START = """
import os, sys, time
if "--tether" in sys.orig_argv:
    open("starting", "w").close()
    while not os.path.exists("go on"):
        time.sleep(0.01)
"""

#: Holds a worker up in the import of the handler's module.
SLOW_IMPORT = """
import os, time
open("starting", "w").close()
while not os.path.exists("go on"):
    time.sleep(0.01)
def answer(request):
    return [b"%d" % os.getpid()]
"""

#: Answers with the signals that a program has which the module starts, when it is imported.
PROGRAM = """
import subprocess
signals = subprocess.check_output(["grep", "Sig[BI]", "/proc/self/status"])
def answer(request):
    return [signals]
"""

#: Answers how a fork of the process ends that is sent a signal, when the module is imported. In
#: one of twenty programs gevent's own waitpid would not return for a child that ends at once.
FORK = """
import os, signal
from gevent.monkey import get_original
pid = os.fork()
if not pid:
    signal.raise_signal(signal.SIGTERM)
    os._exit(0)
status = os.waitstatus_to_exitcode(get_original("os", "waitpid")(pid, 0)[1])
def answer(request):
    return [b"%d" % status]
"""


@pytest.fixture
def start(tmp_path, address):
    """Start ``serve`` with a handler's module and more arguments; gives its process."""

    def start(module, *arguments):
        (tmp_path / "module.py").write_text(module)
        return process_of(
            *(*COMMAND, "serve", "module:answer", "--bind", address, *arguments),
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": python_path(tmp_path)},
            start_new_session=True,
        )

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("slow", [SLOW_START, SLOW_IMPORT], ids=["start", "import"])
def test_a_signal_to_all_processes_while_workers_start_stops_the_master_in_order(
    start, tmp_path, slow, number
):
    if slow == SLOW_START:
        (tmp_path / "sitecustomize.py").write_text(SLOW_START)
    with start(SLOW_IMPORT, "--workers", 2) as process:
        until_told(process, "pid")
        wait_until((tmp_path / "starting").exists, timeout=60)
        os.killpg(process.pid, number)
        _, told = process.communicate(timeout=20)
        assert process.returncode == 0, told
        assert told.count("has left") == 2
        assert "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_worker_that_starts_is_left_to_the_master(
    start, tmp_path, number, context, address
):
    (tmp_path / "sitecustomize.py").write_text(SLOW_START)
    with start(SLOW_IMPORT, "--workers", 1) as process, Asker(context, address) as asker:
        wait_until((tmp_path / "starting").exists, timeout=60)
        (child,) = _children_of(process)
        os.kill(child, number)
        (tmp_path / "go on").touch()
        assert int(asker.wait_for(asker.ask())[0]) == child
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_a_worker_that_is_dismissed_while_it_starts_ends_at_once(start, tmp_path):
    with start(SLOW_IMPORT, "--workers", 2) as process:
        wait_until((tmp_path / "starting").exists, timeout=60)
        process.send_signal(signal.SIGTTOU)
        until_told(process, "has left")
        assert len(_children_of(process)) == 1
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_a_signal_to_stop_counts_before_the_ends_of_the_workers(start, tmp_path):
    with start(SLOW_IMPORT, "--workers", 1) as process:
        wait_until((tmp_path / "starting").exists, timeout=60)
        process.send_signal(signal.SIGSTOP)
        (child,) = _children_of(process)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: _state(child) == "Z")
        process.terminate()
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("module", [PROGRAM, FORK], ids=["program", "fork"])
def test_what_a_module_starts_has_the_signals_that_it_has_without_a_master(
    start, module, context, address
):
    answers = []
    for arguments in (), ("--workers", 1):
        with start(module, *arguments) as process, Asker(context, address) as asker:
            answers.append(asker.wait_for(asker.ask()))
            process.terminate()
            assert process.wait(timeout=20) == 0
    assert answers[0] == answers[1]


def _state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]


def _children_of(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return [int(pid) for pid in file.read().split()]
