"""Problems of a running server, found in its pages over HTTP."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from gzmqsource.cli._reading import (
    NotMetrics,
    Process,
    Reading,
    address_of,
    get,
    milliseconds,
    quantile,
    read,
)
from gzmqsource.cli._report import Fact, Finding

#: Seconds of lateness of a hub that are too many, if more than one tick in a hundred has them; and
#: of how many ticks at least: the first ones of a server are late, and 1000 take it 50 seconds.
_TOO_LATE, _TICKS = 0.1, 1000

#: Linux has none above 1 << 22.
_MOST_PID = 1 << 31

#: The names of the versions, as `doctor` writes them for this process.
_BUILD = ("python", "gevent", "pyzmq", "libzmq", "transfer")

#: What to do about a hub that does not run.
_FREE_THE_HUB = (
    "find the call that blocks or computes: patch its module, yield with gevent.sleep(0), or use "
    "gevent's threadpool"
)

#: What to do about a reload that has failed.
_RELOAD_AGAIN = "the log of the server has the reason: correct it, and send SIGHUP again"

#: What to do about a page of something else.
_OTHER_PAGE = "use the port of `serve --metrics`, or the URL of a page with a SourceCollector"

#: What to do about dropped messages, by the reason.
_FIXES = {
    "newest": "raise --outbox, or have the peer read faster",
    "oldest": "raise --outbox, or have the peer read faster",
    "oversized": "raise --max-message or --max-frames, or send less in one message",
    "refused": "the log of the server has libzmq's reason",
    "killed": "raise --stop-timeout, or bound the handler by --timeout",
    "unsent": "raise --stop-timeout, or have the peer read faster",
    "unhandled": "raise --stop-timeout",
    "unread": "raise --stop-timeout",
}
_OTHER_DROP = "the log of the server has the reason"

#: The consequences of a failed reload, by what was reloaded.
_CONSEQUENCES = {
    "code": "the last reload failed: the old code is still in use",
    "keys": "reading --curve-clients again failed: the same keys as before are accepted",
}


class Checkup:
    """The pages of a server, and the problems that they show.

    Parameters
    ----------
    url : str
        Its port on this machine, or a URL.

    Raises
    ------
    click.ClickException
        It does not answer.
    """

    def __init__(self, url: str) -> None:
        self._url = address_of(url, "/metrics")
        base, _, page = self._url.rpartition("/")
        # Another program with a SourceCollector has no other pages.
        self._is_ours = page == "metrics"
        self._health = get(f"{base}/healthz") if self._is_ours else (200, "")
        self._readiness = get(f"{base}/readyz") if self._is_ours else (200, "")
        self._reading = Reading(0.0)
        #: The error of the page itself, if it is not one of gzmqsource's.
        self._wrong: str | None = None
        try:
            self._reading = read(self._url)
        except NotMetrics as error:
            self._wrong = error.message

    def facts(self) -> Iterator[Fact]:
        """Return the facts."""
        main = self._reading.main
        yield Fact("server", self._url, {"server": self._url})
        if self._wrong is not None:
            return
        version = _versions(self._reading, "version")
        about = {"gzmqsource": version or None}
        yield Fact("gzmqsource", version or "of an unknown version", about)
        if 0 < main.own.get("pid", math.nan) < _MOST_PID:
            yield Fact("pid", f"{main.own['pid']:.0f}", {"pid": round(main.own["pid"])})
        if "process_start_time_seconds" in main.own:
            seconds = time.time() - main.own["process_start_time_seconds"]
            value = round(seconds, 3) if math.isfinite(seconds) else None
            yield Fact("up for", _time(seconds), {"uptime_seconds": value})
        for name in _BUILD:
            versions = _versions(self._reading, name)
            if versions:
                yield Fact(name, versions, {name: versions})
        workers = self._workers()
        if workers:
            ready = sum(each.own.get("ready") == 1 for each in workers)
            counts = {"workers": len(workers), "workers_ready": ready}
            yield Fact("workers", f"{len(workers)}, {ready} of them ready", counts)
        yield from self._lateness()

    def findings(self) -> Iterator[Finding]:
        """Return the problems."""
        if self._wrong is not None:
            yield Finding("not-gzmqsource", self._wrong, _OTHER_PAGE)
            return
        for page, (status, text) in ("healthz", self._health), ("readyz", self._readiness):
            if status not in (200, 404):
                yield Finding(
                    "not-ready" if page == "readyz" else "not-healthy",
                    f"/{page} answers {status}: {text.strip()[:200]}",
                    "the log of the server has the reason, if it lasts",
                )
        for name, process in sorted(self._reading.processes.items()):
            yield from _wrong_with(name, process)

    def _lateness(self) -> Iterator[Fact]:
        late: dict[str, float | None] = {}
        for name, process in sorted(self._reading.processes.items()):
            bound = quantile({}, process.lateness, 0.99)
            if bound is not None:
                late[name or "main"] = bound if math.isfinite(bound) else None
                text = f"99 % of its ticks {milliseconds(bound, process.lateness)} late"
                yield Fact(f"hub{_of(name)}", text, {"hub_lateness_99_seconds": late})

    def _workers(self) -> list[Process]:
        return [process for name, process in self._reading.processes.items() if name]


def _wrong_with(name: str, process: Process) -> Iterator[Finding]:
    who, worker = (f"worker {name}: ", name) if name else ("", None)
    if name and process.own.get("ready") == 0:
        yield Finding(
            "worker-not-ready",
            f"{who}it is not ready",
            "the log of the server has the reason, if it lasts",
            worker,
        )
    for what, has_failed in sorted(process.reload_failed.items()):
        if has_failed:
            text = _CONSEQUENCES.get(what, f"the last reload of {what} failed")
            yield Finding("reload-failed", f"{who}{text}", _RELOAD_AGAIN, worker)
    missed = process.own.get("worker_metrics_missed_total", 0)
    if missed:
        yield Finding(
            "worker-silent",
            f"{who}its numbers came too late, or not at all, {missed:.0f} times",
            _FREE_THE_HUB,
            worker,
        )
    late = quantile({}, process.lateness, 0.99)
    if late is not None and late > _TOO_LATE and max(process.lateness.values()) >= _TICKS:
        text = milliseconds(late, process.lateness)
        yield Finding(
            "hub-late", f"{who}the hub is late: {text}, for 1 % of its ticks", _FREE_THE_HUB, worker
        )
    for (kind, endpoint), reasons in sorted(process.drops.items()):
        dropped = {reason: count for reason, count in reasons.items() if count}
        if dropped:
            counts = ", ".join(f"{count:.0f} {reason}" for reason, count in sorted(dropped.items()))
            fixes = {_FIXES.get(reason, _OTHER_DROP) for reason in dropped}
            yield Finding(
                "messages-dropped",
                f"{who}{kind} {endpoint} has dropped messages: {counts}",
                "; ".join(sorted(fixes)),
                worker,
            )


def _versions(reading: Reading, name: str) -> str:
    """Return the versions that all processes report; during a rolling upgrade there are two."""
    said = {process.build.get(name) for process in reading.processes.values()} - {None}
    return ", ".join(sorted(filter(None, said)))


def _of(name: str) -> str:
    return f" of {name}" if name else ""


def _time(seconds: float) -> str:
    """Return a time in the two largest units that it has."""
    if not 0 <= seconds < 1e10:
        return "an unknown time"  # the clock was set meanwhile, or this is not a time
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), []
    for unit, size in units:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
