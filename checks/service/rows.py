"""Each row of the table: what is done to requests, and what became of them."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gevent
import zmq
from gevent.event import AsyncResult

from gzmqsource.errors import RequestTimeout, SourceClosed
from gzmqsource.proxy import Proxy
from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester
from service.parts import Cut, Load, Log, block_hub, free_endpoint, processes


@dataclass
class Row:
    """A line of the table."""

    name: str
    goal: str
    seen: str
    is_right: bool


def restarts(servers: int, runs: int, blocked: float = 0.0) -> Iterator[Row]:
    """Restart each server so many times under load, without a retry."""
    endpoints, log = [free_endpoint() for _ in range(servers)], Log()
    with processes() as start, Requester.open(endpoints) as requester:
        running = [start("server", log.path, "--bind", each) for each in endpoints]
        load = Load(lambda number: requester.request([b"%d" % number], timeout=20), 50)
        blocking = gevent.spawn(_block_now_and_then, blocked) if blocked else None
        for turn in range(runs):
            _wait_for_more(load)
            running[turn % servers].end()
            running[turn % servers] = start("server", log.path, "--bind", endpoints[turn % servers])
        _wait_for_more(load)
        if blocking is not None:
            blocking.kill()
        load.end()
    name = f"{servers} server{'s' * (servers > 1)} restarted {runs} times under load"
    if blocked:
        name += f", the asker blocked for {blocked * 1000:.0f} ms now and then"
    yield counted(name, load, log)


def proxied(runs: int) -> Iterator[Row]:
    """Stop and start one of two workers behind libzmq's proxy, under load."""
    front, back, log = free_endpoint(), free_endpoint(), Log()
    context: zmq.Context[Any] = zmq.Context.instance()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    router.bind(front)
    dealer.bind(back)
    with processes() as start, Proxy(router, dealer):
        workers = [start("server", log.path, "--connect", back) for _ in range(2)]
        with Requester.open(front) as requester:
            load = Load(lambda number: requester.request([b"%d" % number], timeout=20), 50)
            for turn in range(runs):
                _wait_for_more(load)
                workers[turn % 2].end()
                workers[turn % 2] = start("server", log.path, "--connect", back)
            _wait_for_more(load)
            load.end()
    yield counted(f"one of two workers behind a Proxy restarted {runs} times", load, log)


def stuck(how: str) -> Iterator[Row]:
    """Have the hub of one of two servers stand still for 4 s."""
    endpoints, log = [free_endpoint() for _ in range(2)], Log()
    with processes() as start, Requester.open(endpoints) as requester:
        servers = [
            start("server", log.path, "--bind", each, "--seconds", 0.05) for each in endpoints
        ]
        load = Load(lambda number: requester.request([b"%d" % number], timeout=20), 20)
        wait_until(lambda: load.answered > 100)
        began = time.monotonic()
        servers[0].send(signal.SIGSTOP if how == "SIGSTOP" else signal.SIGUSR1)
        wait_until(lambda: load.lost or time.monotonic() - began > 6, timeout=10)
        told = time.monotonic() - began
        gevent.sleep(0.5)
        lost_at_first = load.lost
        gevent.sleep(1.5)
        lost_later = load.lost - lost_at_first
        servers[0].send(signal.SIGCONT)
        load.end()
    others = load.lost - _told(load)
    yield Row(
        f"the hub of one of two servers stands still ({how})",
        "told within 1.5 s, not asked meanwhile",
        f"told after {told:.2f} s, {lost_at_first} lost, {lost_later} later, {others} otherwise"
        + (f" {dict(load.failed)}" if others or lost_later else ""),
        told < 1.5 and lost_at_first > 0 and lost_later == 0 and others == 0,
    )


def leaving_callers() -> Iterator[Row]:
    """Let callers leave while 20 handlers of theirs run."""
    yield _leaving("killed caller", 0.1)
    yield _leaving("Requester.close", 0.1)
    yield _leaving("killed client process", 1.5)


def _leaving(how: str, limit: float) -> Row:
    endpoint, log = free_endpoint(), Log()
    with processes() as start:
        start("server", log.path, "--bind", endpoint, "--seconds", 30)
        if how == "killed client process":
            client = start("client", endpoint, 20)
            left = _when_all_run(log)
            client.end(signal.SIGKILL)
        else:
            requester = Requester.open(endpoint)
            callers = [gevent.spawn(_ask_quietly, requester, number) for number in range(20)]
            left = _when_all_run(log)
            if how == "killed caller":
                gevent.killall(callers)
            else:
                requester.close()
        wait_until(lambda: len(log.count("cancelled")) == 20 or time.time() - left > 5, timeout=10)
        if how == "killed caller":
            requester.close()
    after = max(log.times("cancelled"), default=float("inf")) - left
    count = len(log.count("cancelled"))
    return Row(
        f"{how}, 20 handlers run",
        f"20 stopped within {limit} s",
        f"{count} after {after:.3f} s",
        count == 20 and after < limit,
    )


def _when_all_run(log: Log) -> float:
    """Wait until 20 handlers run, and return the time."""
    wait_until(lambda: len(log.count("began")) == 20, timeout=10)
    gevent.sleep(0.5)
    return time.time()


def _ask_quietly(requester: Requester, number: int) -> None:
    with contextlib.suppress(SourceClosed):
        requester.request([b"%d" % number])


