"""Signals, handled in the hub."""

from __future__ import annotations

import functools
import logging
import math
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click
import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from gzmqsource.cli import _early
from gzmqsource.cli._log import log

if TYPE_CHECKING:
    from gzmqsource.broker import Broker
    from gzmqsource.workers import Responder

_log = logging.getLogger("gzmqsource.serve")

#: A stop that takes at most so many seconds is not worth a line.
SOON = 0.25


def on_signals(function: Callable[[], object], *numbers: int) -> None:
    """Call a function in the hub on each of some signals."""
    for number in numbers:
        gevent.signal_handler(number, function)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # a parent may have blocked them


def on_hangup(function: Callable[[], object]) -> None:
    """Call a function after each SIGHUP.

    There is one call at a time: signals that come during a call cause one more call after it, and
    signals that have come since the process began cause one, too.
    """
    asked = Event()
    on_signals(asked.set, signal.SIGHUP)
    if _early.hung_up:
        asked.set()
    gevent.spawn(_call_when, asked, function)


class Told(Semaphore):
    """A count of the signals to stop, which `gevent.wait` can wait for.

    Parameters
    ----------
    repeated : sequence of int
        The signals that count again after the first. By default only a Ctrl-C: a person gives up
        with it, while a service manager that repeats its SIGTERM, as a second `docker stop` does,
        asks for the same as before.
    """

    #: Seconds within which two signals are one: `timeout` signals a process and then its group.
    once = 0.1

    def __init__(self, *repeated: int) -> None:
        super().__init__(0)
        #: The last signal that counted; None before the first.
        self.number: int | None = None
        self._repeated = repeated or (signal.SIGINT,)
        self._last = -math.inf

    def listen(self, told: Callable[[], object] = lambda: None) -> None:
        """Count signals from now on, and call a function after each."""

        def tell(number: int) -> None:
            self.tell(number)
            told()

        for number in (signal.SIGTERM, signal.SIGINT):
            on_signals(functools.partial(tell, int(number)), number)

    def tell(self, number: int) -> None:
        """Count a signal."""
        now = time.monotonic()
        counts = self.number is None or number in self._repeated
        if counts and now - self._last > self.once:
            self.number = number
            self.release()
        self._last = now


class Interrupted(click.ClickException):
    """A signal has ended the verb; after a Ctrl-C the exit status is the one that shells use."""

    def __init__(self, number: int | None, text: str) -> None:
        super().__init__(text)
        self.exit_code = 130 if number == signal.SIGINT else 1  # type: ignore[misc]


def unfinished(running: int, waiting: int, name: str = "request") -> str | None:
    """Return in words the work that a server has yet to finish; None if there is none."""
    total = running + waiting
    if not total:
        return None
    return f"{total} {name}{'s' * (total > 1)} ({running} running, {waiting} waiting)"


def finish(
    told: Told, stop: Callable[[float], Any], seconds: float, pending: Callable[[], str | None]
) -> Any:
    """Stop a server, report the work that the stop waits for, and return the result of *stop*.

    It is called with *seconds*, the most that it may take, while ``told`` counts the signals.
    *pending* returns the work that the server has yet to finish, as `unfinished` does.

    Raises
    ------
    Interrupted
        Another signal came before *stop* returned; it was killed.
    """
    stopping = gevent.spawn(stop, seconds)
    # The signal that was waited for, if it was one.
    has_told = told.acquire(blocking=False) or told.number is not None
    stopping.join(SOON)
    while not stopping.ready():
        waits_for = pending()
        if has_told and waits_for:
            how = "; Ctrl-C again gives them up" if told.number == signal.SIGINT else ""
            log.info("stopping: %s, for %g s at most%s", waits_for, seconds, how)
        gevent.wait(cast(Any, [told, stopping]), count=1)
        if stopping.ready():
            break
        told.acquire()
        if has_told:
            given_up = pending()
            stopping.kill()
            what = f": {given_up} not finished" if given_up else ", with nothing left to finish"
            raise Interrupted(told.number, f"quit before the end{what}")
        has_told = True
    return stopping.get()


def stop_accepted(server: Broker | Responder, seconds: float) -> int:
    """Stop a server; return how many requests that it has accepted are not finished.

    A plain client may go on to ask until the end. Its last messages are not accepted: the log and
    the counts of the source have their number.
    """
    given_up = server.stop(seconds)
    dropped = server.source.stats().dropped
    return given_up - dropped.get("unread", 0) - dropped.get("unhandled", 0)


def check_finished(seconds: float, given_up: int, lost: int = 0) -> None:
    """Raise an error if a server has not finished everything.

    Parameters
    ----------
    seconds : float
        The most that its stop might take.
    given_up : int
        The work that was left after that.
    lost : int
        The requests that workers have lost since the stop began, which *given_up* may include.
    """
    if given_up:
        raise click.ClickException(f"not finished within {seconds:g} s: {max(given_up, lost)}")
    if lost:
        raise click.ClickException(f"lost by workers during the stop: {lost}")


class StopOrders:
    """When to stop, and in which time: by signals, in a process that has no master.

    Parameters
    ----------
    seconds : float
        How many it may take to finish its messages.
    """

    #: Whether this process itself reports its state.
    is_alone = True

    def __init__(self, seconds: float) -> None:
        #: Set when the process has to finish its messages, in so many seconds, and to end.
        self.told = Event()
        self.seconds = seconds
        self._signals = Told()

    def listen(self) -> None:
        """Handle signals to stop from now on."""
        self._signals.listen(self.ask_to_stop)

    def ask_to_stop(self) -> None:
        """Stop this process as soon as possible."""
        self.told.set()

    def stop_now(self) -> None:
        """Stop this process, whose handler has exited."""
        self.told.set()

    def not_started(self, error: click.ClickException) -> NoReturn:
        """End this process, which cannot start, with the reason."""
        raise error

    def ready(self, _server: object, reload: Callable[[], object]) -> None:
        """Note that a server has started; call *reload* after each SIGHUP."""
        on_hangup(reload)

    def finish(self, stop: Callable[[float], Any], pending: Callable[[], str | None]) -> Any:
        """Call *stop* with the seconds that it has, and return its result: see `finish`."""
        return finish(self._signals, stop, self.seconds, pending)

    def stopped(self, given_up: int) -> None:
        """Report the end of the server, and the work that was given up."""
        if self.is_alone:
            _log.info("stopped")
        check_finished(self.seconds, given_up)


def _call_when(asked: Event, function: Callable[[], object]) -> None:
    while True:
        asked.wait()
        asked.clear()
        gevent.spawn(function).join()  # an error of one call does not end the next ones
