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

    At any moment *requests* is the sum of *running*, *replies*, *errors* and *undelivered*.
    """

    requests: int
    """Requests with which the handler was called."""

    running: int
    """Requests whose handler runs now, or whose reply waits for room in the outbox."""

    replies: int
    """Requests whose reply libzmq has taken, or is queued. One that is refused later counts as
    undelivered from then on."""

    errors: int
    """Requests whose handler raised; the reply reports that."""

    undelivered: int
    """Requests without a reply: it was dropped because the peer is gone or does not read, or at the
    end of the responder, or the handler was killed."""

    malformed: int
    """Messages without an envelope, or without a payload."""


# A NamedTuple takes no such assignment in its body.
RequesterStats.__module__ = ResponderStats.__module__ = "gzmqsource.workers"
