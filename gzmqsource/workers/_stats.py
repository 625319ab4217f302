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
    """What a responder has done since it was made."""

    requests: int
    """Requests with which the handler was called."""

    running: int
    """Requests that are being handled now."""

    replies: int
    """Replies that were sent, including those that report an error."""

    errors: int
    """Requests whose handler raised."""

    undelivered: int
    """Replies that were dropped because their peer is gone or full."""

    malformed: int
    """Messages without an envelope, or without a payload."""


# A NamedTuple takes no such assignment in its body.
RequesterStats.__module__ = ResponderStats.__module__ = "gzmqsource.workers"
