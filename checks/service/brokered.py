"""The rows about a broker: what is done to it and its workers, and what became of requests."""

from __future__ import annotations

import bisect
import contextlib
import pathlib
import resource
import signal
import time
from collections.abc import Iterator
from functools import partial

import gevent
from gevent.pool import Pool
from growth import steady_growth

from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester
from service.parts import Load, Log, Process, free_endpoint, processes
from service.rows import Row, counted

#: How many workers there are, how many requests each takes at a time, and how many are asked.
WORKERS, SLOTS, GREENLETS = 4, 4, 24

#: Seconds of silence after which a hub counts as dead: so many that none does which has to wait for
#: its processor; and where one stands still.
DEAD_AFTER, SOON = 4.0, 1.0

#: Seconds within which is told at once what was lost.
AT_ONCE = 0.5

#: How the hub of a worker comes to stand still, and by which signal.
STUCK = {"SIGSTOP": signal.SIGSTOP, "a loop that never yields": signal.SIGUSR1}


class Site:
    """Brokers and their workers, in processes of their own, and callers in this one.

    Parameters
    ----------
    brokers : int
        How many there are; each worker joins them all.
    redeliver : bool
        What they do with the requests of a worker that is lost.
    seconds : float
        How long a handler waits.
    dead_after : float
        That of brokers and workers.
    """

    def __init__(
        self,
        brokers: int = 1,
        redeliver: bool = False,
        seconds: float = 0.02,
        dead_after: float = DEAD_AFTER,
    ) -> None:
        self.log = Log()
        self.fronts, self._backs = ([free_endpoint() for _ in range(brokers)] for _ in range(2))
        self._redeliver, self._seconds, self._dead_after = redeliver, seconds, dead_after
        #: When a process was killed, in seconds of the clock on the wall, and which.
        self.kills: list[float] = []
        self.killed: set[int] = set()

    def start_broker(self, index: int) -> Process:
        options = ["--dead-after", self._dead_after, *["--redeliver"] * self._redeliver]
        return self._start("broker", self.fronts[index], self._backs[index], *options)

    def start_worker(self) -> Process:
        options = ["--seconds", self._seconds, "--spawn", SLOTS, "--dead-after", self._dead_after]
        return self._start("server", self.log.path, *options, "--join", *self._backs)

    def begin(self) -> Load:
        """Begin to ask, without retries."""
        load = Load(lambda number: self.requester.request([b"%d" % number], timeout=20), GREENLETS)
        wait_until(lambda: load.answered > 100, timeout=10)
        return load

    def kill(self, process: Process) -> None:
        """Kill a process, and note that."""
        self.kills.append(time.time())
        self.killed.add(process.pid)
        process.end(signal.SIGKILL)

    def is_asked(self, index: int) -> bool:
        """Return whether a broker has requests."""
        return self.requester.endpoints()[index].outstanding > 0

    def slowest_news(self, load: Load) -> float:
        """Give the most seconds from a kill to the failure of a request."""
        since = [
            failed - self.kills[bisect.bisect(self.kills, failed) - 1]
            for failed in load.failed_at.values()
        ]
        return max(since, default=0.0)

    def of_others(self, load: Load, pids: set[int]) -> int:
        """Give how many requests have failed that began in other processes than these."""
        begun = self.log.begun_by()
        return sum(not begun.get(b"%d" % number, set()) <= pids for number in load.failed_at)

    def __enter__(self) -> Site:
        with contextlib.ExitStack() as made:
            self._start = made.enter_context(processes())
            self.brokers = [self.start_broker(index) for index in range(len(self.fronts))]
            self.workers = Pool(WORKERS).map(lambda _: self.start_worker(), range(WORKERS))
            self.requester = made.enter_context(Requester.open(self.fronts, dead_after=DEAD_AFTER))
            self._made = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()


def stuck(how: str, redeliver: bool) -> Iterator[Row]:
    """Have the hub of one of four workers stand still."""
    limit = 1.25 * SOON
    with Site(redeliver=redeliver, seconds=0.05, dead_after=SOON) as site:
        load, worker = site.begin(), site.workers[0]
        site.kills.append(time.time())
        worker.send(STUCK[how])
        gevent.sleep(3)
        worker.send(signal.SIGCONT)
        gevent.sleep(2)  # it is back
        load.end()
    others = site.of_others(load, {worker.pid})
    after = site.slowest_news(load)
    least, most = (0, 0) if redeliver else (1, SLOTS)
    yield Row(
        f"one of {WORKERS} workers stands still ({how})" + ", redelivered" * redeliver,
        "0 lost" if redeliver else f"{SLOTS} lost at most, told within {limit} s",
        f"{load.lost} lost, {others} of others, of {load.answered + load.lost}"
        + (f"; told after {after:.2f} s; {dict(load.failed)}" if load.lost else ""),
        least <= load.lost <= most and others == 0 and after <= limit,
    )


