"""`Broker`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import zmq

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.reports import peer_of
from gzmqsource._source.opening import Endpoints, SourceOption
from gzmqsource._source.source import Source
from gzmqsource.broker._back import Back
from gzmqsource.broker._forwarding import Forwarding
from gzmqsource.broker._roster import Worker
from gzmqsource.broker._stats import BrokerStats, WorkerStats
from gzmqsource.broker._watch import Watch
from gzmqsource.errors import InvalidThreadUseError
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._quick import match_for
from gzmqsource.workers._server import Server, checked
from gzmqsource.workers.responder import open_router

if TYPE_CHECKING:
    from typing_extensions import Self

#: At the end of the thread no call of it may use the sockets, and each is closed by itself.
_unless_its_thread_ends = contextlib.suppress(InvalidThreadUseError)


class Broker(Server):
    """Distributes requests to workers that are free, and replies to clients as a responder does.

    A worker is a `gzmqsource.workers.Responder` that has joined the broker's back. It reports how
    many requests it takes at a time, and four times in its *dead_after* that its hub runs. A
    request goes to an idle worker, if there is one, otherwise to one that takes more, in turn.
    Other requests wait here, in order, those with a higher priority first.

    For clients the broker is one server: it notifies them of the outcome of their requests, that
    its hub is alive, and that it is about to stop. Cancellations, and the remaining time of a
    request, are passed on to the worker that has it. If a worker dies, or its hub is stuck, the
    requests that it has at that moment are lost, and the clients that wait for them are notified;
    with *redeliver* the requests are given to another worker.

    It keeps nothing on disk, and does not know other brokers: a `gzmqsource.workers.Requester`
    may use several, and a worker may join several.

    Parameters
    ----------
    front : Source
        A ROUTER for clients, without a handler. The broker owns it from now on.
    back : Source
        Another one for the workers, whose *overflow* drops nothing. Any peer that can connect to it
        is given requests: bind it where only workers can connect, or use CURVE.
        ``ROUTER_HANDOVER`` and ``PROBE_ROUTER`` are set on it.
    dead_after : float
        As for `gzmqsource.workers.Responder`.
    redeliver : bool
        Whether a request that a worker has begun and lost is given to another one. Parts of it may
        then be executed twice. It is given to at most four workers, because it may be the cause of
        their deaths.
    max_waiting : int
        How many requests may wait, in addition to those that workers have. Further ones are
        refused. A plain peer cannot be refused: the request that takes the last place stops the
        reading until there is room, but the rest of its batch waits, too, as at a
        `gzmqsource.workers.Responder`. The attribute `max_waiting_bytes` bounds the bytes of
        requests that wait.
    dedup : float
        As for `gzmqsource.workers.Responder`.

    Raises
    ------
    TypeError
        One of the sources is not a `gzmqsource.Source`.
    ValueError
        One of them is not a ROUTER, or has a handler, the back drops messages, both are one source,
        or a number is out of range.
    InvalidThreadUseError, SourceClosed
        One of them belongs to the hub of another thread, or is closed.
    """

    __module__ = "gzmqsource.broker"

    _kind = "broker"

    #: The default of *max_waiting*.
    default_waiting = 10_000

    def __init__(
        self,
        front: Source[Any],
        back: Source[Any],
        *,
        dead_after: float = 1.0,
        redeliver: bool = False,
        max_waiting: int = default_waiting,
        dedup: float = 10.0,
    ) -> None:
        for source in front, back:
            checked(source, "Broker").check()
            if source.socket.get(zmq.TYPE) != zmq.ROUTER:
                raise ValueError(f"{source!r}: a Broker has a ROUTER at each end")
        if back._core.outbox.drops:
            raise ValueError(
                f"{back!r}: the back of a Broker drops nothing: open it without overflow"
            )
        if front is back:
            raise ValueError(f"{front!r}: a Broker has two sources, one for each end")
        if back.handle is not None:  # before the front has one, too
            raise ValueError(f"{back!r} has a handler already: open it without one for a Broker")
        self._redeliver = redeliver
        self._back_source = back
        self._is_stopping = False
        super().__init__(front, max_waiting=max_waiting, dead_after=dead_after, dedup=dedup)
        self._back.next = self._reception.next
        self._watch = Watch(self._back, self._parts.tick)
        read = self._back.read
        if self._desk is not None:
            match = match_for(self._desk, self._back, self._parts, self._forwarding, Worker)
            self._desk.let_begin(match.begin)
            read = match.read
        back.set_handle(read)
        back._core.salvage = self._back.salvage
        # Without workers, the requests at the front cannot be handled.
        back.rawlink(self._back_ended)

    @classmethod
    def open(
        cls,
        front: Endpoints,
        back: Endpoints,
        *,
        context: zmq.Context[Any] | None = None,
        dead_after: float = 1.0,
        redeliver: bool = False,
        max_waiting: int = default_waiting,
        dedup: float = 10.0,
        **socket_options: SourceOption,
    ) -> Self:
        """Make the sockets, and a broker that owns them.

        Both are ROUTERs with ``ROUTER_MANDATORY`` that drop and count messages that a peer does not
        read, see `gzmqsource.workers.Responder.open`.

        Parameters
        ----------
        front, back : str or iterable of str
            The endpoints to bind, for clients and for workers.
        context : zmq.Context, optional
            The context of the sockets; ``zmq.Context.instance()`` if not passed.
        dead_after, redeliver, max_waiting, dedup
            As for the constructor.
        **socket_options
            The options of both, as for `gzmqsource.workers.Responder.open`.

        Raises
        ------
        AttributeError, zmq.ZMQError
            As for `gzmqsource.Source.open`; no socket is left open.
        TypeError, ValueError
            As for the constructor, or there is no endpoint; no socket is left open.
        """
        if not front or not back:
            raise ValueError("a Broker needs endpoints to bind at its front, and at its back")
        sources: list[Source[Any]] = []
        try:
            for bind in front, back:
                sources.append(open_router(Source, bind=bind, context=context, **socket_options))
            return cls(
                *sources,
                dead_after=dead_after,
                redeliver=redeliver,
                max_waiting=max_waiting,
                dedup=dedup,
            )
        except BaseException:
            for source in sources:
                source.close()
            raise

    @property
    def front(self) -> Source[Any]:
        """The source for clients; `source` is the same."""
        return self._source

    @property
    def back(self) -> Source[Any]:
        """The source for the workers."""
        return self._back_source

    def close(self) -> None:
        """Close both ends at once; see `gzmqsource.Source.close`.

        Raises
        ------
        InvalidThreadUseError
            The broker belongs to the hub of another thread.
        """
        super().close()
        self._back_source.close()

    def stats(self) -> BrokerStats:
        """Return a snapshot of the broker's counters."""
        counts = self._counts()
        counts["replies"] -= self._handling.dropped
        return BrokerStats(**{name: counts[name] for name in BrokerStats._fields})

    def workers(self) -> list[WorkerStats]:
        """Return a snapshot of its workers."""
        return [
            WorkerStats(peer_of(each.name), each.state.value, each.slots, len(each.jobs))
            for each in list(self._back.roster.workers.values())
        ]

    def _counts(self) -> dict[str, int]:
        back = self._back
        return super()._counts() | {
            "redelivered": back.redelivered,
            "late": back.late,
            "workers": len(back.roster.workers),
            "slots": back.roster.slots,
        }

    def _make_handling(self, parts: Parts) -> Forwarding:
        self._forwarding = Forwarding(self._source, parts)
        return self._forwarding

    def _make_places(self, parts: Parts) -> Back:
        self._back = Back(self._back_source, self._forwarding, parts, self._redeliver)
        return self._back

    def _stop_source(self, deadline: Deadline) -> int:
        self._is_stopping = True
        try:
            return super()._stop_source(deadline)
        finally:
            self._back_source.close()

    def _ended(self, source: Source) -> None:
        super()._ended(source)
        # No handler of this process ends the requests of workers.
        self._farewell.give_up(Deadline(0.0))
        with _unless_its_thread_ends:
            self._watch.close()
            # A stop closes the back itself, and waits until the endpoint is free.
            if not self._is_stopping:
                self._back_source.close()

    def _back_ended(self, _back: Source[Any]) -> None:
        with _unless_its_thread_ends:
            self._source.close()
