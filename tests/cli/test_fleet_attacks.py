"""`serve --workers` where those who run it, or the handler's module, are not kind to it."""

import io
import json
import os
import pty
import signal
import sys

import gevent
import pytest
from command_under_test import COMMAND, run, until_told
from gevent import subprocess
from gevent.fileobject import FileObjectThread
from helpers import process_of

from gzmqsource.cli._fleet.fleet import Fleet
from gzmqsource.cli._stderr import Unblocked
from gzmqsource.testing import wait_until
from gzmqsource.workers import PeerLost, Requester

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


#: Answers with the process; forks, or is stuck, if asked to be.
CODE = """
import os, gevent
if os.path.exists("daemon") and os.fork():
    os._exit(0)
def answer(request):
    if request == [b"fork"]:
        child = os.fork()
        if child == 0:
            gevent.sleep(60)
            os._exit(0)
        return [b"%d" % child]
    while request == [b"loop"]:
        pass
    return [b"%d" % os.getpid(), *request]
"""


#: Runs a command in the background of a terminal that stops what writes to it from there.
IN_BACKGROUND = """
import os, subprocess, sys, termios
os.setsid()
terminal = os.open(sys.argv[1], os.O_RDWR)
modes = termios.tcgetattr(terminal)
modes[3] |= termios.TOSTOP
termios.tcsetattr(terminal, termios.TCSANOW, modes)
process = subprocess.Popen(sys.argv[2:], stderr=terminal, preexec_fn=os.setpgrp)
print(process.pid, flush=True)
sys.exit(process.wait())
"""


@pytest.fixture
def folder(tmp_path):
    """Return where the code is."""
    (tmp_path / "code.py").write_text(CODE)
    return tmp_path


def test_a_worker_that_cannot_be_started_is_tried_again_soon():
    """As while the interpreter is replaced."""
    tried = []

    def start(number, changed):
        tried.append(number)
        raise FileNotFoundError(2, "no such interpreter")

    fleet = Fleet(start, 1, 1.0, 1.0)
    fleet.start()
    wait_until(lambda: len(tried) == 4)
    fleet.kill()


def fill(fd):
    """Write to a pipe until nothing more has room; return how many bytes were written."""
    os.set_blocking(fd, False)
    size = 0
    try:
        while True:
            size += os.write(fd, b".")
    except BlockingIOError:
        return size
    finally:
        os.set_blocking(fd, True)


@pytest.mark.parametrize("workers", [(), ("--workers", 1)])
def test_a_log_that_nobody_reads_holds_up_no_server(workers, folder, address, context):
    reader, writer = os.pipe()
    fill(writer)
    command = (*COMMAND, "serve", "code:answer", "--bind", address, *workers)
    with process_of(*command, cwd=folder, stderr=writer) as process:
        os.close(writer)
        with Requester.open(address, context=context, linger=0) as requester:
            assert requester.request(b"x", timeout=20)[1:] == [b"x"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
    os.close(reader)


def test_what_a_full_pipe_does_not_take_is_dropped_and_counted():
    reader, writer = os.pipe()
    with io.FileIO(reader) as pipe, io.FileIO(writer, "w") as file:
        unblocked = Unblocked(file)
        size = fill(writer)
        assert unblocked.write(b"lost\n") == 5
        assert unblocked.write(b"too\n") == 4
        assert pipe.read(size) == b"." * size
        assert unblocked.write(b"written\n") == 8
        told = b"\n(9 bytes of this log were lost: it was full)\n"
        assert pipe.read(1 << 16) == told + b"written\n"


def test_a_stuck_worker_is_replaced_although_its_fork_runs(folder, address, context):
    command = (*COMMAND, "serve", "code:answer", "--bind", address, "--workers", 1)
    with (
        process_of(*command, "--dead-after", 0.5, cwd=folder, stderr=subprocess.PIPE) as process,
        Requester.open(address, context=context, linger=0) as requester,
    ):
        until_told(process, "is ready")
        (child,) = requester.request(b"fork", timeout=20)
        try:
            with pytest.raises(PeerLost):
                requester.request(b"loop", timeout=20)
            until_told(process, "is stuck")
            until_told(process, "is ready")
            assert requester.request(b"x", timeout=20)[1:] == [b"x"]
        finally:
            os.kill(int(child), signal.SIGKILL)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_module_that_makes_a_daemon_of_its_process_leaves_none_behind(folder, address):
    (folder / "daemon").touch()
    ended = run(*("serve", "code:answer", "--bind", address, "--workers", 1), cwd=folder, text=True)
    # The pipe has its end only once the fork has ended, too.
    assert "the module has forked" in ended.stderr
    assert ended.returncode == 1


def test_nothing_is_left_of_the_folder_of_a_master_that_is_killed(folder, address, tmp_path):
    temporary = tmp_path / "t"
    temporary.mkdir()
    variables = os.environ | {"TMPDIR": str(temporary)}
    command = (*COMMAND, "serve", "code:answer", "--bind", address, "--workers", 2)
    with process_of(*command, cwd=folder, env=variables, stderr=subprocess.PIPE) as process:
        until_told(process, "is ready")
        assert len(list(temporary.iterdir())) == 1
        process.kill()
        wait_until(lambda: not list(temporary.iterdir()))


def test_a_master_that_has_no_place_for_its_folder_says_so(address):
    program = (
        "import tempfile; tempfile.tempdir = '/nowhere'; from gzmqsource.cli import main; main()"
    )
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "serve",
            "code:answer",
            "--bind",
            address,
            "--workers",
            "1",
        ],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ended.stderr == "Error: no folder for the workers: No such file or directory\n"
    assert ended.returncode == 1


def test_a_master_in_the_background_of_a_terminal_writes_its_log_and_ends(folder, address):
    ours, theirs = pty.openpty()
    command = (*COMMAND, "--log-format", "json", "serve", "code:answer", "--bind", address)
    background = (sys.executable, "-c", IN_BACKGROUND, os.ttyname(theirs))
    with (
        FileObjectThread(ours, "r") as terminal,
        process_of(*background, *command, "--workers", 1, cwd=folder) as process,
    ):
        pid = int(process.stdout.readline())
        os.close(theirs)  # else a read from the terminal does not end with the process
        try:
            with gevent.Timeout(20):
                while not json.loads(terminal.readline())["message"].endswith("is ready"):
                    pass
            os.kill(pid, signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise


#: A worker that has enough while its line is full, as of a master that reads nothing for minutes.
FULL = """
import os, socket, types, gevent
from pathlib import Path
from gzmqsource.cli._fleet.tether import Tether
from gzmqsource.cli._fleet.words import ENOUGH
masters, workers = socket.socketpair()
masters = gevent.socket.socket(fileno=masters.detach())
while True:
    try:
        workers.send(b"x", socket.MSG_DONTWAIT)
    except BlockingIOError:
        break
tether = Tether(workers.detach(), 1, 0.01, Path("no folder", "no file"))
tether.ready(types.SimpleNamespace(is_member=True), None)
tether.ask_to_stop()
with gevent.Timeout(10):
    while ENOUGH not in masters.recv(1 << 16):
        pass
os._exit(0)
"""


def test_a_worker_that_has_enough_says_so_once_its_master_listens():
    assert subprocess.run([sys.executable, "-c", FULL], timeout=30).returncode == 0
