"""The common part of servers, which reply to requests handled here or by workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
import zmq
from gevent.lock import RLock

from gzmqsource._base.contexts import base_context
from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._source.refusals import cannot_wait
from gzmqsource._source.source import Source
from gzmqsource.workers._askers import TICKS, Askers
from gzmqsource.workers._bounds import Bounds
from gzmqsource.workers._envelope import has_payload
from gzmqsource.workers._farewell import Farewell
from gzmqsource.workers._handling import Handling
from gzmqsource.workers._header import Detail
from gzmqsource.workers._jobs import Gate, Line
from gzmqsource.workers._kept import Kept
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._places import Places
from gzmqsource.workers._pulse import Pulse
from gzmqsource.workers._quick import desk_for
from gzmqsource.workers._reception import Reception
from gzmqsource.workers._seconds import checked_dead_after, checked_seconds
from gzmqsource.workers._voice import Voice

if TYPE_CHECKING:
    from typing_extensions import Self

_ENVELOPED = frozenset({zmq.ROUTER, zmq.DEALER})

#: The part of a stop's time that is reserved for notifying the askers of unfinished requests, and
#: the most seconds of it.
_LAST_PART, _LAST_SECONDS = 0.1, 0.25


class Server(Bounds, ABC):
    """Owns a source that receives requests, and is responsible for each of them.

    Parameters
    ----------
    source : Source
        A ROUTER or DEALER.
    max_waiting, dead_after, dedup
        See `gzmqsource.workers.Responder`.

    Raises
    ------
    ValueError
        The source is neither a ROUTER nor a DEALER, or has a handler, or a number is out of range.
    """

    #: Its name, also in the metrics.
    _kind: ClassVar[str]

    def __init__(
        self, source: Source[Any], *, max_waiting: int, dead_after: float, dedup: float
    ) -> None:
        kind = checked(source, self._kind.capitalize()).socket.get(zmq.TYPE)
        if kind not in _ENVELOPED:
            raise ValueError(
                f"{source!r}: a {self._kind.capitalize()} answers through a ROUTER or a DEALER"
            )
        if source.handle is not None:
            raise ValueError(
                f"{source!r} has a handler already: open it without one for a "
                f"{self._kind.capitalize()}"
            )
        if not isinstance(max_waiting, int) or max_waiting < 0:
            raise ValueError(f"max_waiting={max_waiting!r}: how many may wait, an int from 0 up")
        dead_after = checked_dead_after(dead_after)
        dedup = checked_seconds("dedup", dedup, 0)
        self._source = source
        self._core = source._core
        self._parts = parts = Parts(
            Voice(source, dead_after),
            Askers(self),
            Line(max_waiting, self),
            Gate(),
            Kept(dedup, self),
            at_router=kind == zmq.ROUTER,
            tick=dead_after / TICKS,
        )
        self._line = parts.line
        self._handling = self._make_handling(parts)
        self._reception = Reception(self._handling, parts)
        self._desk = desk_for(self._reception, self._handling, parts, source)
        self._places = self._make_places(parts)
        self._reception.let_begin(self._places)
        self._pulse = Pulse(self._core, self._reception, parts)
        self._farewell = Farewell(
            self._reception, self._handling, self._pulse, parts, self._core.lull.stoppers
        )
        self._stopping = RLock()
        read = self._reception.read
        if self._desk is not None:
            self._desk.let_begin(self._places.begin)
            self._handling.finish = self._desk.end
            read = self._desk.read
        source.set_handle(read, self._places.spawn)
        self._core.gate = parts.gate
        self._core.is_loss = self._reception.is_loss
        self._core.salvage = self._reception.salvage
        source._own(self._kind, self, self._counts, self._handling.reply_lost)
        source.rawlink(self._ended)

    @abstractmethod
    def _make_handling(self, parts: Parts) -> Handling:
        """Return the handling, which has the requests that have not ended."""

    @abstractmethod
    def _make_places(self, parts: Parts) -> Places:
        """Return the places where requests are handled."""

    @property
    def source(self) -> Source[Any]:
        """The source that receives the requests and sends the replies."""
        return self._source

    @property
    def closed(self) -> bool:
        """Whether its source is closed."""
        return self._source.closed

    def start(self) -> None:
        """Start handling requests.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `gzmqsource.Source.start`.
        """
        self._source.check()
        if not self._source.started:
            self._places.start(base_context())
            self._source.start()

    def stop(self, timeout: float | None = None) -> int:
        """Refuse new requests, finish those that were accepted, send their replies, and close.

        Askers that speak the protocol are notified to use other servers, and requests that they
        have sent in the meantime are refused, so none is lost. The stop waits until each asker has
        confirmed that no more requests are in transit, or was silent for *dead_after*. Requests of
        plain peers are handled until none has come for 0.25 s. Near the end of the time, handlers
        that still run are killed, and the askers that wait for them are notified; requests that
        were not begun are refused. The reply of a handler that has ended by then is still sent, if
        it can be in half of the time that is left.

        If the calling greenlet is killed, the responder stays in the middle of its stop; stop it
        again, or close it. If a handler calls this, the request of that handler is not waited for,
        and has no reply. While one greenlet stops it, a second one waits, and returns 0.

        Parameters
        ----------
        timeout : float or None
            The most seconds to take; None for the `gzmqsource.Source.stop_timeout` of its source.

        Returns
        -------
        int
            How many requests were accepted and not answered, plus replies not sent.

        Raises
        ------
        ValueError, InvalidThreadUseError
            As for `gzmqsource.Source.stop`.
        gevent.exceptions.BlockingSwitchOutError
            The call would have to wait in a callback of the hub. Nothing has changed.
        """
        source = self._source
        seconds = check_timeout(source.stop_timeout if timeout is None else timeout)
        deadline = Deadline(seconds)
        if source.closed:
            return 0
        source.check()
        if gevent.getcurrent() is self._core.hub:
            raise cannot_wait(self, f"{self._kind}.stop")
        if seconds is not None:
            seconds -= min(_LAST_PART * seconds, _LAST_SECONDS)
        enough = Deadline(seconds)
        current, stoppers = gevent.getcurrent(), self._core.lull.stoppers
        is_first = current not in stoppers
        stoppers.add(current)
        try:
            if source.started:
                self._farewell.begin()
            if not self._stopping.acquire(timeout=deadline.left()):
                return 0
            try:
                return self._stop(enough, deadline)
            finally:
                self._stopping.release()
        finally:
            if is_first:
                stoppers.discard(current)

    def close(self) -> None:
        """Close at once; see `gzmqsource.Source.close`.

        Raises
        ------
        InvalidThreadUseError
            The responder belongs to the hub of another thread.
        """
        self._source.close()

    def serve_forever(self, stop_timeout: float | None = None) -> None:
        """Start, wait until the responder is closed, and stop it if the wait ends otherwise.

        Parameters
        ----------
        stop_timeout : float or None
            As for `gzmqsource.Source.serve_forever`.

        Raises
        ------
        SourceBroken, InvalidThreadUseError, SourceClosed
            As for `gzmqsource.Source.serve_forever`.
        """
        check_timeout(stop_timeout, "stop_timeout")
        self.start()
        try:
            self._core.done.wait()
        finally:
            gevent.spawn(self.stop, stop_timeout).join()
        if self._core.cause is not None:
            raise self._core.closed_error()

    def _counts(self) -> dict[str, int]:
        """Return the numbers for a collector: only those of the present state go down."""
        handling = self._handling
        return {
            "requests": self._reception.requests,
            "waiting": len(self._line.jobs) + len(self._line.beginning),
            "running": len(handling.running),
            "replies": handling.replies,
            "errors": handling.errors,
            "undelivered": handling.unanswered + handling.dropped,
            "full": handling.full,
            "leaving": handling.leaving,
            "expired": handling.expired,
            "cancelled": handling.cancelled,
            "lost": handling.lost,
            "duplicates": self._reception.duplicates,
            "malformed": self._reception.malformed.count,
            "askers": len(self._parts.askers),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        running = len(self._handling.running)
        return f"<{type(self).__name__} {running} running, over {self._source!r}>"

    def _stop(self, enough: Deadline, deadline: Deadline) -> int:
        """Leave until *enough*, give up the rest, and close; return how many were given up."""
        source = self._source
        if source.closed:
            return 0
        if source.started:
            self._farewell.wait(enough)
        given_up = self._farewell.give_up(deadline)
        return given_up + self._stop_source(deadline)

    def _stop_source(self, deadline: Deadline) -> int:
        """Stop the source at the end; return how many requests and replies were lost."""
        source = self._source
        unsent = source.stop(deadline.left(), drain=False)
        dropped = source.stats().dropped
        lost = sum(map(has_payload, unsent))
        return lost + dropped.get("unhandled", 0) + dropped.get("unread", 0)

    def _ended(self, _source: Source) -> None:
        """End jobs that wait, because the source is closed; called in the hub."""
        self._parts.gate.release()
        self._farewell.end()
        self._places.close()
        self._pulse.close()
        for job in self._line.all():
            self._line.remove(job)
            self._handling.reject(job, Detail.LEAVING)


def checked(source: Source, what: str) -> Source:
    """Return the source of a new *what*; raise a `TypeError` if it is not a source."""
    if not isinstance(source, Source):
        raise TypeError(
            f"{source!r}: a {what} is made with a gzmqsource.Source; {what}.open() makes its own"
        )
    return source
