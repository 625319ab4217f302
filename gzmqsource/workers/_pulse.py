"""What a responder does at each tick: its askers learn that it is alive, and it that they are."""

from __future__ import annotations

import gevent

from gzmqsource._socket.budget import yield_to_io
from gzmqsource._source.core import Core
from gzmqsource.workers._askers import Asker, Askers
from gzmqsource.workers._jobs import Gate
from gzmqsource.workers._reception import Reception
from gzmqsource.workers._voice import Voice

#: How many askers are told between two polls of the hub; each takes some 3 us.
TURN = 128


class Pulse:
    """A greenlet that ticks while there is something to watch, and ends otherwise.

    Silence is counted in its ticks, so a hub that was held up accuses nobody. A tick counts only if
    all that was there had been read since the last one: a PING may lie in libzmq behind others.

    Parameters
    ----------
    core, reception, askers, voice, gate
        The parts of the responder.
    tick : float
        Seconds from one to the next.
    """

    #: After how many ticks an asker that has sent no PING counts as silent, when this one leaves.
    patience = 5

    def __init__(
        self,
        core: Core,
        reception: Reception,
        askers: Askers,
        voice: Voice,
        gate: Gate,
        tick: float,
    ) -> None:
        self._core = core
        self._reception = reception
        self._askers = askers
        self._voice = voice
        self._gate = gate
        self._tick = tick
        self._edges = 0
        reception.watch = self.watch

    def watch(self) -> None:
        """Begin to tick."""
        self._reception.is_watched = True
        gevent.spawn(self._run)

    def is_silent(self, asker: Asker) -> bool:
        """Return whether an asker has said nothing for as long as it counts as alive."""
        return asker.silence > (asker.patience or self.patience)

    def has_read_all(self) -> bool:
        """Return whether all that has come so far was read, but for what a pause leaves there."""
        core = self._core
        is_waiting = bool(core.socket.readiness.readers) and not core.prefetched
        return is_waiting or not core.resumed.is_set()

    def _run(self) -> None:
        try:
            while True:
                gevent.sleep(self._tick)
                if self._core.closed or not self._beat():
                    return
        finally:
            self._reception.is_watched = False

    def _beat(self) -> bool:
        """Look at each asker; return whether there is something to watch."""
        edges, self._edges = self._edges, self._core.socket.readiness.edges
        is_held = self._gate.full() or not self._core.resumed.is_set()
        may_accuse = not is_held and (edges != self._edges or self.has_read_all())
        leaving = self._reception.is_leaving
        is_wanted = self._voice.pay() or is_held or leaving
        for number, asker in enumerate(self._askers.all(), start=1):
            asker.was_told = False
            if asker.jobs or is_held or leaving:
                is_wanted = True
                self._watch(asker, may_accuse)
            if not number % TURN:
                yield_to_io(self._core.hub)
                if self._core.closed:
                    return False
        return is_wanted

    def _watch(self, asker: Asker, may_accuse: bool) -> None:
        asker.silence += may_accuse
        # Behind a proxy, what an asker says may go to another responder.
        if asker.patience and not asker.is_routed and self.is_silent(asker):
            self._reception.abandon(asker, may_come_back=True)
        else:
            self._voice.pong(asker)
