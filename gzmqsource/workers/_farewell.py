"""How a responder leaves: the conditions that it waits for before it closes."""

from __future__ import annotations

import math
import time
from typing import Any

import gevent

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.event import Event
from gzmqsource.workers._handling import Handling
from gzmqsource.workers._header import Detail
from gzmqsource.workers._jobs import Job
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._pulse import Pulse
from gzmqsource.workers._reception import Reception
from gzmqsource.workers._turns import in_turns
from gzmqsource.workers._voice import TURN


class Calm:
    """The time without a message, in looks: one after the hub was held up counts like any other.

    Parameters
    ----------
    seconds : float
        The time that it has to last.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lasts = 0.0
        self._last = float("-inf")

    def begin(self, last: float, lasts: float = 0.0) -> None:
        """Begin to look, when it has lasted for *lasts*; *last* is the time of the last message."""
        self._last = last
        self._lasts = lasts

    def note(self, last: float, seconds: float, has_read_all: bool) -> None:
        """Note a look, *seconds* after the previous one."""
        if last != self._last or not has_read_all:
            self._last = last
            self._lasts = 0.0
        else:
            self._lasts += seconds

    @property
    def is_over(self) -> bool:
        """Whether it has lasted long enough."""
        return self._lasts >= self._seconds


class Farewell:
    """The end of a responder, up to the end of its source.

    Parameters
    ----------
    reception : Reception
        Reads the messages of the askers.
    handling : Handling
        Handles the jobs.
    pulse : Pulse
        Counts the silence of the askers.
    parts : Parts
        The parts of the responder.
    stoppers : set of greenlets
        The greenlets that are in a stop, whose jobs are not waited for.
    """

    #: Seconds without a request after which none is in transit, from peers that are routed and
    #: were notified, and from plain ones. The former hold back their requests for 300 ms; from the
    #: latter, gaps within one stream reached 39 ms over tcp, and 148 ms over ipc.
    routed_quiet = 0.1
    plain_quiet = 0.25

    #: Seconds after a notice within which routed askers hold back for certain, with time to close.
    #: If the quiet came later, requests may be in transit again, and they are notified again. On a
    #: busy machine that happens. After so many times it no longer counts.
    held = 0.2
    most_late = 10

    #: The part of the time, and the most seconds, for which plain peers are waited for. A stream
    #: of requests that goes on for longer has no end.
    plain_part = 0.5
    plain_seconds = 2.0

    #: Seconds after which askers that are waited for are notified again. Routed ones have continued
    #: by then, because other responders may be there; libzmq reports when others are gone.
    again = 0.5

    #: The part of the time after the kills for which replies wait for their turn, or for room; the
    #: rest is for the notices to the askers of those that could not be sent.
    reply_part = 0.5

    #: Seconds between two looks.
    look = 0.02

    def __init__(
        self,
        reception: Reception,
        handling: Handling,
        pulse: Pulse,
        parts: Parts,
        stoppers: set[Any],
    ) -> None:
        self._reception = reception
        self._handling = handling
        self._pulse = pulse
        self._voice = parts.voice
        self._askers = parts.askers
        self._line = parts.line
        self._gate = parts.gate
        self._stoppers = stoppers
        self._told = 0.0
        self._late = 0
        self._plain_ends = Deadline(None)
        self._plain = Calm(self.plain_quiet)
        self._routed = Calm(self.routed_quiet)
        self._has_shut = False
        self._has_ended = False

    def begin(self) -> None:
        """Accept no more requests of askers, and notify them."""
        if self._reception.is_leaving:
            return
        self._reception.is_leaving = True
        self._handling.changed = Event()
        for asker in self._askers.all():
            asker.silence = 0
        self._pulse.watch()
        self._tell(only_routed=False)  # last: it yields, and may be killed

    def wait(self, deadline: Deadline) -> bool:
        """Wait until all is answered, and no more requests come; return False if time ran out."""
        left = deadline.left()
        part = math.inf if left is None else self.plain_part * left
        self._plain_ends = Deadline(min(part, self.plain_seconds))
        changed = self._handling.changed
        assert changed is not None
        looked = time.monotonic()
        # At least one look shows messages that have come by now and were not read yet.
        last = self._reception.last_plain
        self._plain.begin(last, min(looked - last, self.plain_quiet) - self.look / 2)
        while not self._is_over():
            left = deadline.left()
            if left == 0:
                return False
            changed.clear()
            changed.wait(self.look if left is None else min(self.look, left))
            now = time.monotonic()
            seconds, looked = min(now - looked, 2 * self.look), now
            has_read_all = self._pulse.heard.has_read_all()
            self._plain.note(self._reception.last_plain, seconds, has_read_all)
            self._routed.note(self._reception.last_routed, seconds, has_read_all)
        return True

    def end(self) -> None:
        """Stop waiting: the source is closed."""
        self._has_ended = True
        self._handling.note_change()

    def give_up(self, deadline: Deadline) -> int:
        """End all jobs, and kill handlers except those that stop it; return how many it ended.

        A kill may come after the end of its handler, whose reply is then sent if there is time.
        """
        handling = self._handling
        seen: set[Job] = set()
        until = Deadline(self.reply_part * (deadline.left() or 0.0))
        self._gate.shut()  # those that were read may still begin, and are ended by the next round
        while True:
            seen.update(self._end_waiting(), handling.running)
            for job, place in list(handling.running.items()):
                if place in self._stoppers:
                    handling.lose(job)
                else:
                    handling.kill(job)
            if not handling.running:
                return sum(job.is_over for job in seen)
            gevent.sleep(0)  # the hub makes the kills before
            self._wait_for_replies(until)

    def _end_waiting(self) -> list[Job]:
        waiting = self._line.all()
        for job in waiting:
            self._line.remove(job)
            self._handling.reject(job, Detail.LEAVING)
        return waiting

    def _wait_for_replies(self, until: Deadline) -> None:
        """Wait for a change in the jobs whose handlers do not run; drop them if it is too late."""
        left = until.left() or 0.0
        if not left:
            for job in list(self._handling.running):
                if job.greenlet is None:
                    self._handling.drop(job)
        elif self._handling.running:
            changed = self._handling.changed = Event()
            changed.wait(min(self.look, left))

    def _is_over(self) -> bool:
        """Return whether there is nothing left to wait for."""
        if self._has_ended:
            return True
        is_busy = self._is_busy()
        if self._has_shut:
            return not is_busy
        plain_goes_on = not self._plain.is_over
        if (plain_goes_on and self._plain_ends.left() != 0) or (is_busy and not plain_goes_on):
            return False
        is_routed, is_awaited, is_paused = False, False, self._pulse.heard.is_paused
        for asker in self._askers.all():
            # The controls of a routed asker may go to others; it only has to be quiet.
            if asker.is_routed:
                is_routed = True
            elif not (asker.has_left or self._pulse.is_silent(asker) or is_paused):
                is_awaited = True
        tells_again = time.monotonic() > self._told + self.again
        if is_awaited:
            if tells_again:
                self._tell(only_routed=False)
            return False
        if plain_goes_on:
            self._gate.shut()
            self._has_shut = True
            return not is_busy
        return not is_routed or self._has_quiet(tells_again)

    def _has_quiet(self, tells_again: bool) -> bool:
        """Return whether no request of a routed asker is in transit; if need be, notify them."""
        if self._routed.is_over:
            if time.monotonic() < self._told + self.held or self._late == self.most_late:
                return True
            self._late += 1
        elif not tells_again:
            return False
        self._tell(only_routed=True)
        return False

    def _is_busy(self) -> bool:
        """Return whether a job can end before the handlers that stop the responder."""
        running = self._handling.running
        if any(each not in self._stoppers for each in running.values()):
            return True
        return not self._line.is_empty and len(running) < self._reception.places.size

    def _tell(self, only_routed: bool) -> None:
        self._told = time.monotonic()
        for asker in in_turns(self._askers.all(), TURN):
            if asker.is_routed or not (only_routed or asker.has_left):
                self._voice.leaving(asker)
        self._routed.begin(self._reception.last_routed)
