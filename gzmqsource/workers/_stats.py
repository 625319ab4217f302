"""Snapshots of what a requester and a responder have done."""

from __future__ import annotations

from typing import NamedTuple


class RequesterStats(NamedTuple):
    """What a requester has done since it was made."""

    requests: int
    """Requests that were made."""

    outstanding: int
    """Requests that wait for their replies now."""

    retries: int
    """How often a request was sent again."""

    timeouts: int
    """Requests that were given up because no reply came."""

    lost: int
    """Requests that were given up because a connection was lost."""

    late: int
    """Replies to requests that were given up, or answered before."""

    unknown: int
    """Messages without an envelope, or replies to requests that this requester never made."""


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
    """Requests without a reply: it was dropped because the peer is gone or does not read, or at the
    end of the responder; and those of plain peers that it has not begun then."""

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
