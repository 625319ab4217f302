"""The bound socket of a requester, to which any number of peers connect."""

from __future__ import annotations

import zmq

from gzmqsource._base.lasting import Lasting
from gzmqsource._source.source import Source
from gzmqsource.errors import SourceClosed
from gzmqsource.monitor import Monitor, decode
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
    """

    is_bound = True
    may_queue = True

    #: The most turns for replies that are already there when the last peer is lost.
    max_turns = 100

    def __init__(self, address: str, opening: Opening, owner: Linked) -> None:
        self.source: Source | None = None
        self._address = address
        self._opening = opening
        self._owner = owner
        self.is_inproc = address.startswith("inproc:")
        self._peers = 0
        self._failing = 0
        self._has_peers = False  # whether the owner takes it for connected
        self._runs = Lasting(self._run)

    def start(self) -> None:
        """Make the socket.

        Raises
        ------
        zmq.ZMQError
            libzmq refuses an option, or the address.
        """
        self.source = self._opening.open(self._owner.read)
        try:
            self._opening.start(self.source)
            if not self.is_inproc:
                self._monitor = Monitor(self.source, _EVENTS, ref=False)
                self._runs.start()
            self.source.socket.bind(self._address)
        except BaseException:
            self.close(0)
            raise

    def lose(self) -> None:
        """Do nothing: a bound socket makes no connections."""

    def close(self, linger: int | None = None) -> None:
        """Close the socket."""
        source = self.source
        if source is not None and not source.closed:
            source.unlink(self._opening.broken)
            if linger is not None:
                source.socket.linger = linger
            source.close()  # and its monitor ends
        self.source = None  # last: an exception may come before

    def hear_out(self) -> None:
        """Take the messages that are there."""
        if self.source is not None:
            hear_out(self.source, self.max_turns)

    def _run(self) -> None:
        """Count each event once, whatever has ended this in between."""
        events = self._monitor._report.queue
        while True:
            self._tell()
            try:
                self._monitor._wait(None)
            except SourceClosed:
                return
            peers, failing = self._count(decode(events[0]).name)
            # Python runs no signal handler until the event is counted and gone.
            self._peers, self._failing = peers, failing
            events.popleft()

    def _tell(self) -> None:
        """Report whether there are peers, if that has changed."""
        if self._peers and not self._has_peers:
            self._owner.connected()
            self._has_peers = True
        elif self._has_peers and not self._peers:
            self.hear_out()
            if self.source is not None:
                self._owner.disconnected()
            self._has_peers = False

    def _count(self, name: str) -> tuple[int, int]:
        """Count peers and failing ones: they are reported as disconnected, too."""
        if name == "handshake_succeeded":
            return self._peers + 1, self._failing
        if name != "disconnected":
            return self._peers, self._failing + 1
        if self._failing:
            return self._peers, self._failing - 1
        return max(0, self._peers - 1), 0
