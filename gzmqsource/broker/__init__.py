"""Distributing requests to workers in other processes that are free.

A `Broker` replies to requests as a `gzmqsource.workers.Responder` does. Its workers have joined it,
see `gzmqsource.workers.Responder.join`, and report how many requests they take at a time. Further
requests wait in the broker, not at a worker.
"""

from gzmqsource.broker._stats import BrokerStats, WorkerStats
from gzmqsource.broker.broker import Broker

__all__ = ["Broker", "BrokerStats", "WorkerStats"]
