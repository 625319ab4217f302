"""The numbers of all sources of this process, for Prometheus; this needs the extra ``metrics``."""

from __future__ import annotations

import operator
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gevent
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gzmqsource._base.oneshot import allocate_lock
from gzmqsource._source import registry as every_source
from gzmqsource._source.registry import Registered
from gzmqsource._source.stats import Stats

__all__ = ["LABELS", "SourceCollector"]

#: The labels of each number: the source's class, its socket's type, and its endpoint. The numbers
#: of sources with equal labels are added up.
LABELS = ("source", "type", "endpoint")

_Labels = tuple[str, ...]

_COUNTERS = {
    "received": ("received_messages", "Messages taken from libzmq."),
    "sent": ("sent_messages", "Messages that libzmq has taken."),
    "errors": ("errors", "Exceptions of handlers, and messages that libzmq refused."),
    "wakeups": ("wakeups", "Edges of the ZMQ_FD that woke the hub."),
    "budget_stops": ("budget_stops", "Budgets that were exhausted with more to do."),
    "dropped": ("dropped_messages", "Messages given up."),
}

#: Gauges, and how those of several sources are combined.
_GAUGES: dict[str, tuple[str, str, Callable[[Any, Any], Any]]] = {
    "sources": ("sources", "Sources that are open.", operator.add),
    "in_hand": (
        "in_hand_messages",
        "Messages read with which no handler was called yet.",
        operator.add,
    ),
    "outbox_depth": ("outbox_messages", "Messages queued for sending.", operator.add),
    "outbox_bytes": ("outbox_bytes", "Bytes queued for sending.", operator.add),
    "outbox_peak": (
        "outbox_peak_messages",
        "The most messages that were ever queued at once.",
        max,
    ),
    "oldest_queued_age": (
        "outbox_oldest_seconds",
        "Seconds since the oldest queued message was queued.",
        max,
    ),
}


