"""Replying to requests: a handler is called with each one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from socket import gethostname
from typing import TYPE_CHECKING, Any, Literal, overload

import zmq

from gzmqsource._base.deadline import LONGEST, Deadline
from gzmqsource._source import registry
from gzmqsource._source.handlers import check_handler
from gzmqsource._source.opening import Endpoints, SourceOption, each_of
from gzmqsource._source.receiver import Spawn, spawner
from gzmqsource._source.source import Source
from gzmqsource.transfer.message import FrameT
from gzmqsource.workers._calling import Answer, Calling
from gzmqsource.workers._hooks import Hook, checked
from gzmqsource.workers._membership import Membership, connect_as
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._places import Places, Spawning, Workers
from gzmqsource.workers._quick import clerk_for
from gzmqsource.workers._seconds import checked_dead_after
from gzmqsource.workers._server import Server
from gzmqsource.workers._stats import ResponderStats

if TYPE_CHECKING:
    from typing_extensions import Self

#: The part of a stop's time that is reserved for notifying the askers of unfinished requests, and
#: the most seconds of it.
_LAST_PART, _LAST_SECONDS = 0.1, 0.25

_ENVELOPED = frozenset({zmq.ROUTER, zmq.DEALER})


class Responder(Server):
    """Replies to requests of a `gzmqsource.workers.Requester`, or of any REQ or DEALER.

    The handler is called with a request's payload, and returns the payload of the reply: a
    bytes-like object, a `zmq.Frame`, or an iterable of them. It may also yield the frames. If it
    raises, the reply reports the name of the exception's class and its text, and the exception is
    passed to the source's ``on_error``, with the whole message and not the payload alone, or
    logged. A reply that cannot be delivered is counted, and logged in any case. Used as a context
    manager, a responder is stopped at the end of the block; call `start` in it.

    A `Requester`, or any other peer that speaks the protocol, is notified if its request was not
    begun, because too many wait, its time would not be enough, or the responder stops; if its
    request is lost, because the handler was killed; and, while its requests are handled, that this
    hub is alive. If a peer cancels a request, the request is dropped, or
    `gzmqsource.errors.RequestCancelled` is raised in its handler; see `shield`. The same happens if
    the peer has sent signs of life and falls silent, unless there is a proxy in between. Within the
    handler, `current_request` returns the request.

    Parameters
    ----------
    source : Source
        A ROUTER, or a DEALER behind a proxy, without a handler. The responder owns it from now on.
    handler : callable
        ``handler(payload)``, where *payload* is a list of frames.
    spawn : int, gevent.pool.Pool, callable or None
        Where the handler runs, as for `gzmqsource.Source`.
    max_waiting : int
        How many requests may wait, in addition to those that are handled. Further ones are refused.
        A plain peer cannot be refused: the request that takes the last place stops the reading
        until there is room. One may always wait, and with it the rest of its batch, which has been
        read already: up to ``max_batch`` - 1 requests of plain peers more than may wait. The
        attribute `max_waiting_bytes` bounds the bytes of requests that wait, in the same way.
    dead_after : float
        Seconds of silence after which askers may assume that this hub is dead; it sends signs of
        life four times as often. `stop` waits as long for an asker that is silent.
    dedup : float
        Seconds for which a reply is kept if its request may be sent again; the handler is not
        called again then. The attributes `max_kept` and `max_kept_bytes` bound the replies kept.
    hooks : iterable of Hook
        Called for each request, in order.
    tracebacks : bool
        Whether a reply that reports an error also has the traceback.

    Raises
    ------
    ValueError
        The source is neither a ROUTER nor a DEALER, or has a handler, or a number is out of range.
    TypeError
        *source* is not a `gzmqsource.Source`; *handler* cannot be called, or is a coroutine
        function; or *spawn* or *hooks* is of another type.
    InvalidThreadUseError, SourceClosed
        The source belongs to the hub of another thread, or is closed.
    """

    __module__ = "gzmqsource.workers"

    _kind = "responder"

    #: The default of *spawn*: enough for handlers that wait.
    default_pool = 100

    #: The default of *max_waiting*: ten requests for each of 100 workers.
    default_waiting = 1000

    def __init__(
        self,
        source: Source[FrameT],
        handler: Answer[FrameT],
        spawn: Spawn = default_pool,
        *,
        max_waiting: int = default_waiting,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
    ) -> None:
        check_handler(handler, may_yield=True)
        self._handler: Any = handler
        self._spawn = spawn
        self._hooks = checked(hooks)
        self._tracebacks = tracebacks
        self._membership: Membership | None = None
        super().__init__(source, max_waiting=max_waiting, dead_after=dead_after, dedup=dedup)

    @overload
    @classmethod
    def open(
        cls,
        handler: Answer[bytes],
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        context: zmq.Context[Any] | None = None,
        spawn: Spawn = default_pool,
        max_waiting: int = default_waiting,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
        copy: Literal[True] = True,
        **socket_options: SourceOption,
    ) -> Self: ...

    @overload
    @classmethod
    def open(
        cls,
        handler: Answer[zmq.Frame],
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        context: zmq.Context[Any] | None = None,
        spawn: Spawn = default_pool,
        max_waiting: int = default_waiting,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
        copy: Literal[False],
        **socket_options: SourceOption,
    ) -> Self: ...

    @classmethod
    def open(
        cls,
        handler: Answer[Any],
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        context: zmq.Context[Any] | None = None,
        spawn: Spawn = default_pool,
        max_waiting: int = default_waiting,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
        **socket_options: SourceOption,
    ) -> Self:
        """Make a socket, and a responder that owns it.

        With *bind* it is a ROUTER with ``ROUTER_MANDATORY``, which reports peers that are gone. It
        drops and counts replies that a peer does not read, so that one peer never delays others.
        libzmq keeps ``sndhwm`` of them for such a peer, 1000 by default and of any size, in
        addition to those that *outbox* and *outbox_bytes* allow. Pass a lower one if replies are
        large: with 100, a client with 1000 small requests outstanding gets 0.4 times as many
        replies per second. With only *connect* it is a DEALER, for the backend of a proxy.

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
            allowed, except *overflow* together with *bind*.

        Raises
        ------
        AttributeError, zmq.ZMQError
            As for `gzmqsource.Source.open`; no socket is left open.
        TypeError, ValueError
            As for the constructor, or there is no endpoint; no socket is left open.
        """
        if not bind and not connect:
            raise ValueError("a Responder needs an endpoint: pass bind=... or connect=...")
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

    @overload
    @classmethod
    def join(
        cls,
        brokers: Endpoints,
        handler: Answer[bytes],
        spawn: Spawn = default_pool,
        *,
        context: zmq.Context[Any] | None = None,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
        copy: Literal[True] = True,
        **socket_options: SourceOption,
    ) -> Self: ...

    @overload
    @classmethod
    def join(
        cls,
        brokers: Endpoints,
        handler: Answer[zmq.Frame],
        spawn: Spawn = default_pool,
        *,
        context: zmq.Context[Any] | None = None,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
        copy: Literal[False],
        **socket_options: SourceOption,
    ) -> Self: ...

    @classmethod
    def join(
        cls,
        brokers: Endpoints,
        handler: Answer[Any],
        spawn: Spawn = default_pool,
        *,
        context: zmq.Context[Any] | None = None,
        dead_after: float = 1.0,
        dedup: float = 10.0,
        hooks: Iterable[Hook] = (),
        tracebacks: bool = False,
        **socket_options: SourceOption,
    ) -> Self:
        """Make a socket, and a responder that owns it, as a worker of brokers.

        The responder reports to each `gzmqsource.broker.Broker` how many requests it takes at a
        time, which *spawn* determines, and the broker gives it no more. Several brokers share that
        number. A broker that is not there yet, or starts again, is joined once it is there.

        Parameters
        ----------
        brokers : str or iterable of str
            The endpoints of the brokers' backs.
        handler, spawn, dead_after, dedup, hooks, tracebacks
            As for the constructor. If *spawn* has no bound, it takes 1000 requests at a time.
        context : zmq.Context, optional
            The context of the socket; ``zmq.Context.instance()`` if not passed.
        **socket_options
            As for `gzmqsource.Source.open`, except *immediate* and *overflow*. *routing_id* is the
            worker's name at the brokers: by default the host, the process and random digits. If two
            workers have the same name, the first one is lost, with its replies that were not read
            yet. *heartbeat_ivl* is by default 5 times *dead_after*, in milliseconds, at least 1000.

        Raises
        ------
        AttributeError, zmq.ZMQError
            As for `gzmqsource.Source.open`; no socket is left open.
        TypeError, ValueError
            As for the constructor, or there is no endpoint; no socket is left open.
        """
        urls = list(dict.fromkeys(each_of(brokers, "brokers")))
        if not urls:
            raise ValueError("a Responder needs a broker to join: pass the endpoint of its back")
        source = open_router(Source, context=context, **_worker_options(socket_options, dead_after))
        try:
            names = {connect_as(source.socket, url): url for url in urls}
            responder = cls(
                source,
                handler,
                spawn,
                dead_after=dead_after,
                dedup=dedup,
                hooks=hooks,
                tracebacks=tracebacks,
            )
        except BaseException:
            source.close()
            raise
        responder._be_worker(names)
        return responder

    def start(self) -> None:
        """Start handling requests.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `gzmqsource.Source.start`.
        """
        is_first = not self._source.started
        super().start()
        if is_first:
            # The observer measures only the handler, not the line after it.
            self._calling.answer = registry.instrumented(self._core, self._handler)
            if self._membership is not None:
                self._membership.start()

    def leave(self, timeout: float | None = None) -> int:
        """Leave the brokers that it has joined: another name of `stop`, for workers.

        Parameters
        ----------
        timeout : float or None
            As for `stop`, which also describes the result and the errors.
        """
        return self.stop(timeout)

    @property
    def is_member(self) -> bool:
        """Whether a broker that it has joined has answered recently."""
        return self._membership is not None and self._membership.is_member

    def stats(self) -> ResponderStats:
        """Return a snapshot of the responder's counters."""
        handling = self._handling
        return ResponderStats(**self._counts() | {"replies": handling.replies - handling.dropped})

    def _make_handling(self, parts: Parts) -> Calling:
        self._calling = Calling(self._source, parts, self._handler, self._hooks, self._tracebacks)
        return self._calling

    def _make_places(self, parts: Parts) -> Places:
        spawn = self._spawn
        function, pool = spawner(spawn)
        calling, source = self._calling, self._source
        steps = parts.line, self._reception.next, calling.handle, calling.salvage, source
        if function is not None:
            return Spawning(function, pool, *steps)
        workers = Workers(spawn if isinstance(spawn, int) else 1, *steps)
        if self._desk is not None and not self._hooks:
            workers.begin = clerk_for(self._desk, workers, calling).begin
        return workers

    def _be_worker(self, brokers: dict[bytes, str]) -> None:
        """Be a worker of brokers; see `Membership`."""
        self._membership = Membership(
            self._source, brokers, self._places.size, self._parts, self._reception
        )

    def _stop_source(self, deadline: Deadline) -> int:
        if self._membership is not None:
            self._membership.part()
        return super()._stop_source(deadline)

    def _ended(self, source: Source) -> None:
        super()._ended(source)
        if self._membership is not None:
            self._membership.close()


