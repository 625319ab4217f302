"""What a responder says to the brokers that it has joined."""

from __future__ import annotations

import gevent

from gzmqsource._source.source import Source
from gzmqsource.workers._askers import Asker
from gzmqsource.workers._header import NO_KEY
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._reception import Reception


class Membership:
    """A greenlet that tells each broker, again and again, how many requests this worker takes.

    What it takes at a time is shared by the brokers that are alive, so they do not give it more.

    Parameters
    ----------
    source : Source
        That of the responder, a ROUTER.
    brokers : dict
        The endpoints of the brokers, by the routing ids that the connections to them have here.
    slots : int
        How many requests the responder takes at a time.
    parts, reception
        Those of the responder.
    """

    #: After how many ticks it says so again.
    says = 2

    #: After how many of these it says so again to a broker that has said nothing for long.
    seldom = 64

    #: After how many of these a broker that has said nothing has no share.
    patience = 5

    #: The most requests that it takes, if there is no bound.
    most = 1000

    def __init__(
        self,
        source: Source,
        brokers: dict[bytes, str],
        slots: int,
        parts: Parts,
        reception: Reception,
    ) -> None:
        self._source = source
        self._endpoints = brokers
        self._brokers = {name: Asker([name], False) for name in brokers}
        self._silence = dict.fromkeys(brokers, self.patience)
        self._sessions = dict.fromkeys(brokers, NO_KEY)
        self._slots = min(slots, self.most)
        self._voice = parts.voice
        self._askers = parts.askers
        self._reception = reception
        self._interval = self.says * parts.tick
        self._greenlet: gevent.Greenlet[..., None] | None = None
        reception.is_worker = True
        reception.be_met = self._be_met
        self._share()

    def start(self) -> None:
        """Begin to speak."""
        self._greenlet = gevent.spawn(self._run)

    def close(self) -> None:
        """Speak no more."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def part(self) -> None:
        """End the connections to brokers that have not answered to the farewell.

        What libzmq holds for them would be waited for.
        """
        if self._source.closed:
            return
        socket = self._source.socket
        for name, endpoint in self._endpoints.items():
            asker = self._askers.get(name)
            if asker is None or not asker.has_left:
                linger, socket.linger = socket.linger, 0
                socket.disconnect(endpoint)
                socket.linger = linger

    @property
    def is_member(self) -> bool:
        """Whether a broker has answered of late."""
        return any(
            silence < self.patience or self._heard(name) is not None
            for name, silence in self._silence.items()
        )

    def _run(self) -> None:
        while not self._reception.is_leaving:
            self._listen()
            self._share()
            for name, silence in self._silence.items():
                # What is said while there is no broker waits in libzmq, and comes to it at once.
                if not silence & (silence - 1) or not silence % self.seldom:
                    self._join(name)
            gevent.sleep(self._interval)

    def _join(self, name: bytes) -> None:
        self._voice.join(self._brokers[name], self._sessions[name], self._credits[name])

    def _be_met(self, name: bytes, session: bytes | None) -> None:
        """Repeat what a broker calls the connection, so it knows that this is no older one."""
        if session != self._sessions.get(name, session):
            self._sessions[name] = session or NO_KEY
            if not self._reception.is_leaving:
                self._join(name)

    def _listen(self) -> None:
        """Note which brokers have spoken since the last time."""
        for name in self._brokers:
            heard = self._heard(name)
            if heard is not None:
                heard.is_recent = False
            self._silence[name] = 0 if heard is not None else self._silence[name] + 1

    def _heard(self, name: bytes) -> Asker | None:
        """Return a broker, if it was heard since the last time."""
        asker = self._askers.get(name)
        return asker if asker is not None and asker.is_recent else None

    def _share(self) -> None:
        """Share what it takes between the brokers; the first ones have what does not divide."""
        alive = [name for name, silence in self._silence.items() if silence < self.patience]
        # One that may be there is offered a place at least: it answers if it is.
        self._credits = dict.fromkeys(self._brokers, 1)
        names = alive or list(self._brokers)
        share, more = divmod(self._slots, len(names))
        for index, name in enumerate(names):
            self._credits[name] = max(1, share + (index < more))
