"""The ``gzmqsource`` command in forks of a process that has imported it.

To start Python and import all of it takes ten times as long as what most verbs do in a test. Run as
a program, with a socket as its standard input, this is that process.
"""

import atexit
import contextlib
import fcntl
import gc
import os
import pickle
import runpy
import signal
import socket
import sys
import termios
import threading
from importlib import import_module

from gzmqsource.cli import _command

#: The most bytes of a request: its arguments, its directory and its environment.
LARGEST = 1 << 20


def main():
    """Fork a process for each request, and write its pid and its status to the pipe that came."""
    for verb in {*_command._VERBS.values()}:
        import_module(f"gzmqsource.cli._{verb}")
    gc.freeze()
    running: dict[int, int] = {}

    def reap(*_):
        while running:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # another signal came here, and they were waited for
                return
            if not pid:
                return
            with contextlib.suppress(BrokenPipeError), open(running.pop(pid), "wb", 0) as done:
                done.write(b"%d\n" % os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    requests = socket.socket(fileno=os.dup(0))
    seen: set[str] = set()
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, LARGEST, 4)
        if not request:
            return
        words, *rest = pickle.loads(request)
        verbs = {*_command._VERBS} & {*words} - seen
        seen |= verbs
        *streams, done = descriptors
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if not pid:
            break
        running[pid] = done
        os.write(done, b"%d\n" % pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for stream in streams:
            os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, max(*descriptors, *running.values(), requests.fileno()) + 1)
    requests.detach()
    try:
        begin(words, *rest)
    except SystemExit as ending:
        # The first fork of each verb ends whole, as do the processes that are no forks.
        if verbs or not isinstance(ending.code, int):
            raise
        status = ending.code
    end(status)


def begin(words, directory, environment, takes_terminal):
    """Be ``python -m gzmqsource.cli`` with these words, there."""
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    if takes_terminal:
        take_terminal()
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[0] = directory
    sys.argv[1:] = words
    runpy.run_module("gzmqsource.cli", run_name="__main__", alter_sys=True)


def end(status):
    """End as Python does, but for taking down the modules.

    To release each of their objects is to copy the memory that forks share: that takes longer than
    all else that most verbs do in a test.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):
        sys.exit(status)  # Python says what is lost, its own way
    os._exit(status & 0xFF)


def take_terminal():
    """Make the terminal of the input the one whose keys send signals to this process."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


if __name__ == "__main__":
    main()
