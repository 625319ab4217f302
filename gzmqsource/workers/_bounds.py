"""The bounds of a responder or a broker that are attributes, of the class or of one of them."""

from __future__ import annotations


class Bounds:
    """Attributes that may be set at any time."""

    #: The most bytes of requests that wait; each frame counts 64 more. One request may exceed it;
    #: with requests of plain peers, that is the rest of a batch, which was read already: about
    #: `gzmqsource.Source.max_bytes`, 128 KiB, and one request.
    max_waiting_bytes = 1 << 24

    #: How many peers that speak the protocol are remembered, in addition to those that have
    #: requests here. Each takes 0.5 KB, behind proxies at most 5 KB. A forgotten peer is not
    #: notified that the responder stops.
    max_askers = 10_000

    #: The most replies that are kept for requests that may be sent again.
    max_kept = 10_000

    #: The most bytes of these.
    max_kept_bytes = 1 << 24
