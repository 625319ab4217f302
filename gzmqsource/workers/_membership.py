"""What a responder says to the brokers that it has joined."""

from __future__ import annotations

from collections.abc import Iterator

import gevent

from gzmqsource._source.source import Source
from gzmqsource.workers._askers import Asker
from gzmqsource.workers._header import Detail
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
        self._told = dict.fromkeys(brokers, 1)
        #: Those that are yet to be told that the connection to them is a new one.
        self._anew: set[bytes] = set()
        self._slots = min(slots, self.most)
        self._voice = parts.voice
        self._askers = parts.askers
        self._reception = reception
        self._interval = self.says * parts.tick
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def start(self) -> None:
        """Begin to speak."""
        self._greenlet = gevent.spawn(self._run)

    def connected(self, name: bytes) -> None:
        """Let a broker ask what there is of its requests: some may be lost with a connection."""
        if name in self._brokers and not self._reception.is_leaving:
            self._anew.add(name)
            self._say(name)

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
        return any(silence < self.patience for silence in self._silence.values())

    def _run(self) -> None:
        while not self._reception.is_leaving:
            for name, credit in self._shares():
                self._told[name] = credit
                self._say(name)
            gevent.sleep(self._interval)

    def _say(self, name: bytes) -> None:
        detail = Detail.ANEW if name in self._anew else Detail.NONE
        if self._voice.join(self._brokers[name], self._told[name], detail):
            self._anew.discard(name)

    def _shares(self) -> Iterator[tuple[bytes, int]]:
        """Yield what each broker is told; the first ones have what does not divide."""
        for name in self._brokers:
            asker = self._askers.get(name)
            is_heard = asker is not None and asker.is_recent
            if asker is not None:
                asker.is_recent = False
            self._silence[name] = 0 if is_heard else self._silence[name] + 1
        alive = [name for name, silence in self._silence.items() if silence < self.patience]
        # One that may be there is offered a place at least: it answers if it is.
        share, more = divmod(self._slots, max(1, len(alive)))
        for index, name in enumerate([*alive, *(self._brokers.keys() - alive)]):
            yield name, max(1, share + (index < more)) if name in alive or not alive else 1