class SourceCollector(Collector):
    """Collects the numbers of all sources, and measures handlers and the hub.

    The counts of closed sources are kept. A handler is timed if its source is started after the
    collector was made, which costs 0.2 us for each message. A process has one collector; without
    one nothing is measured.

    Parameters
    ----------
    registry : prometheus_client.CollectorRegistry
        The registry that it registers with.
    handler_buckets : sequence of float
        The upper bounds of the histogram of the time that handlers take, in seconds.
    lateness_buckets : sequence of float
        The upper bounds of the histogram of how late timers of this hub are, in seconds.

    Raises
    ------
    ValueError
        The process has another collector.
    """

    #: Seconds between two measurements of how late this hub is.
    lateness_interval = 0.05

    #: The most closed sources that are kept for the next collection.
    max_ended = 1000

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        handler_buckets: Sequence[float] = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
        lateness_buckets: Sequence[float] = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
    ) -> None:
        if every_source.observer is not None:
            raise ValueError("the sources of this process have a SourceCollector already")
        self._registry = registry
        self._handler_buckets = sorted(handler_buckets)
        self._handlers: dict[_Labels, _Histogram] = {}
        self._lateness = _Histogram(sorted(lateness_buckets))
        # A collection may run in another thread while sources close in this one.
        self._folding = allocate_lock()
        self._ended: list[Registered] = []
        self._totals: Counter[tuple[str, _Labels]] = Counter()
        registry.register(self)
        every_source.observer = self
        self._ticked = time.perf_counter()
        self._ticker = gevent.get_hub().loop.timer(
            self.lateness_interval, self.lateness_interval, ref=False
        )
        self._ticker.start(self._tick)

    def close(self) -> None:
        """Stop collecting and measuring; closing again does nothing."""
        if every_source.observer is self:
            every_source.observer = None
            self._ticker.close()
            self._registry.unregister(self)

    def instrument(
        self, source: Registered, handle: Callable[[Any], object]
    ) -> Callable[[Any], object]:
        """Return a handler that is timed; a source that starts calls this."""
        labels = _labels(source)
        histogram = self._handlers.setdefault(labels, _Histogram(self._handler_buckets))
        observe, clock = histogram.observe, time.perf_counter

        def timed(message: Any) -> object:
            started = clock()
            try:
                return handle(message)
            finally:
                observe(clock() - started)

        return timed

    def closing(self, source: Registered) -> None:
        """Keep the counts of a source; a source that closes calls this."""
        self._ended.append(source)
        # Not during a collection, which folds itself: it may be one of this thread.
        if len(self._ended) > self.max_ended and self._folding.acquire(False):
            try:
                self._fold(len(self._ended))
            finally:
                self._folding.release()

    def collect(self) -> Iterable[Metric]:
        """Return the current numbers; any thread may call this."""
        with self._folding:
            # In this order: a source that closes meanwhile is in one of the two, or in both.
            sources = [
                source for ref in every_source.live.valuerefs() if (source := ref()) is not None
            ]
            live = {id(source): source for source in sources if not source.closed}
            ended = {id(source): source for source in list(self._ended)}
            counters = self._totals.copy()
            for source in (live | ended).values():
                _count(source.snapshot(), _labels(source), counters)
            self._fold(len(ended))
        gauges: dict[tuple[str, _Labels], float] = {}
        for source in live.values():
            _gauge(source.snapshot(), _labels(source), gauges)
        return [
            *_families(CounterMetricFamily, _COUNTERS, counters),
            *_families(GaugeMetricFamily, _GAUGES, gauges),
            _family("handler_seconds", "Time that a handler took.", LABELS, self._handlers),
            _family("hub_lateness_seconds", "How late a timer was.", (), {(): self._lateness}),
        ]

    def __repr__(self) -> str:
        state = "open" if every_source.observer is self else "closed"
        return f"<{type(self).__name__} {state}>"

    def _fold(self, ended: int) -> None:
        for source in self._ended[:ended]:
            _count(source.snapshot(), _labels(source), self._totals)
        del self._ended[:ended]

    def _tick(self) -> None:
        now = time.perf_counter()
        self._lateness.observe(max(0.0, now - self._ticked - self.lateness_interval))
        self._ticked = now


class _Histogram:
    """A histogram that counts in 0.2 us; prometheus_client's own takes 0.7 us."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return the bounds with the counts up to them, as Prometheus expects them."""
        names = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        counts = list(self.counts)
        return [(name, sum(counts[: index + 1])) for index, name in enumerate(names)]


def _labels(source: Registered) -> _Labels:
    return source.name, source.kind.name, source.endpoint


def _count(stats: Stats, labels: _Labels, counters: Counter[tuple[str, _Labels]]) -> None:
    for field in _COUNTERS.keys() - {"dropped"}:
        counters[field, labels] += getattr(stats, field)
    for reason, count in stats.dropped.items():
        counters["dropped", (*labels, reason)] += count


def _gauge(stats: Stats, labels: _Labels, gauges: dict[tuple[str, _Labels], float]) -> None:
    for field, (_, _, combine) in _GAUGES.items():
        value = 1 if field == "sources" else getattr(stats, field)
        gauges[field, labels] = combine(gauges.get((field, labels), 0), value)


def _families(
    kind: Any, fields: Mapping[str, Any], values: Mapping[tuple[str, _Labels], float]
) -> Iterable[Metric]:
    families = {
        field: kind(
            f"gzmqsource_{name}",
            text,
            labels=(*LABELS, "reason") if field == "dropped" else LABELS,
        )
        for field, (name, text, *_) in fields.items()
    }
    for (field, labels), value in values.items():
        families[field].add_metric(labels, value)
    return families.values()


def _family(
    name: str, text: str, labels: Sequence[str], histograms: dict[_Labels, _Histogram]
) -> Metric:
    family = HistogramMetricFamily(f"gzmqsource_{name}", text, labels=labels)
    for values, histogram in list(histograms.items()):
        family.add_metric(values, histogram.buckets(), histogram.total)
    return family
