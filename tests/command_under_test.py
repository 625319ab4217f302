"""Running the ``gzmqsource`` command as a user does: in processes of its own."""

import atexit
import contextlib
import os
import pathlib
import pickle
import signal
import socket
import sys

import gevent
from gevent import subprocess
from gevent.fileobject import FileObject
from gevent.monkey import get_original

COMMAND = (sys.executable, "-m", "gzmqsource.cli")


def run(*arguments, **options):
    """Run a verb to its end, as `subprocess.run` does."""
    words = [*map(str, arguments)]
    if options.keys() <= {"input", "timeout", "text", "cwd"} and forks.serve():
        return forks.run(words, **options)
    options = {"capture_output": True, "timeout": 60, "check": False, **options}
    return subprocess.run([*COMMAND, *words], **options)


class Forks:
    """The process of ``forked_commands.py``, which ends with this one."""

    def __init__(self):
        self._environment = None

    def serve(self):
        """Return whether it runs; in a changed environment the command might not be the same."""
        environment = {name: value for name, value in os.environ.items() if name[:6] != "PYTEST"}
        if self._environment is None:
            self._environment = environment
            program = pathlib.Path(__file__).parent / "forked_commands.py"
            theirs, self._requests = get_original("socket", "socketpair")(
                type=socket.SOCK_SEQPACKET
            )
            with theirs:
                process = subprocess.Popen([sys.executable, program], stdin=theirs)
            atexit.register(process.wait)
            atexit.register(self._requests.close)
        return environment == self._environment

    def run(self, words, timeout=60, text=False, cwd=".", **options):
        """Run the command with *words* in a fork."""
        content = options.get("input")
        with contextlib.ExitStack() as stack:
            ours, theirs = [], []
            for mode in "wrrr":
                pair = os.pipe()
                theirs.append(pair[mode == "r"])
                ours.append(stack.enter_context(FileObject(pair[mode != "r"], mode + "b")))
            request = pickle.dumps((words, str(pathlib.Path(cwd).resolve())))
            socket.send_fds(self._requests, [request], theirs)
            for descriptor in theirs:
                os.close(descriptor)
            given, *outputs, told = ours
            if content is None:
                given.close()
            else:
                writing = gevent.spawn(_write, given, content.encode() if text else content)
                stack.callback(writing.kill)
            reading = [gevent.spawn(each.read) for each in outputs]
            pid = int(told.readline())
            try:
                with gevent.Timeout(timeout):
                    status = int(told.readline())
                    out, err = [each.get() for each in reading]
            except gevent.Timeout as error:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(words, timeout) from error
        if text:
            out, err = out.decode(), err.decode()
        return subprocess.CompletedProcess([*COMMAND, *words], status, out, err)


def _write(file, content):
    """Write what a process reads; it may end before it has read all."""
    with contextlib.suppress(BrokenPipeError), file:
        file.write(content)


forks = Forks()


def until_told(process, text):
    """Read what a process reports up to a line with a text, and return that."""
    for line in iter(process.stderr.readline, ""):
        if text in line:
            return line
    raise AssertionError(f"it has ended and not told {text!r}")
