"""Replying to requests: a handler is called with each one."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import copy_context
from typing import Any

import gevent
import zmq
from gevent.lock import RLock

from gzmqsource._base.deadline import LONGEST, Deadline, check_timeout
from gzmqsource._source import registry
from gzmqsource._source.handlers import check_handler
from gzmqsource._source.opening import Endpoints
from gzmqsource._source.receiver import spawner
from gzmqsource._source.source import Source
from gzmqsource.workers._askers import Askers
from gzmqsource.workers._envelope import has_payload
from gzmqsource.workers._farewell import Farewell
from gzmqsource.workers._handling import Answer, Handling
from gzmqsource.workers._header import Detail
from gzmqsource.workers._hooks import Hook
from gzmqsource.workers._jobs import Gate, Line
from gzmqsource.workers._kept import Kept
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._places import Places, Spawning, Workers
from gzmqsource.workers._pulse import TICKS, Pulse
from gzmqsource.workers._reception import Reception
from gzmqsource.workers._stats import ResponderStats
from gzmqsource.workers._voice import Voice

#: Of the time of a stop, the part that is left to tell the askers of what was not finished, and the
#: most seconds of it.
_LAST_PART, _LAST_SECONDS = 0.1, 0.25

_ENVELOPED = frozenset({zmq.ROUTER, zmq.DEALER})


class Responder:
    """Replies to requests, of a `gzmqsource.workers.Requester` or of any REQ or DEALER.

    The handler is called with a request's payload, and returns the payload of the reply: a
    bytes-like object, a `zmq.Frame`, or an iterable of them. It may also yield the frames. If it
    raises, the reply reports the name of the exception's class and its text, and the exception goes
    to the source's ``on_error``, or is logged. As a context manager, a responder is stopped at the
    end of the block; call `start` in it.

    A `Requester`, or whatever else speaks the protocol, learns more, and says more. It is told that
    its request was not begun, because too many wait, its time would not be enough, or the responder
    stops; that it is lost, because its handler was killed; and that this hub is alive, while that
    works on its requests. A request for whose reply nobody waits any more is dropped, or
    `gzmqsource.errors.RequestCancelled` is raised in its handler; see `shield`. So it is if the
    asker has said that it is alive, and has fallen silent, unless there is a proxy in between.
    Within the handler, `current_request` returns the request.

    Parameters
    ----------
    source : Source
        A ROUTER, or a DEALER behind a proxy, without a handler. The responder owns it from now on.
    handler : callable
        ``handler(payload)``, where *payload* is a list of frames.
    spawn : int, gevent.pool.Pool, callable or None
        Where the handler runs, as for `gzmqsource.Source`.
    max_waiting : int
        How many requests may wait, beside those that are handled. Further ones are refused. For
        peers that cannot be told so, nothing more is read until there is room. The attribute
        `max_waiting_bytes` bounds their bytes.
    dead_after : float
        Seconds of silence after which askers may take this hub for dead; it speaks four times as
        often. It is also how long `stop` waits for an asker that says nothing.
    dedup : float
        Seconds for which a reply is kept whose request may be sent again; then the handler is not
        called again. The attributes `max_kept` and `max_kept_bytes` bound them.
    hooks : iterable of Hook
        Called for each request, in order.
    tracebacks : bool
        Whether a reply that reports an error also has the traceback.

    Raises
    ------
    ValueError
        The source is neither a ROUTER nor a DEALER, or has a handler, or a number is out of range.
    TypeError
        *handler* cannot be called, or is a coroutine function; or *spawn* is none of the above.
    InvalidThreadUseError, SourceClosed
        The source belongs to the hub of another thread, or is closed.
    """

    __module__ = "gzmqsource.workers"

    #: The default of *spawn*: enough for handlers that wait.
    default_pool = 100

    #: The default of *max_waiting*: with 100 workers, each has ten requests to go.
    default_waiting = 1000

    #: The most bytes of requests that wait; each frame counts 64 more. One may be beyond that.
    max_waiting_bytes = 1 << 24

    #: How many peers that speak the protocol are remembered, beside those that have requests here.
    #: Each takes 0.5 KB, behind proxies 5 at most. One that was forgotten is not told that the
    #: responder stops.
    max_askers = 10_000

    #: The most replies that are kept for requests that may be sent again.
    max_kept = 10_000

    #: The most bytes of these.
    max_kept_bytes = 1 << 24

    def __init__(
        self,
        source: Source,
        handler: Answer,
        spawn: object = default_pool,
        *,
        max_waiting: int = default_waiting,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
    ) -> None:
        kind = source.socket.get(zmq.TYPE)
        if kind not in _ENVELOPED:
            raise ValueError(f"{source!r}: a Responder answers through a ROUTER or a DEALER")
        check_handler(handler, may_yield=True)
        if not isinstance(max_waiting, int) or max_waiting < 0:
            raise ValueError(f"max_waiting={max_waiting!r}: how many may wait, an int from 0 up")
        _check_seconds("dead_after", dead_after, 0.02)  # libuv's timers take 1 ms at least
        _check_seconds("dedup", dedup, 0)
        self._source = source
        self._core = source._core
        self._handler: Any = handler
        self._parts = parts = Parts(
            Voice(source, dead_after),
            Askers(self.max_askers),
            Line(max_waiting, self.max_waiting_bytes),
            Gate(),
            Kept(dedup, self.max_kept, self.max_kept_bytes),
            at_router=kind == zmq.ROUTER,
            tick=dead_after / TICKS,
        )
        self._line = parts.line
        self._handling = Handling(source, handler, parts, tuple(hooks), tracebacks)
        self._reception = Reception(self._handling, parts)
        self._places = self._places_for(spawn)
        self._reception.let_begin(self._places)
        self._pulse = Pulse(self._core, self._reception, parts)
        self._farewell = Farewell(
            self._reception, self._handling, self._pulse, parts, self._core.lull.stoppers
        )
        self._stopping = RLock()
        source.set_handle(self._reception.read, self._places.spawn)
        self._core.gate = parts.gate
        self._core.is_loss = has_payload
        source._own("responder", self, self._counts, self._handling.reply_lost)
        source.rawlink(self._ended)

    @classmethod
    def open(
        cls,
        handler: Answer,
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        context: zmq.Context[Any] | None = None,
        spawn: object = default_pool,
        max_waiting: int = default_waiting,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
        **socket_options: Any,
    ) -> Responder:
        """Make a socket, and a responder that owns it.

        With *bind* it is a ROUTER with ``ROUTER_MANDATORY``, which reports peers that are gone. It
        drops and counts replies that a peer does not read, so that one peer never delays others.
        libzmq keeps ``sndhwm`` of them for such a peer, 1000 by default and of any size, beside
        what *outbox* and *outbox_bytes* allow. Pass a lower one if replies are large: with 100, a
        client with 1000 small requests outstanding gets 0.4 times as many replies a second.
        With only *connect* it is a DEALER, for the backend of a proxy.

        Parameters
        ----------
        handler, spawn, max_waiting, dead_after, dedup, hooks, tracebacks
            As for the constructor.
        bind, connect : str or iterable of str
            The endpoints to bind, and those to connect.
        context : zmq.Context, optional
            The context of the socket; ``zmq.Context.instance()`` if not passed.
        **socket_options
            As for `gzmqsource.Source.open`, whose own parameters, such as *on_error*, are also
            allowed.

        Raises
        ------
        zmq.ZMQError
            libzmq refuses an option or an endpoint; no socket is left open.
        TypeError, ValueError
            As for the constructor, or there is no endpoint; no socket is left open.
        """
        if not bind and not connect:
            raise ValueError("a Responder needs an endpoint to bind or to connect")
        source = open_source(Source, bind=bind, connect=connect, context=context, **socket_options)
        try:
            return cls(
                source,
                handler,
                spawn,
                max_waiting=max_waiting,
                dead_after=dead_after,
                dedup=dedup,
                hooks=hooks,
                tracebacks=tracebacks,
            )
        except BaseException:
            source.close()
            raise

    @property
    def source(self) -> Source:
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
            self._places.start(copy_context())
            self._source.start()
            # Timed is what the handler takes, and not the line after it.
            self._handling.answer = registry.instrumented(self._core, self._handler)

    def stop(self, timeout: float | None = None) -> int:
        """Refuse new requests, finish those that were accepted, send their replies, and close.

        Askers that speak the protocol are told to ask others, and refused what they have sent
        meanwhile: so nothing is lost. They are waited for until each has said that nothing more is
        on its way, or was silent for *dead_after*. What plain peers send is handled until none has
        come for 0.25 s. Near the end of the time handlers that still run are killed, and those who
        wait for them are told; what was not begun is refused.

        If the calling greenlet is killed, the responder is left about to stop; stop it again, or
        close it. If a handler stops it, the request of that handler is not waited for, and has no
        reply. While one greenlet stops it, another waits, and returns 0.

        Parameters
        ----------
        timeout : float or None
            Seconds to take at most; None for the source's `stop_timeout`.

        Returns
        -------
        int
            How many requests were accepted and not answered, plus replies not sent.

        Raises
        ------
        ValueError, InvalidThreadUseError
            As for `gzmqsource.Source.stop`.
        """
        source = self._source
        seconds = check_timeout(source.stop_timeout if timeout is None else timeout)
        deadline = Deadline(seconds)
        if source.closed:
            return 0
        source.check()
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
        """Start, and wait until the responder is closed; stop it if the wait ends otherwise.

        Parameters
        ----------
        stop_timeout : float or None
            As for `gzmqsource.Source.serve_forever`, and so are the errors.

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

    def stats(self) -> ResponderStats:
        """Return a snapshot of what the responder has done."""
        handling = self._handling
        return ResponderStats(**self._counts() | {"replies": handling.replies - handling.dropped})

    def _counts(self) -> dict[str, int]:
        """Return the numbers for a collector: none goes down but what is there now."""
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

    def __enter__(self) -> Responder:
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
        given_up = self._farewell.give_up()
        unsent = source.stop(deadline.left(), drain=False)
        dropped = source.stats().dropped
        given_up += sum(map(has_payload, unsent))
        return given_up + dropped.get("unhandled", 0) + dropped.get("unread", 0)

    def _places_for(self, spawn: object) -> Places:
        """Return where handlers run, for the argument *spawn*."""
        function, pool = spawner(spawn)
        take, handle, source = self._reception.next, self._handling.handle, self._source
        if function is not None:
            return Spawning(function, pool, self._line, take, handle, source)
        size = spawn if isinstance(spawn, int) else 1
        return Workers(size, self._line, take, handle, self._core.socket.budget)

    def _ended(self, _source: Source) -> None:
        """End what waits, because the source is closed; called in the hub."""
        self._parts.gate.release()
        self._farewell.end()
        self._places.close()
        self._pulse.close()
        for job in self._line.all():
            self._line.remove(job)
            self._handling.reject(job, Detail.LEAVING)


def _check_seconds(name: str, seconds: float, least: float) -> None:
    if not least <= seconds <= LONGEST:
        raise ValueError(f"{name}={seconds!r}: seconds from {least:g} up")


def open_source(kind: type[Source], *, bind: Endpoints, **options: Any) -> Source:
    """Make a source of the class *kind* for a responder, as `Responder.open` says."""
    if not bind:
        return kind.open(zmq.DEALER, **options)
    options = {"router_mandatory": 1, **options}
    return kind.open(zmq.ROUTER, bind=bind, overflow="raise", **options)
