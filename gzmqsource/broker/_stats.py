"""Snapshots of the counters of a broker, and of its workers."""

from __future__ import annotations

from typing import NamedTuple


class BrokerStats(NamedTuple):
    """The counters of a broker since it was made.

    At any moment *requests* is the sum of *waiting*, *running*, *replies*, *errors*, *undelivered*,
    *full*, *leaving*, *expired*, *cancelled* and *lost*.
    """

    requests: int
    """Requests that were read."""

    waiting: int
    """Requests that no worker has."""

    running: int
    """Requests that a worker has."""

    replies: int
    """Replies that libzmq or the outbox has taken."""

    errors: int
    """Requests whose handler raised."""

    undelivered: int
    """Replies that could not be delivered, and requests of plain peers that were given up."""

    full: int
    """Requests that were refused because too many waited."""

    leaving: int
    """Requests that were refused because the broker was about to stop."""

    expired: int
    """Requests that were refused because the rest of their time was not enough."""

    cancelled: int
    """Requests whose caller no longer waited."""

    lost: int
    """Requests whose worker was lost, or has lost them."""

    redelivered: int
    """How often a request was given to another worker after it was lost."""

    late: int
    """Messages of workers about requests that they had lost, or before they had joined."""

    workers: int
    """Workers that take requests."""

    slots: int
    """How many requests the workers take at a time."""


class WorkerStats(NamedTuple):
    """One worker of a broker."""

    name: str
    """Its name, or its routing id."""

    state: str
    """``"ready"``; ``"silent"``: its hub has sent nothing for its *dead_after*; ``"leaving"``: it
    is about to stop; or ``"gone"``: its connection has ended, and it is about to be forgotten."""

    slots: int
    """How many requests it takes at a time."""

    outstanding: int
    """How many requests it has."""


BrokerStats.__module__ = WorkerStats.__module__ = "gzmqsource.broker"
