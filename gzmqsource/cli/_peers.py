"""Which endpoints of a socket have peers: a sender that waits for one says so."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from gevent.event import Event
from gevent.queue import Empty

from gzmqsource.cli._events import reason_of
from gzmqsource.cli._log import log
from gzmqsource.errors import SourceClosed
from gzmqsource.monitor import Monitor, SocketEvent

#: The transports whose connections libzmq reports.
_REPORTED = ("tcp://", "ipc://", "ws://", "wss://", "tipc://", "vmci://")


@dataclass
class _Endpoint:
    url: str
    #: Whether its peers connect to it.
    is_bound: bool
    #: The descriptors of its connections; of one that is connected, 0 once both have shaken hands.
    peers: set[int] = field(default_factory=set)
    #: Since when it has none, and whether that was reported.
    since: float = field(default_factory=time.monotonic)
    is_reported: bool = False
    #: Why the last handshake has failed.
    reason: str | None = None

    def __str__(self) -> str:
        return self.url if self.reason is None else f"{self.url} ({self.reason})"

    def is_of(self, event: SocketEvent) -> bool:
        """Return whether an event is about this endpoint.

        libzmq spells one that is connected as it was passed, also the name of a host. A connection
        to a wildcard has the address that the peer has used.
        """
        if self.url == event.endpoint:
            return True
        ports = [url.rpartition(":")[2] for url in (self.url, event.endpoint)]
        return self.is_bound and ports[0] == ports[1]

    def note(self, event: SocketEvent) -> None:
        """Note what has happened to a connection."""
        if event.name == ("accepted" if self.is_bound else "handshake_succeeded"):
            self.peers.add(event.value if self.is_bound else 0)
            self.is_reported, self.reason = False, None
        elif event.name.startswith("handshake_failed"):
            self.reason = reason_of(event)
        elif event.name == "disconnected" and self.peers:
            self.peers.discard(event.value if self.is_bound else 0)
            self.since = time.monotonic()


class Peers:
    """The peers at the endpoints of one socket.

    Parameters
    ----------
    bound, connected : iterable of str
        The endpoints, of which those that libzmq does not report on are left out.
    """

    #: Seconds without a peer after which that is reported.
    patience = 1.0

    def __init__(self, bound: Iterable[str], connected: Iterable[str]) -> None:
        self._endpoints = [
            _Endpoint(url, is_bound)
            for urls, is_bound in ((bound, True), (connected, False))
            for url in urls
            if url.startswith(_REPORTED)
        ]
        #: Set once there was a peer, or if that cannot be known.
        self.came = Event()
        if not self._endpoints:
            self.came.set()

    @property
    def missing(self) -> list[str]:
        """The endpoints that have no peer now, with the reasons that are known."""
        return [str(each) for each in self._endpoints if not each.peers]

    @property
    def are_missing(self) -> bool:
        """Whether there is no peer at all, as far as that can be known."""
        return bool(self._endpoints) and len(self.missing) == len(self._endpoints)

    def follow(self, events: Monitor) -> None:
        """Note events until the end of the monitor, and report endpoints without a peer."""
        while True:
            try:
                event = events.recv(self._seconds_left())
            except Empty:
                self._report()
            except SourceClosed:
                return
            else:
                self._note(event)

    def _note(self, event: SocketEvent) -> None:
        for each in self._endpoints:
            if each.is_of(event):
                each.note(event)
                if each.peers:
                    self.came.set()

    def _unreported(self) -> list[_Endpoint]:
        return [each for each in self._endpoints if not (each.peers or each.is_reported)]

    def _seconds_left(self) -> float | None:
        """Return the seconds until the next report; None if there is nothing to report."""
        since = min((each.since for each in self._unreported()), default=None)
        return None if since is None else max(0.0, since + self.patience - time.monotonic())

    def _report(self) -> None:
        due = time.monotonic() - self.patience
        late = [each for each in self._unreported() if each.since <= due]
        for each in late:
            each.is_reported = True
        if late:
            log.warning("waiting for a peer at %s", ", ".join(map(str, late)))
