"""The numbers of a server, and of its workers, in one answer; this needs the extra ``metrics``."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import gevent
import zmq
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from gzmqsource import __version__, transfer
from gzmqsource.cli._reloads import failed
from gzmqsource.metrics import SourceCollector

#: Returns the exposition of each worker by its name, or None of one that has not answered within
#: so many seconds.
Workers = Callable[[float], Mapping[str, str | None]]


class Exposition(Collector):
    """Collects the numbers of this process, and joins those of its workers to them.

    Parameters
    ----------
    not_ready : callable
        Returns why the server is not ready, or None if it is.
    workers : callable or None
        Asks the workers; called with the most seconds that this may take.
    """

    #: The most seconds to wait for workers.
    patience = 0.5

    def __init__(
        self, not_ready: Callable[[], str | None] = lambda: None, workers: Workers | None = None
    ) -> None:
        self._not_ready = not_ready
        self._workers = workers
        self._missed: Counter[str] = Counter()
        self._sources = SourceCollector()
        REGISTRY.register(self)

    def __call__(self) -> bytes:
        """Return all numbers as Prometheus reads them."""
        if self._workers is None:
            return generate_latest()
        answers = self._workers(self.patience)
        # A worker that is gone for good is forgotten.
        self._missed = Counter(
            {name: self._missed[name] + (text is None) for name, text in answers.items()}
        )
        texts = {name: text for name, text in answers.items() if text is not None}
        # 10 us a line: those of many workers would keep the hub from its work.
        merge = gevent.get_hub().threadpool.apply
        text: bytes = merge(_merged, (generate_latest().decode(), texts))
        return text

    def collect(self) -> Iterator[Metric]:
        """Return the numbers of the process that are not of a source."""
        yield InfoMetricFamily(
            "gzmqsource_build",
            "The versions that run.",
            {
                "version": __version__,
                "transfer": transfer.backend,
                "python": platform.python_version(),
                "gevent": gevent.__version__,
                "pyzmq": zmq.pyzmq_version(),
                "libzmq": zmq.zmq_version(),
            },
        )
        yield GaugeMetricFamily("gzmqsource_pid", "The id of the process.", os.getpid())
        is_ready = self._not_ready() is None
        yield GaugeMetricFamily("gzmqsource_ready", "Whether the server is ready.", is_ready)
        reloads = GaugeMetricFamily(
            "gzmqsource_reload_failed",
            "Whether the last reload failed, after SIGHUP; absent before the first.",
            labels=["what"],
        )
        for what, has_failed in failed.items():
            reloads.add_metric([what], has_failed)
        yield reloads
        if self._workers is not None:
            missed = CounterMetricFamily(
                "gzmqsource_worker_metrics_missed",
                "Answers that lack the numbers of a worker, because they came too late.",
                labels=["worker"],
            )
            for name, count in self._missed.items():
                missed.add_metric([name], count)
            yield missed

    def close(self) -> None:
        """Stop collecting."""
        REGISTRY.unregister(self)
        self._sources.close()


def _merged(own: str, workers: Mapping[str, str]) -> bytes:
    """Return one exposition of several, where each sample of a worker has its name as a label."""
    return generate_latest(_Families(own, workers))


class _Families(Collector):
    """Families by name, each with the samples of all processes that have it."""

    def __init__(self, own: str, workers: Mapping[str, str]) -> None:
        self._families = {each.name: each for each in text_string_to_metric_families(own)}
        for worker, text in workers.items():
            for family in text_string_to_metric_families(text):
                self._add(family, worker)

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families.values()

    def _add(self, family: Metric, worker: str) -> None:
        whole = self._families.setdefault(
            family.name, Metric(family.name, family.documentation, family.type)
        )
        if whole.type != family.type:
            return  # of other code, during a rolling reload: one answer has one type for each name
        for sample in family.samples:
            labels = {
                # As Prometheus names a label that is in its way.
                "exported_worker" if name == "worker" else name: value
                for name, value in sample.labels.items()
            }
            whole.samples.append(sample._replace(labels={**labels, "worker": worker}))
