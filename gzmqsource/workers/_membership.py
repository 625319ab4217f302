"""The messages of a responder to the brokers that it has joined."""

from __future__ import annotations

import errno
from typing import Any

import gevent
import zmq

from gzmqsource._base.lasting import Lasting
from gzmqsource._source.source import Source
from gzmqsource.workers._askers import Asker
from gzmqsource.workers._envelope import MOST_ID
from gzmqsource.workers._header import NO_KEY
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._reception import Reception


class Membership:
    """A greenlet that repeatedly reports to each broker how many requests this worker takes.

    The brokers that are alive share that number, so together they do not give it more at a time,
    unless there are more of them: each is offered at least one.

    Parameters
    ----------
    source : Source
        The source of the responder, a ROUTER.
    brokers : dict
        The endpoints of the brokers, by the routing ids of the connections to them.
    slots : int
        How many requests the responder takes at a time.
    parts, reception
        The parts and the reception of the responder.
    """

    #: The ticks from one report to the next.
    says = 2

    #: The reports from one to the next to a broker that has been silent for long.
    seldom = 64

    #: The reports after which a silent broker has no share.
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
        # By the routing ids of the connections to the brokers.
        self._endpoints: dict[bytes, str] = {}
        self._brokers: dict[bytes, Asker] = {}
        self._silence: dict[bytes, int] = {}
        self._sessions: dict[bytes, bytes] = {}
        for name, endpoint in brokers.items():
            self._add(name, endpoint)
        self._renewed = 0
        self._slots = min(slots, self.most)
        self._voice = parts.voice
        self._askers = parts.askers
        self._reception = reception
        self._interval = self.says * parts.tick
        self._runs = Lasting(self._run)
        reception.is_worker = True
        reception.be_met = self._be_met
        self._share()

    def start(self) -> None:
        """Start reporting."""
        self._runs.start()

    def close(self) -> None:
        """Stop reporting."""
        self._runs.kill()

    def part(self) -> None:
        """End the connections to brokers that have not answered the farewell.

        Otherwise the close would wait for the messages that libzmq holds for them.
        """
        if self._source.closed:
            return
        socket = self._source.socket
        linger, socket.linger = socket.linger, 0
        try:
            for name, endpoint in self._endpoints.items():
                asker = self._askers.get(name)
                if asker is None or not asker.has_left:
                    _disconnect(socket, endpoint)
        finally:
            socket.linger = linger

    @property
    def is_member(self) -> bool:
        """Whether a broker has answered recently."""
        return any(
            silence < self.patience or self._heard(name) is not None
            for name, silence in self._silence.items()
        )

    def _run(self) -> None:
        while not self._reception.is_leaving:
            self._listen()
            self._share()
            for name, silence in list(self._silence.items()):
                # Reports made while there is no broker wait in libzmq, and reach it together.
                if not silence & (silence - 1) or not silence % self.seldom:
                    self._join(name)
            gevent.sleep(self._interval)

    def _join(self, name: bytes) -> None:
        """Report to a broker; connect again if it is gone, as libzmq does not over inproc."""
        broker, credit = self._brokers[name], self._credits[name]
        is_gone = self._voice.join(broker, self._sessions[name], credit) is False
        if is_gone and not self._source.closed:
            self._voice.join(self._connect_again(name), NO_KEY, credit)

    def _connect_again(self, name: bytes) -> Asker:
        """Connect to a broker under a new name: libzmq aborts if it still has the old one."""
        self._renewed += 1
        endpoint = self._endpoints[name]
        new = connect_as(self._source.socket, endpoint, b"%d " % self._renewed)
        self._add(new, endpoint)
        del self._endpoints[name], self._brokers[name], self._silence[name], self._sessions[name]
        self._share()
        return self._brokers[new]

    def _add(self, name: bytes, endpoint: str) -> None:
        self._endpoints[name] = endpoint
        self._brokers[name] = Asker([name], False)
        self._silence[name] = self.patience
        self._sessions[name] = NO_KEY

    def _be_met(self, name: bytes, session: bytes | None) -> None:
        """Repeat a broker's name for the connection, so it knows that the connection is current."""
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
        """Return a broker if it has spoken since the last time."""
        asker = self._askers.get(name)
        return asker if asker is not None and asker.is_recent else None

    def _share(self) -> None:
        """Share its requests among the brokers; the first ones get the remainder."""
        alive = [name for name, silence in self._silence.items() if silence < self.patience]
        # A broker that may be there is offered at least one place: it answers if it is there.
        self._credits = dict.fromkeys(self._brokers, 1)
        names = alive or list(self._brokers)
        share, more = divmod(self._slots, len(names))
        for index, name in enumerate(names):
            self._credits[name] = max(1, share + (index < more))


def connect_as(socket: zmq.Socket[Any], url: str, prefix: bytes = b"") -> bytes:
    """Connect a ROUTER, and return the connection's routing id in it."""
    name = (prefix + url.encode())[:MOST_ID]
    socket.connect_routing_id = name
    socket.connect(url)
    return name


def _disconnect(socket: zmq.Socket[Any], url: str) -> None:
    """Disconnect, unless libzmq has: over inproc, a connection ends with its peer."""
    try:
        socket.disconnect(url)
    except zmq.ZMQError as error:
        if error.errno != errno.ENOENT:
            raise
