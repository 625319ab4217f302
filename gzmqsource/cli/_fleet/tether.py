"""What ties a worker to its master."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
from collections.abc import Callable
from typing import Any

import click
import gevent
from gevent.monkey import get_original

from gzmqsource._base.hubs import call_in_hub
from gzmqsource._base.threads import start_thread
from gzmqsource.cli._fleet.words import ENOUGH, READY, RUNS, TELL_STACK
from gzmqsource.cli._signals import StopOrders

_native_socket = get_original("socket", "socket")
_sleep = get_original("time", "sleep")

#: Seconds to leave within once the master is gone, and those after which the process ends whatever
#: it does.
_ALONE, _LAST = 1.0, 2.0

#: Seconds between two looks at whether the broker has answered.
_LOOK = 0.01


class Tether(StopOrders):
    """A worker's end of the line to its master, which says when to stop.

    A native thread reads it, so that a worker with a stuck hub ends with its master, too. A signal
    to stop has the worker ask for a successor, and so does a service manager that sends it to all
    processes of a service at once: the master, which has it as well, says what is done.

    It is the worker's alone: a process that the worker forks has the greenlets, too, and would say
    that a hub runs which is stuck. A fork that would serve, as of a module that makes a daemon of
    its process, ends instead: it has no master.

    Parameters
    ----------
    line : int
        The descriptor of the socket that the master has passed on.
    interval : float
        How often to say that the hub runs, in seconds.
    back : str
        The path of the master's socket, in a folder of its own. A master that was killed has
        removed neither.
    """

    is_alone = False

    def __init__(self, line: int, interval: float, back: str) -> None:
        super().__init__(_ALONE)
        self._line: Any = _native_socket(fileno=line)
        self._line.settimeout(None)
        os.set_inheritable(line, False)
        self._interval, self._back = interval, back
        self._hub = gevent.get_hub()
        # Ended by the same signal, it has written all of it.
        faulthandler.register(TELL_STACK, line, all_threads=False, chain=True)
        start_thread(self._obey, ())
        os.register_at_fork(after_in_child=self._let_go)

    def ask_to_stop(self) -> None:
        """Ask to leave once another worker is ready."""
        self._say(ENOUGH)

    def ready(self, server: Any, _reload: Callable[[], object]) -> None:
        """Say so once the broker has answered, and from now on that the hub runs.

        A SIGHUP is ignored: new code is for new workers.
        """
        if self._line.fileno() < 0:
            raise click.ClickException("the module has forked, and this is not the worker any more")
        while not server.is_member:
            if self.told.wait(_LOOK):
                return
        self._say(READY)
        gevent.spawn(self._run)

    def stopped(self, given_up: object) -> None:
        """Say so; the hub, of which the master has heard until now, runs no more."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        # Without time to finish anything, it is the master that says what was given up.
        super().stopped(given_up if self.seconds > 0 else 0)

    def _let_go(self) -> None:
        faulthandler.unregister(TELL_STACK)
        self._line.close()

    def _run(self) -> None:
        while True:
            self._say(RUNS)
            gevent.sleep(self._interval)

    def _say(self, word: bytes) -> None:
        # A master that was stopped, as by SIGSTOP, reads nothing, and must not hold up this hub.
        with contextlib.suppress(OSError):
            self._line.send(word, socket.MSG_DONTWAIT)

    def _obey(self) -> None:
        """Pass on the order to leave; end with the master. In a thread of its own."""
        order = b""
        while part := self._receive():
            order += part
            if order.endswith(b"\n"):
                call_in_hub(self._hub, self._leave, float(order.split()[-1]))
        call_in_hub(self._hub, self._leave, _ALONE)
        # Another worker may have done it.
        with contextlib.suppress(OSError):
            os.unlink(self._back)
            os.rmdir(os.path.dirname(self._back))
        _sleep(_LAST)
        os._exit(1)

    def _receive(self) -> bytes:
        try:
            received: bytes = self._line.recv(64)
        except OSError:
            return b""
        return received

    def _leave(self, seconds: float) -> None:
        self.seconds = seconds
        self.told.set()
