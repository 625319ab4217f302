"""Sharing requests out to workers in other processes, by who is free.

A `Broker` replies to requests as a `gzmqsource.workers.Responder` does. Its workers have joined it,
see `gzmqsource.workers.Responder.join`, and say how many requests they take at a time. What they
cannot take waits in the broker, not at one of them.
"""

from gzmqsource.broker._stats import BrokerStats, WorkerStats
from gzmqsource.broker.broker import Broker

__all__ = ["Broker", "BrokerStats", "WorkerStats"]