def overload(seconds: float) -> Iterator[Row]:
    """Ask four times as much as a server can do."""
    endpoint, log = free_endpoint(), Log()
    slots, duration, timeout = 8, 0.1, 0.5
    capacity = slots / duration
    with processes() as start, Requester.open(endpoint) as requester:
        start("server", log.path, "--bind", endpoint, "--seconds", duration, "--spawn", slots)
        requester.request([b"warm"], timeout=5)
        before = len(log.times("ended"))
        results: list[AsyncResult[Any]] = []
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            results.append(requester.submit([b"%d" % len(results)], timeout=timeout))
            gevent.sleep(1 / (4 * capacity))
        gevent.wait(results)
        executed = len(log.times("ended")) + len(log.times("cancelled")) - before
    useful = sum(result.successful() for result in results)
    yield Row(
        f"4 times as much as it can do, for {seconds:.0f} s",
        "90 % useful, goodput 0.9 of capacity",
        f"{100 * useful / max(executed, 1):.0f} % useful, {useful / seconds / capacity:.2f}",
        useful >= 0.9 * executed and useful / seconds >= 0.9 * capacity,
    )


def retried(cut: bool) -> Iterator[Row]:
    """Ask two slow servers with retries; one connection may be cut."""
    endpoints, log = [free_endpoint() for _ in range(2)], Log()
    with (
        processes() as start,
        Cut(endpoints[0]) as way,
        Requester.open([way.endpoint if cut else endpoints[0], endpoints[1]]) as requester,
    ):
        for each in endpoints:
            start("server", log.path, "--bind", each, "--seconds", 1.0)
        _wait_for_all(requester, 2)
        results = [
            requester.submit([b"%d" % number], timeout=10, retries=3) for number in range(50)
        ]
        wait_until(lambda: len(log.count("began")) == 50, timeout=10)
        if cut:
            way.cut()
        gevent.wait(results)
    executions = sum(log.count("began").values())
    answered = sum(result.successful() for result in results)
    what = "a connection is cut" if cut else "both slow"
    yield Row(
        f"50 requests with retries over two servers, {what}",
        "50 executions",
        f"{executions} executions, {answered} answered",
        executions == answered == 50,
    )


def absent() -> Iterator[Row]:
    """Have one server alive among others that are not there."""
    for number in (1, 100):
        endpoint, log = free_endpoint(), Log()
        endpoints = [endpoint, *(free_endpoint() for _ in range(number))]
        with processes() as start, Requester.open(endpoints) as requester:
            start("server", log.path, "--bind", endpoint)
            failed = 0
            for asked in range(200):
                try:
                    requester.request([b"%d" % asked], timeout=2)
                except RequestTimeout:
                    failed += 1
            gevent.sleep(6 + number / 5)  # their pauses have become long: 6 a second end
            cpu = time.process_time()
            gevent.sleep(3)
            used = (time.process_time() - cpu) / 3
        yield Row(
            f"one server alive and {number} absent",
            "0 time out, CPU below 2 % of a core",
            f"{failed} of 200 timed out, {100 * used:.2f} %",
            failed == 0 and used < 0.02,
        )


def late_hub() -> Iterator[Row]:
    """Block the asker's hub for longer than the timeout, while the replies come."""
    endpoint, log = free_endpoint(), Log()
    with processes() as start, Requester.open(endpoint) as requester:
        start("server", log.path, "--bind", endpoint)
        requester.request([b"warm"], timeout=5)
        results = [requester.submit([b"%d" % number], timeout=0.5) for number in range(3000)]
        gevent.sleep(0)
        block_hub(1.5)
        gevent.wait(results)
    failed = sum(not result.successful() for result in results)
    yield Row(
        "the asker's hub blocked for 1.5 s, timeout 0.5 s, 3,000 replies there",
        "0 time out",
        f"{failed} of 3000",
        failed == 0,
    )


def flood(seconds: float) -> Iterator[Row]:
    """Flood a living server with handlers of 0.5 s: nobody may be told that it is dead."""
    log = Log()
    endpoint = free_endpoint()
    with processes() as start, Requester.open(endpoint) as requester:
        start("server", log.path, "--bind", endpoint, "--seconds", 0.5, "--spawn", 1000)
        load = Load(lambda number: requester.request([b"%d" % number], timeout=60), 2000)
        gevent.sleep(seconds)
        load.end()
    lost = _told(load)
    yield Row(
        f"2,000 callers at a time, handlers of 0.5 s, for {seconds:.0f} s",
        "no false alarm",
        f"{lost} of {load.answered} told that it is lost; {dict(load.failed)}",
        lost == 0,
    )


def _told(load: Load) -> int:
    """Give how many callers were told that their server is lost."""
    return sum(count for text, count in load.failed.items() if text.startswith("PeerLost"))


def counted(name: str, load: Load, log: Log) -> Row:
    """Say how many requests were lost, and how many executed twice: none may be."""
    failed = f" {dict(load.failed)}" if load.failed else ""
    return Row(
        name,
        "0 lost, 0 twice",
        f"{load.lost} lost, {log.twice()} twice of {load.answered + load.lost}{failed}",
        load.lost == 0 and log.twice() == 0 and load.answered > 100,
    )


def _block_now_and_then(seconds: float) -> None:
    while True:
        gevent.sleep(0.1)
        block_hub(seconds)


def _wait_for_more(load: Load) -> None:
    """Wait until the load goes on for a while, and has its replies."""
    gevent.sleep(0.2)
    answered = load.answered
    wait_until(lambda: load.answered > answered + 100, timeout=20)


def _wait_for_all(requester: Requester, count: int) -> None:
    wait_until(
        lambda: sum(each.state == "live" for each in requester.endpoints()) == count, timeout=10
    )