def open_source(kind: type[Source], *, bind: Endpoints, **options: Any) -> Source[Any]:
    """Make a source of the class *kind* for a responder, as `Responder.open` says."""
    if not bind:
        return kind.open(zmq.DEALER, **options)
    return open_router(kind, bind=bind, **options)


def open_router(kind: type[Source], **options: Any) -> Source[Any]:
    """Make a ROUTER that reports peers that are gone, and waits for none that does not read."""
    if "overflow" in options:
        raise TypeError("overflow=...: a server sets this itself, and waits for no peer")
    return kind.open(zmq.ROUTER, overflow="raise", **{"router_mandatory": 1, **options})


def _worker_options(options: dict[str, Any], dead_after: float) -> dict[str, Any]:
    """Return the options for the socket of a worker, of which some were passed."""
    if "immediate" in map(str.lower, options):
        raise ValueError("immediate: a worker sets this itself; it reports before it is connected")
    # Without heartbeats, only the last retransmission of the kernel ends a path that is dead.
    every = min(max(1.0, 5 * checked_dead_after(dead_after)), LONGEST)
    return {"routing_id": _name(), "heartbeat_ivl": round(1000 * every), **options}


def _name() -> bytes:
    """Return a routing id that no other worker has."""
    host = gethostname().encode(errors="replace")[:200]
    return b"%s-%d-%s" % (host, os.getpid(), os.urandom(6).hex().encode())
