"""The ticks of a responder: it shows its askers that it is alive, and checks that they are."""

from __future__ import annotations

import time

import gevent

from gzmqsource._base.lasting import Lasting
from gzmqsource._source.core import Core
from gzmqsource.workers._askers import TICKS, Asker
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._reception import Reception
from gzmqsource.workers._turns import in_turns
from gzmqsource.workers._voice import TURN


class Heard:
    """Whether a source has read its messages: if not, a peer may only seem silent.

    Parameters
    ----------
    core : Core
        The source's socket.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._edges = 0

    @property
    def is_paused(self) -> bool:
        """Whether the source is paused."""
        return not self._core.resumed.is_set()

    def has_read_all(self) -> bool:
        """Return whether all messages so far were read, except those that a pause leaves there."""
        core = self._core
        return bool(core.socket.readiness.readers and not core.prefetched) or self.is_paused

    def may_accuse(self) -> bool:
        """Return whether all messages were read that were there when this was last called."""
        edges, self._edges = self._edges, self._core.socket.readiness.edges
        return not self.is_paused and (edges != self._edges or self.has_read_all())


class Pulse:
    """A greenlet that ticks while there are jobs, askers or kept replies, and ends otherwise.

    Silence is counted in its ticks, so a hub that was held up does not give up its askers. A tick
    counts only if all messages that were there at the last one have been read: a PING may be queued
    in libzmq behind other messages.

    Parameters
    ----------
    core : Core
        The source's socket.
    reception : Reception
        Reads the messages of the askers.
    parts : Parts
        The parts of the responder.
    """

    #: The ticks after which an asker is notified again that this hub is alive.
    told = 2

    def __init__(self, core: Core, reception: Reception, parts: Parts) -> None:
        self._core = core
        self._reception = reception
        self._askers = parts.askers
        self._voice = parts.voice
        self._gate = parts.gate
        self._kept = parts.kept
        self._line = parts.line
        self._tick = parts.tick
        self._number = 0
        #: Whether the messages of askers are read.
        self.heard = Heard(core)
        self._runs = Lasting(self._run)
        reception.watch = self.watch

    def watch(self) -> None:
        """Start ticking, unless it already does."""
        if not self._reception.is_watched:
            self._reception.is_watched = True
            self._runs.start()

    def close(self) -> None:
        """Stop ticking."""
        self._runs.kill()

    def is_silent(self, asker: Asker) -> bool:
        """Return whether an asker has been silent for too long to count as alive."""
        return asker.silence >= (asker.patience or TICKS + 1)

    def _run(self) -> None:
        self._reception.is_watched = True  # again, if an exception has ended it before
        try:
            while True:
                gevent.sleep(self._tick)
                if self._core.closed or not self._beat():
                    return
        finally:
            self._reception.is_watched = False

    def _beat(self) -> bool:
        """Look at each asker; return whether the ticks are still needed."""
        self._voice.pay()
        self._kept.forget(time.monotonic())
        self._reception.places.resume()
        if self._core.closed:
            return False
        is_held = self._gate.full() or self.heard.is_paused
        may_accuse = self.heard.may_accuse() and not is_held
        leaving = self._reception.is_leaving
        self._number += 1
        tells = self._number % self.told == 0
        for asker in in_turns(self._askers.all(), TURN):
            if self._core.closed:
                return False
            if asker.jobs or is_held or (leaving and not asker.has_left):
                asker.silence += may_accuse
                may_be_dead = asker.patience is not None or asker.is_unreachable
                # Behind a proxy, messages of an asker may go to another responder.
                if may_be_dead and not asker.is_routed and self.is_silent(asker):
                    self._reception.abandon(asker, may_come_back=True)
                elif tells and not asker.was_told:
                    self._voice.pong(asker)
            if tells:
                asker.was_told = False
        return not self._core.closed and self._is_wanted()

    def _is_wanted(self) -> bool:
        """Return whether the ticks are needed now: a request may have come during a tick."""
        reception = self._reception
        is_held = self._gate.full() or self.heard.is_paused
        waits = reception.has_jobs or not self._line.is_empty
        is_idle = not (waits or self._voice.owes or self._kept.replies)
        return is_held or reception.is_leaving or not is_idle
