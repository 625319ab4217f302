"""How a responder leaves: what it waits for before it closes."""

from __future__ import annotations

import math
import time

from gevent import get_hub, getcurrent

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.event import Event
from gzmqsource._socket.budget import yield_to_io
from gzmqsource.workers._askers import Askers
from gzmqsource.workers._handling import Handling
from gzmqsource.workers._header import Detail
from gzmqsource.workers._jobs import Gate, Job, Line
from gzmqsource.workers._pulse import TURN, Pulse
from gzmqsource.workers._reception import Reception
from gzmqsource.workers._voice import Voice


class Farewell:
    """The end of a responder, up to the end of its source.

    Parameters
    ----------
    reception, handling, voice, askers, line, gate, pulse
        The parts of the responder.
    """

    #: Seconds without a request after which none is on its way, of peers that are routed and have
    #: been told, and of plain ones. The former hold back what they have for 150 ms; of the latter,
    #: gaps within one stream reached 39 ms over tcp, 148 over ipc.
    routed_quiet = 0.1
    plain_quiet = 0.25

    #: The part of the time, and the most seconds, for which plain peers are waited for. What goes
    #: on for longer has no end.
    plain_part = 0.5
    plain_seconds = 2.0

    #: Seconds after which those that are routed are told again: they have gone on meanwhile, for
    #: others may be there.
    again = 0.3

    #: The most seconds between two looks.
    look = 0.05

    def __init__(
        self,
        reception: Reception,
        handling: Handling,
        voice: Voice,
        askers: Askers,
        line: Line,
        gate: Gate,
        pulse: Pulse,
    ) -> None:
        self._reception = reception
        self._handling = handling
        self._voice = voice
        self._askers = askers
        self._line = line
        self._gate = gate
        self._pulse = pulse
        self._told = 0.0
        self._plain_ends = Deadline(None)
        self._has_shut = False
        self._is_over = False

    def begin(self) -> None:
        """Take no more requests of askers, and tell them."""
        if self._reception.is_leaving:
            return
        self._reception.is_leaving = True
        self._handling.changed = Event()
        for asker in self._askers.all():
            asker.silence = 0
        self._tell(only_routed=False)
        if not self._reception.is_watched:
            self._pulse.watch()

    def wait(self, deadline: Deadline) -> bool:
        """Wait until everything is answered, and nothing more comes; return whether it is."""
        left = deadline.left()
        part = math.inf if left is None else self.plain_part * left
        self._plain_ends = Deadline(min(part, self.plain_seconds))
        changed = self._handling.changed
        assert changed is not None
        while (seconds := self._seconds_to_wait()) > 0:
            left = deadline.left()
            if left == 0:
                return False
            changed.clear()
            changed.wait(seconds if left is None else min(seconds, left))
        return True

    def end(self) -> None:
        """Wait for nothing more: the source is closed."""
        self._is_over = True
        self._handling.note_change()

    def give_up(self) -> int:
        """End all that has not ended, but for the job of the caller; return how many these are."""
        waiting = self._line.all()
        for job in waiting:
            self._line.remove(job)
            self._handling.reject(job, Detail.LEAVING)
        running = list(self._handling.running)
        for job in running:
            self._handling.lose(job)
        return len(waiting) + len(running)

    def _seconds_to_wait(self) -> float:
        """Return for how long there is a reason to wait, at least; 0 if there is none."""
        if self._is_over:
            return 0.0
        is_busy = bool(self._line.all()) or not all(map(_is_own, self._handling.running))
        if self._has_shut:
            return self.look if is_busy else 0.0
        is_routed = False
        for asker in self._askers.all():
            # What one says that is routed may go to others, and what counts is that it is quiet.
            if asker.is_routed:
                is_routed = True
            elif not (asker.has_left or self._pulse.is_silent(asker)):
                return self.look
        if self._plain_ends.left() == 0 and not self._is_quiet(self._reception.last_plain):
            self._gate.shut()
            self._has_shut = True
            return self.look
        if is_busy:
            return self.look
        if not self._pulse.has_read_all():
            return 0.001
        waits = [self._reception.last_plain + self.plain_quiet]
        if is_routed:
            if time.monotonic() > self._told + self.again:
                self._tell(only_routed=True)
            waits += [
                each + self.routed_quiet for each in (self._told, self._reception.last_routed)
            ]
        left = max(waits) - time.monotonic()
        return max(0.001, left) if left > 0 else 0.0

    def _is_quiet(self, last: float) -> bool:
        return self._pulse.has_read_all() and time.monotonic() > last + self.plain_quiet

    def _tell(self, only_routed: bool) -> None:
        for number, asker in enumerate(self._askers.all(), start=1):
            if asker.is_routed or not only_routed:
                self._voice.leaving(asker)
            if not number % TURN:
                yield_to_io(get_hub())
        self._told = time.monotonic()


def _is_own(job: Job) -> bool:
    return job.greenlet is getcurrent()
