"""The master: it holds the endpoint and a broker, and never imports the handler's module."""

from __future__ import annotations

import contextlib
import functools
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import click
import gevent

from gzmqsource._base.deadline import Deadline
from gzmqsource._source.source import Source
from gzmqsource.broker import Broker
from gzmqsource.cli._config import environment_of_workers
from gzmqsource.cli._fleet.fleet import Fleet
from gzmqsource.cli._fleet.options import FleetOptions, worker_command
from gzmqsource.cli._fleet.worker import Worker, log
from gzmqsource.cli._operations import Operations, rates
from gzmqsource.cli._signals import (
    Interrupted,
    Told,
    check_finished,
    finish,
    on_hangup,
    on_signals,
    stop_accepted,
    unfinished,
)
from gzmqsource.cli._sockets import telling_errors
from gzmqsource.workers.responder import open_router

#: Of the time of a stop, the part that is left for the workers' ends, and the most seconds of it.
_LAST_PART, _LAST_SECONDS = 0.1, 1.0


class Master:
    """A broker, and the workers that it gives the requests to.

    Parameters
    ----------
    front : Source
        The ROUTER that has the endpoint. The master owns it from now on.
    url : str
        The URL that the workers join.
    fleet : Fleet
        The workers, which are not started yet.
    asked : dict
        The *dead_after* and the *max_waiting* of the broker.
    """

    def __init__(self, front: Source, url: str, fleet: Fleet, asked: dict[str, Any]) -> None:
        with telling_errors():
            self.broker = Broker(front, open_router(Source, bind=url), **asked)
        self.fleet = fleet

    def start(self) -> None:
        """Start the broker and the workers."""
        self.broker.start()
        self.fleet.start()

    def stop(self, timeout: float) -> int:
        """Finish what was accepted, and have the workers leave; return how many were given up."""
        deadline = Deadline(timeout)
        seconds = timeout - min(_LAST_PART * timeout, _LAST_SECONDS)
        given_up = stop_accepted(self.broker, seconds)
        self.fleet.stop(deadline)
        return given_up

    def pending(self) -> str | None:
        """Return which requests were accepted and not answered."""
        stats = self.broker.stats()
        return unfinished(stats.running, stats.waiting)

    def quit(self) -> None:
        """End at once."""
        self.fleet.kill()
        self.broker.close()

    def lines(self, interval: float) -> Iterator[str]:
        """Yield the status, each *interval*."""
        for stats, rate in rates(self.broker.stats, "replies", interval):
            fleet = self.fleet.stats()
            yield (
                f"workers {fleet.ready}/{fleet.size}, requests {stats.requests}, "
                f"replies {stats.replies}, {rate:.0f}/s, running {stats.running}, "
                f"waiting {stats.waiting}, lost {stats.lost}"
            )


def serve_with_workers(
    open_front: Callable[[], Source],
    options: FleetOptions,
    asked: dict[str, Any],
    stop_timeout: float,
    operations: Operations,
    shown: Callable[[Source, Callable[[float], Iterator[str]]], AbstractContextManager[None]],
) -> None:
    """Serve until a signal, or until it is clear that no worker starts.

    Parameters
    ----------
    open_front : callable
        Returns the ROUTER that has the endpoint.
    options : FleetOptions
        The number of workers, and the reasons to replace one.
    asked : dict
        The *dead_after* and the *max_waiting* of the broker.
    stop_timeout : float
        Seconds that a worker may take to finish its requests.
    operations : Operations
        Reports the state of the server.
    shown : callable
        Returns a context manager that shows the source, and the lines of a status.
    """
    told = Told(signal.SIGTERM, signal.SIGINT)
    # Before the socket is bound: a signal would lose the messages that it has received by then.
    told.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide how workers end
    with contextlib.ExitStack() as ends:
        folder = ends.enter_context(_folder())
        url = f"ipc://{folder}/workers"
        fleet = _fleet(url, options, stop_timeout, operations.has_pages)
        operations.not_ready = lambda: None if fleet.stats().ready else "no worker is ready"
        operations.workers = fleet.numbers
        operations.began = fleet.began
        ends.enter_context(operations)
        master = Master(open_front(), url, fleet, asked)
        # A call lasts until the end of the roll, and another one may come meanwhile.
        on_hangup(functools.partial(gevent.spawn, operations.reload, fleet.roll))
        on_signals(lambda: fleet.resize(1), signal.SIGTTIN)
        on_signals(lambda: fleet.resize(-1), signal.SIGTTOU)
        master.start()
        with shown(master.broker.front, master.lines):
            gevent.wait(cast(Any, [told, fleet.over]), count=1)
        # Their ends may be seen before the signal that has ended all processes.
        if fleet.gave_up and not gevent.wait(cast(Any, [told]), timeout=told.once):
            master.quit()
            raise click.ClickException("no worker was ready, and all have ended: see above")
        lost = master.broker.stats().lost
        try:
            given_up = finish(told, master.stop, stop_timeout, master.pending)
        except Interrupted:
            master.quit()
            raise
    log.info("stopped")
    check_finished(stop_timeout, given_up, master.broker.stats().lost - lost)


def _fleet(url: str, options: FleetOptions, stop_timeout: float, has_pages: bool) -> Fleet:
    """Return the workers that join at a URL; they report their numbers if there are pages."""
    command = [*worker_command(click.get_current_context()), "--join", url]
    if has_pages:
        command.append("--numbers")
    environment = environment_of_workers()

    def start(number: int, changed: Callable[[], object]) -> Worker:
        return Worker(number, command, environment, options.stuck_after, changed)

    assert options.workers is not None
    return Fleet(start, options.workers, options.stuck_after, stop_timeout)


def _folder() -> AbstractContextManager[str]:
    """Make the folder, or report why it cannot be made."""
    try:
        return tempfile.TemporaryDirectory(prefix="gzmqsource-")
    except OSError as error:
        raise click.ClickException(f"no folder for the workers: {error.strerror}") from error
