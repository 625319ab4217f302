"""Snapshots of the counters of a requester and a responder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class RequesterStats(NamedTuple):
    """The counters of a requester since it was made.

    At any moment *requests* is the sum of *outstanding*, *replies*, *timeouts*, *lost*, *cancelled*
    and *failed*.
    """

    requests: int
    """Requests that were made."""

    outstanding: int
    """Requests that wait for their replies now."""

    waiting: int
    """Outstanding requests that no server has, because there is none, or no room, or all refuse."""

    replies: int
    """Requests that were answered, including by an error."""

    timeouts: int
    """Requests that were given up because no reply came in time."""

    lost: int
    """Requests that were given up because their server was lost."""

    cancelled: int
    """Requests whose caller was killed, or interrupted by another exception."""

    failed: int
    """Requests that libzmq has refused, or that were outstanding when the requester closed."""

    retries: int
    """How often a request was sent again because its server was lost."""

    refused: int
    """How often a server has refused a request, which was then sent elsewhere or later."""

    late: int
    """Replies for which no request was outstanding over the same connection any more."""

    unknown: int
    """Messages that are not replies."""


class EndpointStats(NamedTuple):
    """One connection of a requester."""

    endpoint: str
    """The endpoint that was passed to the requester."""

    address: str
    """The endpoint itself, or one of the addresses for which its name stands."""

    state: str
    """``"connecting"``; ``"probing"``: it is not known whether the server is alive; ``"live"``:
    requests go to it; or ``"leaving"``: it is about to stop."""

    outstanding: int
    """Requests that the server has."""

    speaks: bool
    """Whether the server speaks the protocol, so that it can be pinged."""

    session: int
    """The number of the server's session, which lasts from its start to its end; 0 if unknown."""


class Connected(Protocol):
    """A connection, as this module sees it."""

    def snapshot(self) -> EndpointStats:
        """Return its current state."""


def summary(connections: Sequence[Connected], names: str, most: int = 3) -> str:
    """Return the addresses and the states of some connections to *names* in a few words."""
    shown = [each.snapshot() for each in connections[:most]]
    words = [f"{each.address} {each.state}" for each in shown]
    if len(connections) > most:
        words.append(f"{len(connections) - most} more")
    return ", ".join(words) or f"no connection to {names}"


class ResponderStats(NamedTuple):
    """The counters of a responder since it was made.

    At any moment *requests* is the sum of *waiting*, *running*, *replies*, *errors*, *undelivered*,
    *full*, *leaving*, *expired*, *cancelled* and *lost*.
    """

    requests: int
    """Requests that were read, each once."""

    waiting: int
    """Requests whose handler has not begun."""

    running: int
    """Requests whose handler runs now, or whose reply waits for room in the outbox."""

    replies: int
    """Requests whose reply libzmq has taken, or is queued. A reply that is refused later counts as
    undelivered from then on."""

    errors: int
    """Requests whose handler raised; the reply reports the exception."""

    undelivered: int
    """Requests without a reply. It was dropped because the peer is gone or does not read, or at the
    end of the responder; requests of plain peers that had not begun by then count, too."""

    full: int
    """Requests that were refused because too many waited."""

    leaving: int
    """Requests that were refused because the responder was about to stop."""

    expired: int
    """Requests that were refused because they could not be finished in time."""

    cancelled: int
    """Requests whose caller no longer waited."""

    lost: int
    """Requests whose handler was killed."""

    duplicates: int
    """How often a request came again while it waited or ran, or while its reply was kept."""

    malformed: int
    """Messages that are neither requests nor controls."""

    askers: int
    """Peers that speak the protocol and are remembered."""


# A NamedTuple does not allow such an assignment in its body.
RequesterStats.__module__ = ResponderStats.__module__ = "gzmqsource.workers"
EndpointStats.__module__ = "gzmqsource.workers"
