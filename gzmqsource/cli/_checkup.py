"""What is wrong with a running server, from what it answers over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gzmqsource.cli._reading import Process, Reading, address_of, get, milliseconds, quantile, read

#: Seconds of lateness of a hub that are too many, if more than one tick in a hundred has them; and
#: of how many ticks at least: the first ones of a server are late, and 1000 take it 50 seconds.
_TOO_LATE, _TICKS = 0.1, 1000

#: The names of what runs, as `doctor` writes them for this process.
_BUILD = ("python", "gevent", "pyzmq", "libzmq", "transfer")


class Checkup:
    """What a server says of itself.

    Parameters
    ----------
    url : str
        Its port on this machine, or an URL.

    Raises
    ------
    click.ClickException
        It does not answer, or not with metrics.
    """

    def __init__(self, url: str) -> None:
        self._url = address_of(url, "/metrics")
        base, _, page = self._url.rpartition("/")
        # Another program with a SourceCollector has no other pages.
        self._is_ours = page == "metrics"
        self._health = get(f"{base}/healthz") if self._is_ours else (200, "")
        self._readiness = get(f"{base}/readyz") if self._is_ours else (200, "")
        self._reading: Reading = read(self._url)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Return what there is to know, by name."""
        main = self._reading.main
        yield "server", self._url
        yield "gzmqsource", _versions(self._reading, "version") or "of no known version"
        if "pid" in main.own:
            yield "pid", f"{main.own['pid']:.0f}"
        if "process_start_time_seconds" in main.own:
            yield "up for", _time(time.time() - main.own["process_start_time_seconds"])
        for name in _BUILD:
            versions = _versions(self._reading, name)
            if versions:
                yield name, versions
        workers = len(self._reading.processes) - 1
        if workers:
            ready = sum(each.own.get("ready") == 1 for each in self._workers())
            yield "workers", f"{workers}, {ready} of them ready"
        for name, process in sorted(self._reading.processes.items()):
            late = quantile({}, process.lateness, 0.99)
            if late is not None:
                text = milliseconds(late, process.lateness)
                yield f"hub{_of(name)}", f"99 % of its ticks {text} late"

    def warnings(self) -> Iterator[str]:
        """Return what is wrong."""
        for page, (status, text) in ("healthz", self._health), ("readyz", self._readiness):
            if status not in (200, 404):
                yield f"/{page} answers {status}: {text.strip()[:200]}"
        for name, process in sorted(self._reading.processes.items()):
            yield from _wrong_with(name, process)

    def _workers(self) -> list[Process]:
        return [process for name, process in self._reading.processes.items() if name]


def _wrong_with(name: str, process: Process) -> Iterator[str]:
    who = f"worker {name}: " if name else ""
    if name and process.own.get("ready") == 0:
        yield f"{who}it is not ready"
    missed = process.own.get("worker_metrics_missed_total", 0)
    if missed:
        yield f"{who}its numbers came too late, or not at all, {missed:.0f} times"
    late = quantile({}, process.lateness, 0.99)
    if late is not None and late > _TOO_LATE and max(process.lateness.values()) >= _TICKS:
        yield f"{who}the hub is late: {milliseconds(late, process.lateness)}, for 1 % of its ticks"
    for (kind, endpoint), reasons in sorted(process.drops.items()):
        counts = ", ".join(f"{count:.0f} {reason}" for reason, count in reasons.items() if count)
        if counts:
            yield f"{who}{kind} {endpoint} has dropped messages: {counts}"


def _versions(reading: Reading, name: str) -> str:
    """Return what all processes say; during a rolling upgrade there are two."""
    said = {process.build.get(name) for process in reading.processes.values()} - {None}
    return ", ".join(sorted(filter(None, said)))


def _of(name: str) -> str:
    return f" of {name}" if name else ""


def _time(seconds: float) -> str:
    """Return a time in the two largest units that it has."""
    if not 0 <= seconds < 1e10:
        return "an unknown time"  # the clock was set meanwhile, or this is no time
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), []
    for unit, size in units:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
