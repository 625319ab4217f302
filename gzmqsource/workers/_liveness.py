"""Whether the peers of a requester are alive: their hubs, not their machines.

libzmq's own heartbeats are answered by its I/O thread, even in a process whose hub is stuck.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, Protocol

import gevent

from gzmqsource._base.lasting import Lasting
from gzmqsource.workers._connection import State
from gzmqsource.workers._turns import in_turns


class Watched(Protocol):
    """A connection, as this module sees it."""

    state: State
    outstanding: Sized
    speaks: bool
    heard: bool
    quiet: int
    is_watched: bool
    link: Any

    def send_ping(self) -> None:
        """Ask for a sign of life."""

    def silent(self) -> None:
        """Note that there was no sign of life."""

    def give_away(self) -> None:
        """Send to other peers the calls that wait for this connection."""

    def unanswered(self) -> None:
        """Note that there was no sign of life for long."""


class Liveness:
    """Looks at all connections that have outstanding calls, eight times in *dead_after*.

    It also looks at those whose peer is about to stop, until the peer is gone: libzmq does not
    report that over inproc, nor if a machine or the path to it fails.

    Silence is counted in looks, and the hub polls between two of them. So after the hub was held up
    for long, it counts one more look, as after a moment, and does not give up any of its peers.

    Parameters
    ----------
    dead_after : float
        Seconds of silence after which a peer counts as dead.
    """

    #: How many looks there are in *dead_after*. A dead peer is noticed one or two looks later,
    #: because the first does not know how long it was silent, and the last pong may come after it.
    looks = 8

    #: The looks from one ping to the next.
    ping_every = 2

    #: After how many times *dead_after* a peer may no longer speak the protocol.
    forget_after = 10

    def __init__(self, dead_after: float) -> None:
        self._interval = max(0.001, dead_after / self.looks)
        self._round = 0
        self._watched: dict[Watched, None] = {}
        self._runs = Lasting(self._run)

    def watch(self, connection: Watched) -> None:
        """Look at a connection for as long as that is necessary."""
        connection.is_watched = True
        connection.quiet = 0
        connection.heard = False
        self._watched[connection] = None
        self._runs.start()

    def close(self) -> None:
        """Stop looking."""
        self._watched.clear()
        self._runs.kill()

    def _run(self) -> None:
        while self._watched:
            gevent.sleep(self._interval)
            self._round += 1
            for connection in in_turns(list(self._watched)):
                if not self._look(connection):
                    connection.is_watched = False
                    self._watched.pop(connection, None)

    def _look(self, connection: Watched) -> bool:
        """Look at a connection; return False if that is not necessary any more."""
        probes = connection.state is State.PROBING
        if not (probes or self._is_due(connection) or _ends_unseen(connection)):
            return False
        if connection.heard:
            connection.heard = False
            connection.quiet = 0
        else:
            connection.quiet += 1
        if probes:
            if connection.quiet >= self.forget_after * self.looks:
                connection.unanswered()
                return connection.state is State.PROBING
            if connection.quiet > self.looks:
                connection.give_away()
        elif connection.quiet > self.looks:
            connection.link.hear_out()
            if not connection.heard and self._is_due(connection):
                connection.silent()
        if not self._round % self.ping_every:
            connection.send_ping()
        return True

    def _is_due(self, connection: Watched) -> bool:
        """Return whether silence means that the peer is gone."""
        if not connection.speaks or connection.state not in (State.LIVE, State.LEAVING):
            return False
        # Nothing else shows that the path to a peer that is about to stop has failed. Over inproc,
        # there is none.
        ends = connection.state is State.LEAVING and not connection.link.is_inproc
        return ends or bool(connection.outstanding)


def _ends_unseen(connection: Watched) -> bool:
    """Return whether only a ping that finds no peer shows that a leaving peer is gone."""
    return connection.state is State.LEAVING and bool(connection.link.is_inproc)
