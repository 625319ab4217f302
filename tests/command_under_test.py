"""Running the ``gzmqsource`` command as a user does: in processes of its own."""

import atexit
import contextlib
import os
import pathlib
import pickle
import socket
import sys
from typing import Any

import gevent
from forked_commands import take_terminal
from gevent import subprocess
from gevent.fileobject import FileObject
from gevent.monkey import get_original
from helpers import process_of

COMMAND = (sys.executable, "-m", "gzmqsource.cli")

#: The options of `subprocess.Popen` that a fork can have, and one more.
OPTIONS = {"stdin", "stdout", "stderr", "text", "cwd", "env", "takes_terminal"}

#: Beginnings of variables that Python, gevent and the package read before the command has begun.
READ_BEFORE = ("PYTHON", "GEVENT_", "GZMQSOURCE_TRANSFER", "LD_")


def run(*arguments, timeout=60, text=False, **options):
    """Run a verb to its end, as `subprocess.run` does; its input is empty if none is passed."""
    content = options.pop("input", "" if text else b"")
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with popen([*COMMAND, *arguments], text=text, **pipes | options) as process:
        try:
            out, err = process.communicate(content, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def running(*arguments, **options):
    """Run a verb as long as a block, as `process_of` does."""
    return process_of(*COMMAND, *arguments, popen=popen, **options)


def popen(words, **options):
    """Start a program; the command is forked where it is the same as if it were started."""
    words = [*map(str, words)]
    if words[:3] == [*COMMAND] and options.keys() <= OPTIONS and forks.serve(options.get("env")):
        return Forked(words, **options)
    if options.pop("takes_terminal", False):
        options["preexec_fn"] = take_terminal
    return subprocess.Popen(words, **options)


class Forked(subprocess.Popen):
    """The command in a fork of a process that has imported it."""

    result: Any

    def __init__(self, words, takes_terminal=False, **options):
        self._takes_terminal = takes_terminal
        super().__init__(words, **options)

    def poll(self):
        """Return the status, or None as long as the hub has not read it."""
        if self.returncode is None:
            gevent.sleep(0.001)
        return self.returncode

    def send_signal(self, sig):
        """Send a signal, unless the process has ended and the hub has yet to read that."""
        with contextlib.suppress(ProcessLookupError):
            super().send_signal(sig)

    def _execute_child(self, args, *given):
        directory, environment = given[4:6]
        ours, theirs = (given[11], given[12], given[14]), (given[10], given[13], given[15])
        request = args[len(COMMAND) :], directory, environment, self._takes_terminal
        streams = [number if fd == -1 else fd for number, fd in enumerate(theirs)]
        self.pid, told = forks.fork(request, streams)
        for kept, passed in zip(ours, theirs, strict=True):
            if kept != -1:
                os.close(passed)
        self._closed_child_pipe_fds = True
        gevent.spawn(self._until_told, told)

    def _until_told(self, told):
        with told:
            self.returncode = int(told.readline())
        self.result.set(self.returncode)


class Forks:
    """The process of ``forked_commands.py``, which ends with this one."""

    def __init__(self):
        self._requests: Any = None

    def serve(self, environment):
        """Return whether it runs, and its forks begin as a process with these variables would."""
        here = _read_before(os.environ)
        if self._requests is None:
            self._start()
            self._environment = here
        theirs = here if environment is None else _read_before(environment)
        return theirs == self._environment

    def _start(self):
        program = pathlib.Path(__file__).parent / "forked_commands.py"
        theirs, self._requests = get_original("socket", "socketpair")(type=socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen([sys.executable, program], stdin=theirs)
        atexit.register(process.wait)
        atexit.register(self._requests.close)

    def fork(self, request, streams):
        """Return the pid of a fork with these streams, and the pipe that its status comes from."""
        words, directory, environment, takes_terminal = request
        directory = str(pathlib.Path(directory or ".").resolve())
        environment = dict(os.environ if environment is None else environment)
        request = pickle.dumps((words, directory, environment, takes_terminal))
        reading, writing = os.pipe()
        socket.send_fds(self._requests, [request], [*streams, writing])
        os.close(writing)
        told = FileObject(reading, "rb")
        return int(told.readline()), told


def _read_before(environment):
    """Return the variables that make a difference before the command has begun, but for one.

    A fork that is not to write bytecode can be told so.
    """
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_BEFORE) and name != "PYTHONDONTWRITEBYTECODE"
    }


forks = Forks()


def until_told(process, text):
    """Read what a process reports up to a line with a text, and return that."""
    for line in iter(process.stderr.readline, ""):
        if text in line:
            return line
    raise AssertionError(f"it has ended and not told {text!r}")
