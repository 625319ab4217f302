"""The line that ties a worker to its master."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import socket
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import gevent
from gevent.monkey import get_original
from gevent.socket import wait_write

from gzmqsource._base.hubs import call_in_hub
from gzmqsource._base.threads import start_thread
from gzmqsource.cli._fleet.words import ASK, END, ENOUGH, MOST, NUMBERS, READY, RUNS, TELL_STACK
from gzmqsource.cli._signals import StopOrders

_log = logging.getLogger("gzmqsource.serve")

_native_socket = get_original("socket", "socket")
_sleep = get_original("time", "sleep")

#: Seconds to leave within once the master is gone, and those after which the process is ended in
#: any case.
_ALONE, _LAST = 1.0, 2.0

#: The number of the call of ``prctl`` that asks for a signal at the end of the parent process.
_PR_SET_PDEATHSIG = 1

#: Seconds between two looks at whether the broker has answered.
_LOOK = 0.01


class Tether(StopOrders):
    """A worker's end of the line to its master, which says when to stop.

    A native thread reads it, so that a worker with a stuck hub ends with its master, too. A signal
    to stop makes the worker ask for a successor. So it does when a service manager sends the signal
    to all processes of a service at once: the master, which has received it, too, decides.

    It belongs to the worker alone: a process that the worker forks has the greenlets, too, and
    would report a stuck hub as running. A fork that would serve, as of a module that makes a daemon
    of its process, ends instead: it has no master.

    Parameters
    ----------
    line : int
        The descriptor of the socket that the master has passed on.
    seconds : float
        How many it may take to finish its messages, if it does not stop by an order.
    interval : float
        How often to say that the hub runs, in seconds.
    joined : Path
        The socket of the master that this worker has joined, in a folder for nothing else.
    """

    is_alone = False

    #: Returns the numbers of this process, if the master is to have them.
    numbers: Callable[[], bytes] | None = None

    def __init__(self, line: int, seconds: float, interval: float, joined: Path) -> None:
        super().__init__(seconds)
        self._line: Any = _native_socket(fileno=line)
        self._line.settimeout(None)
        os.set_inheritable(line, False)
        self._interval = interval
        self._joined = joined
        self._is_loaded = False
        self._has_enough = False
        self._hub = gevent.get_hub()
        _continue_without_master()
        # The process ends by the same signal, but only after it has written the whole stack.
        faulthandler.register(TELL_STACK, line, all_threads=False, chain=True)
        start_thread(self._obey, ())
        os.register_at_fork(after_in_child=self._let_go)

    def listen(self) -> None:
        """Handle signals to stop from now on, and orders in the hub: the module is loaded."""
        super().listen()
        self._is_loaded = True

    def ask_to_stop(self) -> None:
        """Ask to leave once another worker is ready."""
        self._has_enough = True
        self._say(ENOUGH)

    def stop_now(self) -> None:
        """Stop this process, whose handler has exited; another one takes its place meanwhile."""
        self.ask_to_stop()
        super().stop_now()

    def not_started(self, error: click.ClickException) -> NoReturn:
        """End this process, and leave the reason to the master: all workers have the same."""
        self._say(error.format_message().encode())
        raise click.exceptions.Exit(error.exit_code)

    def ready(self, server: Any, _reload: Callable[[], object]) -> None:
        """Report readiness once the broker has answered, and then regularly that the hub runs.

        A SIGHUP is ignored: new code is for new workers.
        """
        if self._line.fileno() < 0:
            raise click.ClickException("the module has forked, and this process is not the worker")
        while not server.is_member:
            if self.told.wait(_LOOK):
                return
        self._say(READY)
        gevent.spawn(self._run)

    def finish(self, stop: Callable[[float], Any], _pending: object) -> Any:
        """Call *stop* with its seconds: the master reports which requests it waits for."""
        return stop(self.seconds)

    def stopped(self, given_up: int) -> None:
        """Close the line: the hub runs no longer, so the master must not take it for stuck."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        # Without time to finish anything, the master reports the requests that were given up.
        super().stopped(given_up if self.seconds > 0 else 0)

    def _let_go(self) -> None:
        faulthandler.unregister(TELL_STACK)
        self._line.close()

    def _run(self) -> None:
        while True:
            # Each time: the line may have been full when it was said first.
            self._say(RUNS + ENOUGH if self._has_enough else RUNS)
            gevent.sleep(self._interval)

    def _say(self, words: bytes) -> None:
        # A master that was stopped, as by SIGSTOP, reads nothing, and must not hold up this hub.
        with contextlib.suppress(OSError):
            self._line.send(words, socket.MSG_DONTWAIT)

    def _tell_numbers(self) -> None:
        """Send the numbers of this process, or an empty answer if they are not available."""
        try:
            text = b"" if self.numbers is None else self.numbers()
        except Exception as error:  # of a collector of the handler's module
            _log.error(
                "the numbers of worker %d failed: %s: %s", os.getpid(), type(error).__name__, error
            )
            text = b""
        body = b64encode(text) if len(text) <= MOST else b""
        left = memoryview(NUMBERS + body + END)
        with contextlib.suppress(OSError):
            while left:
                try:
                    left = left[self._line.send(left, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    wait_write(self._line.fileno())

    def _obey(self) -> None:
        """Follow the orders of the master, and end when it ends; runs in a thread of its own."""
        said = b""
        while part := self._receive():
            *lines, said = (said + part).split(b"\n")
            for line in lines:
                if line == ASK:
                    call_in_hub(self._hub, gevent.spawn, self._tell_numbers)
                elif self._is_loaded:
                    call_in_hub(self._hub, self._leave, float(line))
                else:
                    os._exit(0)
        self._remove_folder()
        call_in_hub(self._hub, self._leave, _ALONE)
        _sleep(_LAST)
        os._exit(1)

    def _remove_folder(self) -> None:
        """Remove the folder that a killed master leaves behind; another worker may do so, too."""
        with contextlib.suppress(OSError):
            self._joined.unlink(missing_ok=True)
            self._joined.parent.rmdir()

    def _receive(self) -> bytes:
        try:
            received: bytes = self._line.recv(64)
        except OSError:
            return b""
        return received

    def _leave(self, seconds: float) -> None:
        self.seconds = seconds
        self.told.set()


def _continue_without_master() -> None:
    """Have the kernel continue this process at the end of the master: it may be stopped then.

    Only Linux can. The line to the master has to be read for this process to end, too.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
