"""What comes before the imports of a verb, which take half a second: a SIGHUP would end it."""

from __future__ import annotations

import signal
import sys
from types import FrameType

#: Whether there was a SIGHUP that is yet to be answered.
hung_up = False


def hold_hangups() -> None:
    """Note a SIGHUP until `gzmqsource.cli._signals.on_hangup`, if the verb is one that reloads.

    A worker that a master has started ignores a SIGINT until it has connected.
    """
    verb, *options = sys.argv[1:] or [""]
    if verb == "serve" or any(each.startswith("--curve-clients") for each in options):
        signal.signal(signal.SIGHUP, _note)
    if "--tether" in options:
        # A terminal sends it to all processes; here it is for the master to say what is done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _note(_number: int, _frame: FrameType | None) -> None:
    global hung_up
    hung_up = True
