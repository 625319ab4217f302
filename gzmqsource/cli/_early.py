"""Standard streams, and signals, before the imports of a verb, which take half a second.

A SIGHUP would end a server that has yet to start, and a SIGINT would show a traceback of an import.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

#: The verbs that reload something, or may: a file with options may not have been read yet.
_RELOADING = {"serve", "broker"}

#: The signals that a service manager or a terminal sends to all processes, whatever they do.
_SHARED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

#: Whether there was a SIGHUP that was not handled yet.
hung_up = False

#: The handler of SIGHUP before `hold_hangups`.
_before: Any = signal.SIG_DFL

#: Whether the output was closed.
_opened_output = False


def open_streams() -> None:
    """Open each standard stream that is closed: a loop or a socket would get its number otherwise.

    The input is at its end. The log is discarded, but not the output: it is open for reading, so
    that a write fails, as to a full disk.
    """
    global _opened_output
    for number, name, flags in (
        (0, "stdin", os.O_RDONLY),
        (1, "stdout", os.O_RDONLY),
        (2, "stderr", os.O_WRONLY),
    ):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, as those below it are open by now.
            os.set_inheritable(os.open(os.devnull, flags), True)
            # Without a buffer, of which Python would report at the exit that it cannot be written.
            file = io.FileIO(number, "w" if number else "r", closefd=False)
            stream = io.TextIOWrapper(file, write_through=True)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
            _opened_output = _opened_output or number == 1


def discard_closed_output() -> None:
    """Discard the output if it was closed, as Python does: the prints of a handler may get lost."""
    if _opened_output:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def is_output_closed() -> bool:
    """Return whether writing to the output fails: it is closed, or open for reading only."""
    try:
        return fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    except OSError:
        return True


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
    """Note a SIGHUP until `gzmqsource.cli._signals.on_hangup`, if the verb is one that reloads."""
    global _before
    words = sys.argv[1:]
    # Options may come before the verb, and be in the environment; a file is yet to be read.
    has_clients = any(each.startswith("--curve-clients") for each in words) or any(
        each.startswith("GZMQSOURCE_") and each.endswith("_CURVE_CLIENTS") for each in os.environ
    )
    if has_clients or not _RELOADING.isdisjoint(words):
        _before = signal.signal(signal.SIGHUP, _note)


@contextlib.contextmanager
def shared_signals_held() -> Iterator[None]:
    """Hold back signals from the processes that start in the block, until they `leave_stops`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SHARED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_stops() -> None:
    """Leave SIGINT and SIGTERM to the master until `Told.listen`, if this process is its worker.

    They have a handler, and are not ignored: the programs that a module starts would inherit that.
    """
    if "--tether" not in sys.argv[1:]:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before = signal.signal(number, _leave)
            os.register_at_fork(after_in_child=functools.partial(_take_back, number, before))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SHARED)


def release_hangups() -> None:
    """Let a SIGHUP do again what it did before `hold_hangups`, also one that was noted."""
    if signal.getsignal(signal.SIGHUP) is _note:
        signal.signal(signal.SIGHUP, _before)  # nohup has it ignored
        if hung_up:
            signal.raise_signal(signal.SIGHUP)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the master has the signal, too."""


def _take_back(number: int, before: Any) -> None:
    """Let a signal do again what it did before `leave_stops`."""
    if signal.getsignal(number) is _leave:
        signal.signal(number, before)


def _note(_number: int, _frame: FrameType | None) -> None:
    global hung_up
    hung_up = True
