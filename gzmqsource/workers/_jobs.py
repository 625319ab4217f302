"""Requests at a responder: one of them, those that wait, and what they take."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gzmqsource._base.event import Event
from gzmqsource.transfer.message import FRAME_OVERHEAD, UNLIMITED
from gzmqsource.workers._askers import Asker
from gzmqsource.workers._current import Request
from gzmqsource.workers._header import Kind


class Job(Request):
    """A request that waits at a responder, or is handled.

    What most of them never need is an attribute of the class until it changes.

    Parameters
    ----------
    envelope : list of bytes or zmq.Frame
        What precedes the payload, delimiter included.
    payload : list of bytes or zmq.Frame
        The payload.
    asker : Asker or None
        Who waits for the reply; None for a plain peer.
    key, attempt, flags
        Those of the header.
    """

    __slots__ = ("asker", "envelope", "flags", "greenlet")

    #: Whether nobody waits for it any more.
    is_cancelled = False
    #: Whether that is because its asker is silent, which may come back, and wait for it.
    may_be_wanted = False
    #: Whether its handler is yet to be told that.
    is_due = False
    #: Whether it was counted already, and has no reply whatever its handler does.
    is_over = False
    #: How many blocks of `shield` its handler is in.
    shields = 0
    #: Those with more go first.
    priority = 0
    #: When it was given to a worker, if it has a deadline.
    began = 0.0
    #: What its key is at a worker, if that cannot be its own.
    alias = b""
    #: How often it was given to another worker, for one has lost it.
    redeliveries = 0

    def __init__(
        self,
        envelope: list[Any],
        payload: list[Any],
        asker: Asker | None = None,
        key: bytes = b"",
        attempt: int = 0,
        flags: int = 0,
    ) -> None:
        self.envelope = envelope
        self.payload = payload
        self.asker = asker
        self.key = key
        self.attempt = attempt
        self.flags = flags
        self.deadline = None
        #: The greenlet that is in the handler now.
        self.greenlet: Any = None

    @property
    def end_of_wait(self) -> Kind:
        """What its asker is told if it ends while it waits: it may have begun before."""
        return Kind.LOST if self.redeliveries else Kind.REFUSED

    @property
    def is_wanted(self) -> bool:
        """Whether its asker has to hear how it ends."""
        return not self.is_over and (self.may_be_wanted or not self.is_cancelled)

    @property
    def _peer(self) -> Any:
        # The first frame is the routing id, or what the peer has put before the delimiter.
        return self.envelope[0]

    @property
    def message(self) -> list[Any]:
        """All of it."""
        return self.envelope + self.payload


class Line:
    """The jobs that wait, those with the highest priority first, then the oldest.

    Each can leave without a search.

    Parameters
    ----------
    most : int
        The most jobs, for peers that can be refused.
    most_bytes : int
        The most bytes of them, likewise; one that is alone may be larger.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        #: The jobs, and the bytes that each counts.
        self.jobs: OrderedDict[Job, int] = OrderedDict()
        self._bytes = 0
        # Those with a priority, by that; there are 255 at most.
        self._ranks: dict[int, OrderedDict[Job, None]] = {}
        #: Those that have left it, and their greenlets, which are yet to begin.
        self.beginning: dict[Job, Any] = {}

    def all(self) -> list[Job]:
        """Return all that have not begun."""
        return [*self.beginning, *self.jobs]

    @property
    def is_empty(self) -> bool:
        """Whether all have begun."""
        return not (self.jobs or self.beginning)

    def is_full(self, more: int = 0) -> bool:
        """Return whether it has as many as may wait, *more* than its bound."""
        return len(self.jobs) >= self._most + more or self._bytes >= self._most_bytes

    def append(self, job: Job, first: bool = False) -> None:
        """Let a job wait behind all others, or be the first again."""
        message = job.message
        size = self.jobs[job] = sum(map(len, message)) + FRAME_OVERHEAD * len(message)
        if first:
            self.jobs.move_to_end(job, last=False)
        self._bytes += size
        if job.priority:
            rank = self._ranks.setdefault(job.priority, OrderedDict())
            rank[job] = None
            if first:
                rank.move_to_end(job, last=False)

    def pop(self) -> Job:
        """Remove the first."""
        if self._ranks:
            job = next(iter(self._ranks[max(self._ranks)]))
            self.remove(job)
        else:
            job, size = self.jobs.popitem(last=False)
            self._bytes -= size
        return job

    def remove(self, job: Job) -> None:
        """Remove one of them, or one that is about to begin."""
        if job in self.beginning:
            del self.beginning[job]
        else:
            self._bytes -= self.jobs.pop(job)
            if job.priority:
                rank = self._ranks[job.priority]
                del rank[job]
                if not rank:
                    del self._ranks[job.priority]


class Gate:
    """Holds up the intake of a source, in the manner of a pool that is full."""

    def __init__(self) -> None:
        self._is_open = Event()
        self._is_open.set()
        self._is_shut = False

    def full(self) -> bool:
        """Return whether nothing may be read."""
        return not self._is_open.is_set()

    def wait_available(self) -> None:
        """Wait until something may be read."""
        self._is_open.wait()

    def free_count(self) -> int:
        """Return how many messages may be read, if any may: each that is read finds a place."""
        return UNLIMITED

    def close(self) -> None:
        """Let nothing more be read."""
        self._is_open.clear()

    def open(self) -> None:
        """Let messages be read, unless it was shut."""
        if not self._is_shut:
            self._is_open.set()

    def shut(self) -> None:
        """Let nothing more be read, for good."""
        self._is_shut = True
        self.close()

    def release(self) -> None:
        """Let go of what waits: the source is closed."""
        self._is_open.set()


class Usual:
    """What a handler usually takes: the median of the last ones, more or less.

    A mean would be that of the few slow ones. The median is approached in steps, up after a longer
    one and down after a shorter one, so a request costs 0.1 us and there is nothing to sort.
    """

    #: By how much it changes after each.
    step = 1.1

    #: How much longer than usual it may take, and the seconds of a reply on its way.
    reserve = 1.25
    way = 0.005

    def __init__(self) -> None:
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Note what a handler has taken."""
        if not self._seconds:
            self._seconds = seconds
        elif seconds > self._seconds:
            self._seconds = min(seconds, self._seconds * self.step)
        else:
            self._seconds = max(seconds, self._seconds / self.step)

    @property
    def needed(self) -> float:
        """The seconds that a request must have left to have its reply in time."""
        return self._seconds * self.reserve + self.way
