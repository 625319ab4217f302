"""One worker, as its master sees it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import gevent
import gevent.socket
from gevent.event import AsyncResult, Event

from gzmqsource._base.deadline import Deadline
from gzmqsource.cli._early import shared_signals_held
from gzmqsource.cli._fleet.answers import Answers
from gzmqsource.cli._fleet.words import ASK, ENOUGH, READY, RUNS, TELL_STACK, text_in, words_in
from gzmqsource.cli._text import printable

log = logging.getLogger("gzmqsource.serve")


class State(Enum):
    """Where a worker is in its life."""

    #: It imports the handler's module, and joins.
    STARTING = "starting"
    #: It answers requests.
    READY = "ready"
    #: It was told to leave, and finishes its requests.
    LEAVING = "leaving"
    #: It is being killed.
    CONDEMNED = "condemned"


class Worker:
    """A process that answers requests, and the master's end of the line to it.

    Parameters
    ----------
    number : int
        Its number among the current workers, which labels the numbers that it reports.
    command : sequence of str
        The command to run; an option with the descriptor of the line is added.
    environment : mapping
        The variables of its environment.
    stuck_after : float
        Seconds after which a hub that has not run counts as stuck.
    changed : callable
        Called, without arguments, in the hub, when it is ready, asks for a successor, or has ended.
    """

    #: Seconds within which it must be ready: its module may do much when it is imported.
    start_timeout = 60.0

    #: Seconds that a worker that was told to leave may take beyond its time, and the most that a
    #: stack takes to come.
    grace, stack_timeout = 1.0, 0.5

    #: Seconds between two looks at one that has closed its end, and is about to be over.
    look = 0.02

    #: The most characters of a text; of a stack, faulthandler writes 100 frames at most.
    max_text = 1 << 16

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        stuck_after: float,
        changed: Callable[[], object],
    ) -> None:
        self._line, theirs = gevent.socket.socketpair()
        try:
            with theirs, shared_signals_held():
                fd = theirs.fileno()
                self._process = subprocess.Popen(
                    [*command, "--tether", str(fd)],
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    pass_fds=[fd],
                )
        except BaseException:
            self._line.close()
            raise
        self.number = number
        self.pid = self._process.pid
        self.state = State.STARTING
        #: Whether there is newer code than its own, and whether it has asked for a successor.
        self.outdated = self.has_enough = False
        self._stuck_after = stuck_after
        self._changed = changed
        #: Seconds since it has last said that its hub runs, as long as it says so.
        self._silent: float | None = None
        self._text = ""
        self._answers = Answers()
        self._gone = Event()
        self._ready_at: float | None = None
        self._deadline = Deadline(self.start_timeout)
        gevent.spawn(self._listen)

    @property
    def due(self) -> bool:
        """Whether another worker is to take its place."""
        return self.outdated or self.has_enough

    @property
    def was_ready(self) -> bool:
        """Whether it has been ready."""
        return self._ready_at is not None

    @property
    def lived(self) -> float:
        """The seconds since it was ready, or 0."""
        return 0.0 if self._ready_at is None else time.monotonic() - self._ready_at

    @property
    def end(self) -> str:
        """How the process has ended."""
        status = self._process.returncode
        if status is None or status >= 0:
            return f"has ended with exit status {status}"
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:  # a real-time signal has no name
            return f"was killed by signal {-status}"

    @property
    def reason(self) -> str:
        """Why it has not started, as it reports itself; empty if it reports nothing."""
        return self._text if self.state is State.STARTING else ""

    @property
    def has_left(self) -> bool:
        """Whether it has ended by order."""
        in_order = self._process.returncode in (0, -signal.SIGTERM) or not self.was_ready
        return self.state is State.LEAVING and in_order

    def pass_time(self, seconds: float) -> None:
        """Count time in which the master has listened: its own pauses do not count against it."""
        if self._silent is not None:
            self._silent += seconds

    def fault(self) -> str | None:
        """Return its fault, for a log, or None."""
        if self.state is State.STARTING and self._deadline.left() == 0:
            return f"was not ready within {self.start_timeout:g} s"
        if self.state is State.LEAVING and self._deadline.left() == 0:
            return "has not left in time"
        if self._silent is not None and self._silent >= self._stuck_after:
            return f"is stuck: its hub has not run for {self._stuck_after:g} s"
        return None

    def leave(self, seconds: float, patience: float) -> None:
        """Tell it to leave; one that still imports its module ends at once.

        Parameters
        ----------
        seconds : float
            How many it has to finish its requests.
        patience : float
            After how many it must be over.
        """
        # A few bytes always find room.
        with contextlib.suppress(OSError):
            self._line.send(b"%g\n" % seconds)
        self.state = State.LEAVING
        self._deadline = Deadline(patience)

    def ask_numbers(self) -> AsyncResult[str | None]:
        """Ask for its numbers, and return a result that will have them, or None."""
        if not self._answers.owed:
            with contextlib.suppress(OSError):
                self._line.send(ASK + b"\n")
        return self._answers.next()

    def condemn(self, fault: str) -> None:
        """Log its fault and the stack of its main thread, and kill it."""
        self.state = State.CONDEMNED
        self._silent = None
        # All text from now on is its stack.
        self._answers.give_up()
        gevent.spawn(self._report_and_kill, fault)

    def kill(self) -> None:
        """Kill it now."""
        self._signal(signal.SIGKILL)

    def is_over(self) -> bool:
        """Return whether the process has ended; `state` is the last state that it had."""
        if self._process.poll() is None:
            return False
        if not self._gone.is_set():
            self._gone.set()
            # It may have written why it has ended, and no greenlet has read that yet.
            with contextlib.suppress(OSError):
                self._take_text(os.read(self._line.fileno(), self.max_text))
            # A process that the worker has started may still have the other end.
            self._line.close()
        return True

    def _listen(self) -> None:
        while data := self._receive():
            self._hear(words_in(data))
            self._take_text(data)
        self._answers.give_up()
        self._silent = None
        while not self.is_over():
            gevent.sleep(self.look)
        self._changed()

    def _take_text(self, data: bytes) -> None:
        text = text_in(self._answers.take(data))
        self._text = (self._text + text)[: self.max_text]

    def _receive(self) -> bytes:
        try:
            received: bytes = self._line.recv(1 << 16)
        except OSError:
            return b""
        return received

    def _hear(self, words: set[bytes]) -> None:
        if RUNS in words and self._silent is not None:
            self._silent = 0.0
        if READY in words and self.state is State.STARTING:
            self.state, self._silent, self._ready_at = State.READY, 0.0, time.monotonic()
            self._deadline = Deadline(None)
            log.info("worker %d is ready", self.pid)
        if ENOUGH in words:
            self.has_enough = True
        if words - {RUNS}:
            self._changed()

    def _report_and_kill(self, fault: str) -> None:
        # Before its successor says that it is ready.
        log.error("worker %d %s, and is killed. Its main thread:", self.pid, fault)
        self._signal(TELL_STACK)
        self._gone.wait(self.stack_timeout)
        self.kill()
        for line in self._text.splitlines() or ["  (has written nothing)"]:
            log.error("%s", printable(line))

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
