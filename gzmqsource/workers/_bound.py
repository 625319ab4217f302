"""The bound socket of a requester, to which any number of peers connect."""

from __future__ import annotations

import gevent
import zmq

from gzmqsource._source.source import Source
from gzmqsource.monitor import Monitor, SocketEvent
from gzmqsource.workers._link import Linked, Opening
from gzmqsource.workers._turns import hear_out

_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
_EVENTS |= zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_EVENTS |= zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class BoundLink:
    """A socket that is connected while it has a peer. Which peer has which request is unknown.

    Parameters
    ----------
    address : str
        The endpoint to bind.
    opening : Opening
        Makes the socket.
    owner : Linked
        Takes the messages.

    Raises
    ------
    zmq.ZMQError
        libzmq refuses an option, or the address.
    """

    is_bound = True
    may_queue = True

    #: The most turns for replies that are already there when the last peer is lost.
    max_turns = 100

    def __init__(self, address: str, opening: Opening, owner: Linked) -> None:
        self.source: Source | None = opening.open(owner.received)
        self._opening = opening
        self._owner = owner
        self.is_inproc = address.startswith("inproc:")
        self._peers = 0
        self._failing = 0
        try:
            if not self.is_inproc:
                self._monitor = Monitor(self.source, _EVENTS, ref=False)
                self._greenlet = gevent.spawn(self._run)
            self.source.socket.bind(address)
        except BaseException:
            self.close(0)
            raise

    def lose(self) -> None:
        """Do nothing: a bound socket makes no connections."""

    def close(self, linger: int | None = None) -> None:
        """Close the socket."""
        source, self.source = self.source, None
        if source is None or source.closed:
            return
        source.unlink(self._opening.broken)
        if linger is not None:
            source.socket.linger = linger
        source.close()  # and its monitor ends

    def hear_out(self) -> None:
        """Take the messages that are there."""
        if self.source is not None:
            hear_out(self.source, self.max_turns)

    def _run(self) -> None:
        for event in self._monitor:
            had = self._peers > 0
            self._count(event)
            if self._peers and not had:
                self._owner.connected()
            elif had and not self._peers:
                self.hear_out()
                if self.source is not None and not self._peers:
                    self._owner.disconnected()

    def _count(self, event: SocketEvent) -> None:
        """Count the peers; after a failed handshake, the peer is reported as disconnected, too."""
        if event.name == "handshake_succeeded":
            self._peers += 1
        elif event.name != "disconnected":
            self._failing += 1
        elif self._failing:
            self._failing -= 1
        elif self._peers:
            self._peers -= 1
