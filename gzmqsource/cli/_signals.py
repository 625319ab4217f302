"""What signals do, in the hub."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import NoReturn

import click
import gevent
from gevent.event import Event

from gzmqsource.cli import _early

_log = logging.getLogger("gzmqsource.serve")


def on_signals(function: Callable[[], object], *numbers: int) -> None:
    """Call a function in the hub on each of some signals."""
    for number in numbers:
        gevent.signal_handler(number, function)


def on_hangup(function: Callable[[], object]) -> None:
    """Call a function, which must not raise, after each SIGHUP.

    Never twice at a time: for what comes during a call there is one more call after it. For what
    has come since the process began there is one, too.
    """
    asked = Event()
    on_signals(asked.set, signal.SIGHUP)
    if _early.hung_up:
        asked.set()
    gevent.spawn(_call_when, asked, function)


class StopOrders:
    """When to stop, and in which time: what signals say to a process that has no master.

    Parameters
    ----------
    seconds : float
        How many it may take to finish what it has.
    """

    #: Whether this process says itself how it is.
    is_alone = True

    def __init__(self, seconds: float) -> None:
        #: Set when the process is to finish what it has, in so many seconds, and to end.
        self.told = Event()
        self.seconds = seconds

    def listen(self) -> None:
        """Take signals to stop from now on."""
        on_signals(self.ask_to_stop, signal.SIGTERM, signal.SIGINT)

    def ask_to_stop(self) -> None:
        """Have this process stop, as soon as it may."""
        self.told.set()

    def not_started(self, error: click.ClickException) -> NoReturn:
        """End this process, which cannot start, with the reason."""
        raise error

    def ready(self, _server: object, reload: Callable[[], object]) -> None:
        """Say that a server was started; call *reload* after each SIGHUP."""
        on_hangup(reload)

    def stopped(self, given_up: object) -> None:
        """Say that nothing but the end of the process is to come, and what was given up."""
        if self.is_alone:
            _log.info("stopped")
        if given_up:
            raise click.ClickException(f"not finished within {self.seconds:g} s: {given_up}")


def _call_when(asked: Event, function: Callable[[], object]) -> None:
    while True:
        asked.wait()
        asked.clear()
        function()