def killed(runs: int, redeliver: bool) -> Iterator[Row]:
    """Kill one worker after another, and start another one for it."""
    with Site(redeliver=redeliver) as site:
        load = site.begin()
        for turn in range(runs):
            gevent.sleep(0.2)
            site.kill(site.workers[turn % WORKERS])
            site.workers[turn % WORKERS] = site.start_worker()
        gevent.sleep(0.5)
        load.end()
    name = f"{runs} times a worker killed, and replaced"
    if redeliver:
        yield Row(
            f"{name}, redelivered",
            "all answered",
            f"{load.lost} lost of {load.answered + load.lost} {dict(load.failed)}",
            load.lost == 0,
        )
    else:
        yield _only_of_the_killed(name, site, load)


def rolled(runs: int) -> Iterator[Row]:
    """Have one worker after another leave, and start another one for it."""
    with Site() as site:
        load = site.begin()
        for turn in range(runs):
            gevent.sleep(0.2)
            site.workers[turn % WORKERS].end()
            site.workers[turn % WORKERS] = site.start_worker()
        gevent.sleep(0.2)
        load.end()
    yield counted(f"one of {WORKERS} workers rolled, {runs} times", load, site.log)


def restarts(runs: int) -> Iterator[Row]:
    """Stop the broker under load, and start it again at the same endpoints."""
    with Site() as site:
        load = site.begin()
        for _ in range(runs):
            site.brokers[0].end()
            site.brokers[0] = site.start_broker(0)
            _until_more(load)
        load.end()
    yield counted(f"the broker restarted {runs} times", load, site.log)


def killed_brokers(runs: int) -> Iterator[Row]:
    """Kill one of two brokers after the other, and start it again."""
    outstanding = 0
    with Site(brokers=2) as site:
        load = site.begin()
        for turn in range(runs):
            index = turn % 2
            outstanding += site.requester.endpoints()[index].outstanding
            site.kill(site.brokers[index])
            _until_more(load)
            site.brokers[index] = site.start_broker(index)
            wait_until(partial(site.is_asked, index), timeout=20)
            _until_more(load)
        load.end()
    after, twice = site.slowest_news(load), site.log.twice()
    yield Row(
        f"{runs} times one of two brokers killed, and started again",
        f"only what it had, told within {AT_ONCE} s; 0 twice",
        f"{load.lost} lost of {outstanding} that they had, told after {after:.2f} s; "
        f"{load.answered} answered, {twice} twice",
        load.lost <= outstanding and after <= AT_ONCE and not twice,
    )


def come_and_go(runs: int) -> Iterator[Row]:
    """Have workers join, leave and be killed, while very many requests are asked."""
    requests, rounds = 5000 * runs, 5 * runs // 2
    seen: list[tuple[int, int]] = []
    with Site(seconds=0.002) as site:
        load = site.begin()
        looking = gevent.spawn(_look_at_memory, site.brokers[0].pid, load, seen)
        for turn in range(rounds):
            if turn % 2:
                site.kill(site.workers[turn % WORKERS])
            else:
                site.workers[turn % WORKERS].end()
            site.workers[turn % WORKERS] = site.start_worker()
            wait_until(partial(_has_answered, load, (turn + 1) * requests // rounds), timeout=60)
        looking.kill()
        load.end()
    row = _only_of_the_killed(
        f"{requests:,} requests while {rounds} workers come and go", site, load
    )
    answered, memory = zip(*seen, strict=True)
    growth = steady_growth(memory, answered)
    row.goal += "; memory flat"
    row.seen += f"; {memory[0] >> 10:,} KB, then {memory[-1] >> 10:,}, steadily {growth:.0f} B each"
    row.is_right = row.is_right and growth < 4
    yield row


def _until_more(load: Load) -> None:
    """Wait until a hundred more have their replies."""
    wait_until(partial(_has_answered, load, load.answered + 100), timeout=20)


def _has_answered(load: Load, count: int) -> bool:
    return load.answered >= count


def _only_of_the_killed(name: str, site: Site, load: Load) -> Row:
    """Say what was lost with workers that were killed: only what they had may be."""
    others, after, twice = (
        site.of_others(load, site.killed),
        site.slowest_news(load),
        site.log.twice(),
    )
    most = SLOTS * len(site.kills)
    return Row(
        name,
        f"only what they had, {most} at most; told within {AT_ONCE} s; 0 twice",
        f"{load.lost} lost, {others} of others, {twice} twice, of {load.answered + load.lost}; "
        f"told after {after:.2f} s",
        load.lost <= most and not others and after <= AT_ONCE and not twice,
    )


def _look_at_memory(pid: int, load: Load, seen: list[tuple[int, int]]) -> None:
    """Note, now and then, how many requests were answered, and what a process has of the memory."""
    while True:
        pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
        seen.append((load.answered, int(pages) * resource.getpagesize()))
        gevent.sleep(0.1)
