"""Jobs for all cores and hosts: a broker, workers that join it, and a client with urgent jobs.

Each is a process of its own, in any order, as many workers as there are cores::

    python worker_pool.py broker tcp://127.0.0.1:5555 tcp://127.0.0.1:5556
    python worker_pool.py worker tcp://127.0.0.1:5556
    python worker_pool.py worker tcp://127.0.0.1:5556
    python worker_pool.py client tcp://127.0.0.1:5555

A job goes to a worker that has a free slot; until there is one it waits at the broker, urgent ones
first. If a worker is killed, its jobs go to another one, which is right only for jobs that may be
done twice. A worker that gets SIGTERM finishes its jobs, and gets no more. ``fleet.py`` does the
same over a network that is not trusted.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable

import gevent
from gevent.event import AsyncResult

from gzmqsource.broker import Broker
from gzmqsource.workers import RemoteError, Requester, Responder

JOBS = 200


def stop_on_signal(stop: Callable[[float], object]) -> None:
    """Stop in a greenlet of its own when the process gets a signal to end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, gevent.spawn, stop, 30)


def broker(front: str, back: str) -> None:
    """Distribute jobs; the jobs of a lost worker go to another one."""
    sharing = Broker.open(front, back, redeliver=True)
    stop_on_signal(sharing.stop)
    sharing.serve_forever()


def stretch(payload: list[bytes]) -> list[bytes]:
    """Do a job: a checksum that takes some 20 ms of a core. The client gets its exceptions."""
    password, salt = payload
    if not salt:
        raise ValueError("a password without salt")
    return [hashlib.pbkdf2_hmac("sha256", password, salt, 30_000), b"%d" % os.getpid()]


def worker(back: str) -> None:
    """Take one job at a time: it computes, and does not wait."""
    responder = Responder.join(back, stretch, 1)
    stop_on_signal(responder.stop)
    responder.serve_forever()


def client(front: str) -> None:
    """Submit all jobs, every tenth as an urgent one, and count the jobs of each worker."""
    done_by: dict[int, int] = {}
    with Requester.open(front) as requester:
        jobs: list[AsyncResult[list[bytes]]] = [
            requester.submit(
                [b"password %d" % number, b"salt"],
                timeout=60,
                priority=0 if number % 10 else 100,
            )
            for number in range(JOBS)
        ]
        bad = requester.submit([b"password", b""], timeout=60)
        for job in gevent.iwait(jobs):
            _, pid = job.get() or []
            done_by[int(pid)] = done_by.get(int(pid), 0) + 1
        try:
            bad.get()
        except RemoteError as error:
            print(f"refused by its worker: {error}")
    print(f"{sum(done_by.values())} jobs were done by {len(done_by)} workers")


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"broker": broker, "worker": worker, "client": client}
    roles[sys.argv[1]](*sys.argv[2:])
