"""Snapshots of what a requester and a responder have done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class RequesterStats(NamedTuple):
    """What a requester has done since it was made.

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
    """Requests that were answered, also by an error."""

    timeouts: int
    """Requests that were given up because no reply came in time."""

    lost: int
    """Requests that were given up because their server was lost."""

    cancelled: int
    """Requests whose caller was killed, or left by another exception."""

    failed: int
    """Requests that libzmq has refused, or that were outstanding when the requester closed."""

    retries: int
    """How often a request was sent again because its server was lost."""

    refused: int
    """How often a server has refused a request, which was asked elsewhere or later."""

    late: int
    """Replies for which no request was outstanding over the same connection any more."""

    unknown: int
    """Messages that are no replies."""


class EndpointStats(NamedTuple):
    """One connection of a requester."""

    endpoint: str
    """The endpoint that was passed to the requester."""

    address: str
    """The endpoint itself, or one of the addresses that its name stands for."""

    state: str
    """``"connecting"``; ``"probing"``: it is not known whether the server is alive; ``"live"``:
    requests go to it; or ``"leaving"``: it is about to stop."""

    outstanding: int
    """Requests that the server has."""

    speaks: bool
    """Whether it speaks the protocol, so that it can be pinged."""

    session: int
    """The number of its session, which a server has from its start to its end; 0 if unknown."""


def summary(endpoints: Sequence[EndpointStats], names: str, most: int = 3) -> str:
    """Return the addresses and the states of some connections to *names* in a few words."""
    words = [f"{each.address} {each.state}" for each in endpoints[:most]]
    if len(endpoints) > most:
        words.append(f"{len(endpoints) - most} more")
    return ", ".join(words) or f"no connection to {names}"


class ResponderStats(NamedTuple):
    """What a responder has done since it was made.

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
    """Requests whose reply libzmq has taken, or is queued. One that is refused later counts as
    undelivered from then on."""

    errors: int
    """Requests whose handler raised; the reply reports that."""

    undelivered: int
    """Requests without a reply. It was dropped because the peer is gone or does not read, or at the
    end of the responder; those of plain peers that had not begun then count, too."""

    full: int
    """Requests that were refused because as many wait as may."""

    leaving: int
    """Requests that were refused because the responder was about to stop."""

    expired: int
    """Requests that were refused because they could not be finished in time."""

    cancelled: int
    """Requests for whose reply nobody waited any more."""

    lost: int
    """Requests whose handler was killed."""

    duplicates: int
    """How often a request came again while it waited or ran, or while its reply was kept."""

    malformed: int
    """Messages that are neither requests nor controls."""

    askers: int
    """Peers that speak the protocol and are remembered."""


# A NamedTuple takes no such assignment in its body.
RequesterStats.__module__ = ResponderStats.__module__ = "gzmqsource.workers"
EndpointStats.__module__ = "gzmqsource.workers"
