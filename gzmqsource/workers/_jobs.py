"""Requests at a responder: a job, the line of those that wait, and the time that they take."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gzmqsource._base.event import Event
from gzmqsource.transfer.message import FRAME_OVERHEAD, UNLIMITED
from gzmqsource.workers._askers import Asker
from gzmqsource.workers._bounds import Bounds
from gzmqsource.workers._current import Request
from gzmqsource.workers._header import Kind


class Job(Request):
    """A request that waits at a responder, or is handled.

    Fields that most jobs never need are attributes of the class until they change.

    Parameters
    ----------
    envelope : list of bytes or zmq.Frame
        The frames before the payload, including the delimiter.
    payload : list of bytes or zmq.Frame
        The payload.
    asker : Asker or None
        The peer that waits for the reply; None for a plain peer.
    key, attempt, flags
        The fields of the header.
    """

    __slots__ = ("alias", "asker", "began", "envelope", "flags", "greenlet")

    #: Whether its caller no longer waits.
    is_cancelled = False
    #: Whether that is because its asker is silent, and may come back and wait for it.
    may_be_wanted = False
    #: Whether its handler still has to be interrupted for that.
    is_due = False
    #: Whether it was already counted, and has no reply whatever its handler does.
    is_over = False
    #: How many `shield` blocks its handler is in.
    shields = 0
    #: Jobs with a higher priority go first.
    priority = 0
    #: How often it was given to another worker because one had lost it.
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
        #: When it was given to a worker, if it has a deadline.
        self.began = 0.0
        #: Its key at a worker, if that cannot be its own key.
        self.alias = b""
        #: The greenlet that is in the handler now.
        self.greenlet: Any = None

    @property
    def end_of_wait(self) -> Kind:
        """The kind of header for its asker if it ends while it waits: it may have begun before."""
        return Kind.LOST if self.redeliveries else Kind.REFUSED

    @property
    def is_wanted(self) -> bool:
        """Whether its asker has to be notified how it ends."""
        return not self.is_over and (self.may_be_wanted or not self.is_cancelled)

    @property
    def _peer(self) -> Any:
        # The first frame is the routing id, or a frame that the peer has put before the delimiter.
        return self.envelope[0]

    @property
    def message(self) -> list[Any]:
        """The whole message."""
        return self.envelope + self.payload


class Line:
    """The jobs that wait: those with the highest priority come first, then the oldest.

    Each can leave without a search.

    Parameters
    ----------
    most : int
        The most jobs, for peers that can be refused.
    bounds : Bounds
        The most bytes of them, likewise; a single job may be larger.
    """

    def __init__(self, most: int, bounds: Bounds) -> None:
        self._most = most
        self._bounds = bounds
        #: The jobs, and the bytes that each counts.
        self.jobs: OrderedDict[Job, int] = OrderedDict()
        self._bytes = 0
        # The jobs that have a priority, by that; there are at most 255 ranks.
        self._ranks: dict[int, OrderedDict[Job, None]] = {}
        #: Jobs that have left the line, with their greenlets, which have not begun yet.
        self.beginning: dict[Job, Any] = {}

    def all(self) -> list[Job]:
        """Return all jobs that have not begun."""
        return [*self.beginning, *self.jobs]

    @property
    def is_empty(self) -> bool:
        """Whether all jobs have begun."""
        return not (self.jobs or self.beginning)

    def is_full(self, more: int = 0) -> bool:
        """Return whether it has as many jobs as may wait: its bound, plus *more*."""
        return len(self.jobs) >= self._most + more or self._bytes >= self._bounds.max_waiting_bytes

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

    def first(self) -> Job:
        """Return the job that is next."""
        return next(iter(self._ranks[max(self._ranks)] if self._ranks else self.jobs))

    def remove(self, job: Job) -> None:
        """Remove a job that waits, or one that is about to begin."""
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
    """Holds up the intake of a source, like a pool that is full."""

    def __init__(self) -> None:
        self._is_open = Event()
        self._is_open.set()
        self._is_shut = False

    def full(self) -> bool:
        """Return whether nothing may be read."""
        return not self._is_open.is_set()

    def wait_available(self) -> None:
        """Wait until messages may be read."""
        self._is_open.wait()

    def free_count(self) -> int:
        """Return how many messages may be read, if any: there is a place for each."""
        return UNLIMITED

    def close(self) -> None:
        """Stop the reading of messages."""
        self._is_open.clear()

    def open(self) -> None:
        """Let messages be read, unless it was shut."""
        if not self._is_shut:
            self._is_open.set()

    def shut(self) -> None:
        """Stop the reading of messages for good."""
        self._is_shut = True
        self.close()

    def release(self) -> None:
        """Let go of greenlets that wait: the source is closed."""
        self._is_open.set()


class Usual:
    """The time that a handler usually takes: approximately the median of the last ones.

    The few slow ones would dominate a mean. The median is approached in steps, up after a longer
    time and down after a shorter one, so a request costs 0.1 us and nothing has to be sorted.
    """

    #: The factor by which it changes after each request.
    step = 1.1

    #: How much longer than usual a handler may take, and the seconds that a reply is in transit.
    reserve = 1.25
    way = 0.005

    def __init__(self) -> None:
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Note the time that a handler has taken."""
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
