"""A snapshot of the counters of a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stats:
    """The counters of a source since it was made. They count whole messages."""

    __module__ = "gzmqsource"

    received: int
    """Messages taken from libzmq."""

    sent: int
    """Messages that libzmq has taken."""

    dropped: Mapping[str, int]
    """Messages given up, by reason. The reasons are ``"newest"`` and ``"oldest"`` (overflow
    policy), ``"oversized"`` (received with more frames or bytes than `Source` allows),
    ``"refused"`` (libzmq reported an error for a queued message), ``"killed"`` (their handler was
    killed by `Source.stop`), ``"unsent"``, ``"unhandled"`` (prefetched when the source closed), and
    ``"unread"`` (still in libzmq when `Source.stop` closed it, and read only to be counted).
    """

    errors: int
    """Exceptions that were passed to ``on_error``, logged, or passed to the hub."""

    wakeups: int
    """Edges of the ``ZMQ_FD`` that woke the hub for this source."""

    budget_stops: int
    """Budgets that were exhausted, by ``max_messages`` or ``max_seconds``, with work left."""

    in_hand: int
    """Messages taken from libzmq for which no handler was called yet."""

    outbox_depth: int
    """Messages queued for sending now; those of other threads once the hub has taken them over."""

    outbox_bytes: int
    """Bytes queued for sending now; each frame counts 64 more."""

    outbox_peak: int
    """The most messages that were ever queued at once; on a ROUTER or STREAM, for one peer."""

    oldest_queued_age: float
    """Seconds since the oldest queued message was queued; 0.0 if none is."""


def stats_of(core: Any) -> Stats:
    """Return the counters of the source that has this `Core`."""
    outbox, transfer = core.outbox, core.socket.transfer
    dropped = dict(outbox.dropped)
    if transfer.oversized:
        dropped["oversized"] = transfer.oversized
    return Stats(
        received=transfer.received,
        sent=transfer.sent,
        dropped=dropped,
        errors=core.errors,
        wakeups=core.socket.readiness.edges,
        budget_stops=core.socket.budget.stops,
        in_hand=len(core.prefetched),
        outbox_depth=outbox.depth,
        outbox_bytes=outbox.bytes,
        outbox_peak=outbox.peak,
        oldest_queued_age=outbox.oldest_age(),
    )
