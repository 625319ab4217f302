"""A snapshot of what a source has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gzmqsource._source.core import Core


@dataclass(frozen=True)
class Stats:
    """What a source has done since it was made. Counts are of whole messages."""

    received: int
    """Messages taken from libzmq."""

    sent: int
    """Messages that libzmq has taken."""

    dropped: Mapping[str, int]
    """Messages given up, by reason, which is ``"newest"`` or ``"oldest"`` (overflow policy),
    ``"refused"`` (libzmq reported an error for a queued message), ``"killed"`` (their handler was
    killed by `Source.stop`), ``"unsent"`` or ``"unhandled"`` (in hand when the source closed)."""

    errors: int
    """Exceptions reported to ``on_error`` or to ``hub.handle_error``."""

    wakeups: int
    """Edges of the ``ZMQ_FD`` that woke the hub for this source."""

    budget_stops: int
    """Turns that ended at ``max_messages`` or ``max_seconds`` with more to do."""

    in_hand: int
    """Messages taken from libzmq that no handler has begun with."""

    outbox_depth: int
    """Messages queued for sending now."""

    outbox_peak: int
    """The most messages that were ever queued; on a ROUTER or STREAM, for one peer."""

    oldest_queued_age: float
    """Seconds since the oldest queued message was queued; 0.0 if none is."""


def snapshot(core: Core) -> Stats:
    """Read the counters of a source."""
    return Stats(
        received=core.transfer.received,
        sent=core.transfer.sent,
        dropped=dict(core.outbox.dropped),
        errors=core.errors,
        wakeups=core.readiness.edges,
        budget_stops=core.turns + core.outflow.budget_stops,
        in_hand=len(core.in_hand),
        outbox_depth=core.outbox.depth,
        outbox_peak=core.outbox.peak,
        oldest_queued_age=core.outbox.oldest_age(),
    )
