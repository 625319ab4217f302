"""Signals before the imports of a verb are over, which take half a second.

A SIGHUP would end a server that has yet to start, and a SIGINT would show a traceback of an import.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

#: The verbs that reload something, or may: a file with options may not have been read yet.
_RELOADING = {"serve", "broker"}

#: Whether there was a SIGHUP that was not handled yet.
hung_up = False


def end_by_interrupts() -> None:
    """Let a SIGINT end this process at once, until `raise_interrupts`."""
    # In the background of a script it is ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_interrupts() -> None:
    """Let a SIGINT raise KeyboardInterrupt, where it would end this process."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hold_hangups() -> None:
    """Note a SIGHUP until `gzmqsource.cli._signals.on_hangup`, if the verb is one that reloads.

    A worker that a master has started ignores a SIGINT until it has connected.
    """
    words = sys.argv[1:]
    # Options may come before the verb, and be in the environment; a file is yet to be read.
    has_clients = any(each.startswith("--curve-clients") for each in words) or any(
        each.startswith("GZMQSOURCE_") and each.endswith("_CURVE_CLIENTS") for each in os.environ
    )
    if has_clients or not _RELOADING.isdisjoint(words):
        signal.signal(signal.SIGHUP, _note)
    if "--tether" in words:
        # A terminal sends it to all processes; in a worker, the master decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _note(_number: int, _frame: FrameType | None) -> None:
    global hung_up
    hung_up = True
