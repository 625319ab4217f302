"""Log lines about the faults of peers, and of the handlers of their messages.

A peer decides how often these happen, and which text an exception has. So the lines of each kind
are bounded for the whole process, however many sources it has. Events that are left out are counted
in the next line. No line contains characters that a terminal or a reader of the log would
interpret.
"""

from __future__ import annotations

import atexit
import logging
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gevent
from gevent._hub_local import get_hub_if_exists

from gzmqsource._base.fork import abandon_in_child
from gzmqsource._base.hubs import allocate_rlock

#: The most characters of an exception's text, and of a line of a traceback.
MAX_TEXT = 300

#: The most bytes of a routing id in the name of a peer.
MAX_NAME = 32

#: The most lines at the beginning of a traceback, and at its end.
MAX_LINES = 20


#: All instances.
kinds: list[Reports] = []


class _Line(NamedTuple):
    """A line of the log, before the count of the events that are left out is added."""

    text: str
    #: The traceback below it, or an empty text.
    traceback: str


class Reports:
    """The lines of one kind: one for the whole process in each `interval`.

    The first event is logged at once. Of the events within the interval, the line at its end
    describes one and has the number of the others. It describes an error whose traceback was not
    logged recently, if there was one: a flood of one error does not hide another.

    Any thread and any greenlet may report, also in the hub. If none of the hubs that have reported
    runs any more, the number is in the next line, or in a line at the end of the process.

    Parameters
    ----------
    logger : str
        The name of the logger.
    level : int
        The level of the lines.
    """

    #: Seconds from one line to the next.
    interval = 1.0

    #: Seconds until the traceback of an error that was raised at the same place is logged again.
    traceback_interval = 60.0

    #: The most places that are remembered for that.
    max_places = 100

    def __init__(self, logger: str, level: int = logging.WARNING) -> None:
        self._logger = logging.getLogger(logger)
        self._level = level
        # Reentrant, because a signal handler or the garbage collector may report in the middle of
        # this.
        self._lock = allocate_rlock()
        self._quiet_until = float("-inf")
        #: How many events are in no line yet; `_next` describes one of them.
        self._left_out = 0
        self._next: _Line | None = None
        #: Lines, with how many other events each counts, whose greenlet has not run yet.
        self._unwritten: deque[tuple[_Line, int]] = deque()
        #: The time until which no traceback of a place is logged.
        self._shown: dict[object, float] = {}
        # One for each hub at most: libuv crashes if one is collected while it is active.
        self._timers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        kinds.append(self)
        abandon_in_child(self)

    def __call__(self, describe: Callable[[], str], error: BaseException | None = None) -> None:
        """Report an event, which costs about 1 us if it is not logged.

        Parameters
        ----------
        describe : callable
            Returns the text; called only if it is logged.
        error : BaseException, optional
            The error whose traceback is logged, if it has one.
        """
        now = time.monotonic()
        place = None if error is None or error.__traceback__ is None else _place(error)
        with self._lock:
            is_new = place is not None and now >= self._shown.get(place, now)
            is_due = now >= self._quiet_until
            left_out = self._left_out
            if is_due:
                self._quiet_until = now + self.interval
                self._left_out, self._next = 0, None
            else:
                self._left_out += 1
                if left_out and not (is_new and self._next and not self._next.traceback):
                    return
            if is_new:
                if len(self._shown) >= self.max_places:
                    self._shown.clear()
                self._shown[place] = now + self.traceback_interval
        # Not under the lock: these are functions of the user, which may wait.
        line = _Line(describe(), _traceback(error) if is_new and error is not None else "")
        if is_due:
            self._log(line, left_out)
            return
        self._next = line
        hub = get_hub_if_exists()
        if hub is not None:
            self._flush_later(hub)

    def flush(self) -> None:
        """Log the events that are in no line yet."""
        with self._lock:
            line, left_out = self._next, self._left_out
            if line is None:
                return
            self._quiet_until = time.monotonic() + self.interval
            self._left_out, self._next = 0, None
        self._log(line, left_out - 1)

    def write_all(self) -> None:
        """Log all that there is; call this in a greenlet, or at the end of the process."""
        self._write()
        self.flush()

    def abandon(self) -> None:
        """Start again, and leave to the parent process the events that it has not logged yet."""
        self._lock = allocate_rlock()
        self._quiet_until = float("-inf")
        self._left_out, self._next = 0, None
        self._unwritten.clear()
        self._shown.clear()

    def _flush_later(self, hub: Any) -> None:
        """Have a hub that still runs then log the left-out events at the end of the interval."""
        if hub.loop is not None and hub not in self._timers:
            # libuv's timers count in milliseconds, and warn below one.
            left = max(0.001, self._quiet_until - time.monotonic())
            timer = self._timers[hub] = hub.loop.timer(left, ref=False)
            timer.start(self._interval_ended, hub)

    def _interval_ended(self, hub: Any) -> None:
        self._timers.pop(hub).close()
        if time.monotonic() < self._quiet_until:
            self._flush_later(hub)  # there was a line meanwhile
        else:
            self.flush()

    def _log(self, line: _Line, others: int) -> None:
        """Log a line, in a greenlet if this is the hub, because a handler of the log may wait."""
        self._unwritten.append((line, others))
        hub = get_hub_if_exists()
        if hub is not None and gevent.getcurrent() is hub:
            gevent.spawn_raw(self._write)
        else:
            self._write()

    def _write(self) -> None:
        """Pass the lines on to the logger."""
        while self._unwritten:
            line, others = self._unwritten.popleft()
            if not self._logger.isEnabledFor(self._level):
                continue
            more = f" (and {others} more since the last such line)" if others else ""
            below = "\n" + line.traceback if line.traceback else ""
            try:
                self._logger.log(self._level, "%s%s%s", line.text, more, below)
            except Exception:  # of a handler of the log, not of the reported event
                if logging.raiseExceptions:
                    traceback.print_exc()


