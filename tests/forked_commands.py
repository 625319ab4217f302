"""The ``gzmqsource`` command in forks of a process that has imported it.

To start Python and import all of it takes ten times as long as what most verbs do in a test. Run as
a program, with a socket as its standard input, this is that process.
"""

import contextlib
import gc
import os
import pickle
import runpy
import signal
import socket
import sys
from importlib import import_module

from gzmqsource.cli import _command

#: The most bytes of a request: its arguments and its directory.
LARGEST = 1 << 20


def main():
    """Fork a process for each request, and write its pid and its status to the pipe that came."""
    for verb in {*_command._VERBS.values()}:
        import_module(f"gzmqsource.cli._{verb}")
    gc.freeze()
    running: dict[int, int] = {}

    def reap(*_):
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with contextlib.suppress(BrokenPipeError), open(running.pop(pid), "wb", 0) as done:
                done.write(b"%d\n" % os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    requests = socket.socket(fileno=os.dup(0))
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, LARGEST, 4)
        if not request:
            return
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
    sys.argv[1:], directory = pickle.loads(request)
    os.chdir(directory)
    runpy.run_module("gzmqsource.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
