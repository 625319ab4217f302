"""Watching whether the workers of a broker are alive and connected."""

from __future__ import annotations

import contextlib

import gevent
import zmq
from gevent.queue import Empty

from gzmqsource._base.lasting import Lasting
from gzmqsource.broker._back import Back
from gzmqsource.broker._roster import State
from gzmqsource.errors import SourceClosed
from gzmqsource.monitor import Monitor
from gzmqsource.workers._pulse import Heard
from gzmqsource.workers._turns import in_turns
from gzmqsource.workers._voice import TURN


class Watch:
    """Two greenlets that look at the workers: at each tick, and when a connection has ended.

    libzmq does not report whose connection ended, but refuses to send to a worker that has none.

    Parameters
    ----------
    back : Back
        The back, which has the workers.
    tick : float
        Seconds from one look to the next; silence is counted in ticks, so a hub that was held up
        does not give up its workers.
    """

    #: The ticks after the end of a connection at which each worker is pinged again, in case libzmq
    #: has not noticed the end yet.
    asks = 2

    #: Seconds between two looks after the end of connections: each takes 3 ms for a thousand
    #: workers, and connections may end all the time.
    rest = 0.03

    #: After how many times its patience a silent worker is forgotten.
    forget = 10

    def __init__(self, back: Back, tick: float) -> None:
        self._back = back
        self._workers = back.roster.workers
        self._tick = tick
        self._heard = Heard(back.source._core)
        self._asks = 0
        self._monitor: Monitor | None = None
        self._runs = [Lasting(self._run), Lasting(self._hear_ends)]
        back.watch = self._begin

    def close(self) -> None:
        """Stop looking."""
        for each in self._runs:
            each.kill()
        if self._monitor is not None:
            self._monitor.close()

    def _begin(self) -> None:
        """Start looking, unless it already does; called when a worker has joined."""
        if self._monitor is None:
            self._monitor = Monitor(self._back.source, zmq.EVENT_DISCONNECTED)
        for each in self._runs:
            each.start()

    def _run(self) -> None:
        while True:
            gevent.sleep(self._tick)
            may_accuse = self._heard.may_accuse()
            for worker in in_turns(list(self._workers.values()), TURN):
                if worker.state is State.GONE:
                    continue
                worker.silence += may_accuse
                if worker.silence >= worker.patience:
                    if worker.state is not State.SILENT:
                        self._back.be_silent(worker)
                    elif worker.silence >= self.forget * worker.patience:
                        self._back.be_gone(worker)
                elif self._asks or (worker.state is State.LEAVING and worker.jobs):
                    self._back.ping(worker)  # one that leaves sends nothing to answer
            self._asks = max(0, self._asks - 1)

    def _hear_ends(self) -> None:
        monitor = self._monitor
        assert monitor is not None
        self._ask_all()  # after an exception, an end may have been overlooked
        for _ in monitor:
            with contextlib.suppress(Empty, SourceClosed):
                while True:  # one look shows all connections that have ended by now
                    monitor.recv(timeout=0)
            self._ask_all()
            gevent.sleep(self.rest)

    def _ask_all(self) -> None:
        """Ping each worker, now and at the next ticks."""
        self._asks = self.asks
        for worker in in_turns(list(self._workers.values()), TURN):
            self._back.ping(worker)
