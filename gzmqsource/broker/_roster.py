"""The workers of a broker, and the choice of the one that gets the next request."""

from __future__ import annotations

import enum
from collections import OrderedDict

from gzmqsource.workers._askers import TICKS
from gzmqsource.workers._jobs import Job


class State(enum.Enum):
    """The stages in the life of a worker."""

    READY = "ready"
    SILENT = "silent"  #: its hub has sent nothing for too long to count as alive
    LEAVING = "leaving"  #: it is about to stop
    GONE = "gone"  #: its connection has ended, and its messages are not all read yet


class Worker:
    """A process that handles requests.

    Parameters
    ----------
    name : bytes
        Its routing id.
    session : bytes
        It is repeated in each JOIN over this connection, after all messages sent so far have come.
    """

    __slots__ = ("jobs", "name", "patience", "session", "silence", "slots", "state")

    def __init__(self, name: bytes, session: bytes) -> None:
        self.name = name
        self.session = session
        #: How many requests it takes at a time.
        self.slots = 0
        #: The requests that it has, by their keys, including those given up that it has not ended.
        self.jobs: dict[bytes, Job] = {}
        self.state = State.READY
        #: How many ticks have passed since its last message, and after how many it is silent.
        self.silence = 0
        self.patience = TICKS + 1


class Roster:
    """All workers; each step takes as long for a thousand of them as for two.

    Idle workers come first, in turn, then those that have requests and take more.
    """

    #: The state of a worker that may be given requests.
    ready = State.READY

    def __init__(self) -> None:
        #: All workers, by their routing ids.
        self.workers: dict[bytes, Worker] = {}
        #: How many requests the ready workers take at a time.
        self.slots = 0
        #: Workers that have no requests, and those that have some and take more.
        self.idle: OrderedDict[Worker, None] = OrderedDict()
        self.partly: OrderedDict[Worker, None] = OrderedDict()

    @property
    def has_free(self) -> bool:
        """Whether a worker takes a request."""
        return bool(self.idle or self.partly)

    def take(self) -> Worker | None:
        """Return the worker that gets the next request; the caller puts it into *jobs*."""
        if self.idle:
            worker, _ = self.idle.popitem(last=False)
            if worker.slots > 1:
                self.partly[worker] = None
            return worker
        if self.partly:
            worker = next(iter(self.partly))
            if len(worker.jobs) + 1 < worker.slots:
                self.partly.move_to_end(worker)
            else:
                del self.partly[worker]
            return worker
        return None

    def freed(self, worker: Worker) -> None:
        """Note that a worker has one request less."""
        if worker.state is State.READY:
            if worker.jobs:
                if len(worker.jobs) < worker.slots:
                    self.partly[worker] = None
            elif worker.slots:
                self.partly.pop(worker, None)
                self.idle[worker] = None

    def be_ready(self, worker: Worker, slots: int) -> None:
        """Note that a worker takes *slots* requests at a time; it keeps its turn."""
        if worker.state is State.READY:
            self.slots -= worker.slots
        worker.state = State.READY
        worker.slots = slots
        self.slots += slots
        if len(worker.jobs) < slots:
            self.freed(worker)
        else:
            self.pause(worker)

    def withdraw(self, worker: Worker, state: State) -> None:
        """Give a worker no more requests."""
        if worker.state is State.READY:
            self.slots -= worker.slots
        worker.state = state
        self.pause(worker)

    def pause(self, worker: Worker) -> None:
        """Give a worker no requests until it has one less, or reports how many it takes."""
        self.idle.pop(worker, None)
        self.partly.pop(worker, None)