@atexit.register
def _flush_all() -> None:
    for each in kinds:
        each.write_all()


def printable(text: str, most: int = MAX_TEXT) -> str:
    r"""Return a text in one line without control characters, which become ``\x1b``, and bounded."""
    short = text if len(text) <= most else text[:most] + "..."
    if short.isprintable():
        return short
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in short
    )


def str_of(error: BaseException) -> str:
    """Return an exception's text, whatever its ``__str__`` does."""
    try:
        return str(error)
    except Exception as raised:
        return f"<no text: {type(raised).__name__}>"


def text_of(error: BaseException) -> str:
    """Return an exception's class and text in one line, whatever its ``__str__`` does."""
    text = str_of(error)
    return f"{type(error).__name__}: {printable(text)}" if text else type(error).__name__


def peer_of(frame: Any) -> str:
    """Return the name of the peer with this routing id: as text if it is text, else in hexadecimal.

    libzmq's own routing ids are a zero byte and a number.
    """
    name = bytes(memoryview(frame)[:MAX_NAME])
    dots = "..." if len(frame) > MAX_NAME else ""
    is_text = name.isascii() and name.decode("ascii").isprintable()
    return (repr(name.decode()) if is_text else f"0x{name.hex()}") + dots


def _place(error: BaseException) -> object:
    """Return a key that is the same for errors that were raised at the same line."""
    entry = error.__traceback__
    if entry is None:
        return None
    while entry.tb_next is not None:
        entry = entry.tb_next
    return type(error).__name__, entry.tb_frame.f_code.co_filename, entry.tb_lineno


def _traceback(error: BaseException) -> str:
    """Return a traceback; its lines are bounded and indented: none looks like one of the log."""
    try:
        lines = "".join(traceback.format_exception(error)).splitlines()
    except Exception as raised:
        lines = [f"<no traceback: {type(raised).__name__}>"]
    if len(lines) > 2 * MAX_LINES:
        left_out = len(lines) - 2 * MAX_LINES
        lines[MAX_LINES:-MAX_LINES] = [f"  [{left_out} lines left out]"]
    return "\n".join(_indented(lines))


def _indented(lines: Iterable[str]) -> Iterable[str]:
    return ("    " + printable(line) for line in lines)
