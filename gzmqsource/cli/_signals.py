"""What signals do, in the hub."""

from __future__ import annotations

import signal
from collections.abc import Callable

import gevent
from gevent.event import Event

from gzmqsource.cli import _early


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


def _call_when(asked: Event, function: Callable[[], object]) -> None:
    while True:
        asked.wait()
        asked.clear()
        function()
