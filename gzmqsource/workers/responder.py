"""Answering: a handler for each request, in a pool."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import gevent
import zmq

from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.opening import Endpoints
from gzmqsource._source.source import Source
from gzmqsource.errors import SendError, SourceClosed
from gzmqsource.transfer.message import AnyMessage
from gzmqsource.workers._envelope import error_payload, payload_of, split

#: Takes the frames of a request's payload, and returns or yields those of the reply.
Answer: TypeAlias = "Callable[[list[Any]], AnyMessage]"

_ENVELOPED = frozenset({zmq.ROUTER, zmq.DEALER})

_log = logging.getLogger("gzmqsource.workers")


class ResponderStats(NamedTuple):
    """What a responder has done since it was made."""

    requests: int
    """Requests that were given to the handler."""

    running: int
    """Requests that the handler is at now."""

    replies: int
    """Replies that were sent, those that tell of an error included."""

    errors: int
    """Requests whose handler raised."""

    undelivered: int
    """Replies whose peer is gone, or takes no more."""

    malformed: int
    """Messages without an envelope, or without a payload."""


class Responder:
    """Answers requests, of a `gzmqsource.workers.Requester` or of any REQ or DEALER.

    The handler gets a request's payload and gives the reply's: it returns a bytes-like object, a
    `zmq.Frame` or an iterable of them, or it yields the frames. If it raises, the reply tells so,
    and the exception goes to the source's ``on_error``, or to ``hub.handle_error``. If its greenlet
    is killed there is no reply: who asked may ask again. It is a context manager that stops it.

    Parameters
    ----------
    source : Source
        A ROUTER, or a DEALER behind a proxy, without a handler. The responder owns it from now on.
    handler : callable
        ``handler(payload)``.
    spawn : int, gevent.pool.Pool, callable or None
        Where the handler runs, as for `gzmqsource.Source`. While a pool is full no request is read.
    tracebacks : bool
        Whether who asked is told where the handler raised, too.

    Raises
    ------
    ValueError
        The source is neither, or has a handler.
    """

    #: How many requests are handled at a time if it is not told, enough for handlers that wait,
    #: and few enough to leave a flood of requests with ZeroMQ.
    default_pool = 100

    def __init__(
        self,
        source: Source,
        handler: Answer,
        spawn: object = default_pool,
        *,
        tracebacks: bool = False,
    ) -> None:
        if source.socket.get(zmq.TYPE) not in _ENVELOPED:
            raise ValueError(f"{source!r}: a Responder answers through a ROUTER or a DEALER")
        if not callable(handler):
            raise TypeError(f"handler={handler!r}: a Responder calls it with each request")
        self._source = source
        self._handler = handler
        self._tracebacks = tracebacks
        self._requests = self._running = self._replies = self._errors = 0
        self._undelivered = LimitedWarning(_log, "a reply could not be delivered: %s")
        self._malformed = LimitedWarning(_log, "a malformed request was dropped: %s")
        source.set_handle(self._asked, spawn)

    @classmethod
    def open(
        cls,
        handler: Answer,
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        context: zmq.Context[Any] | None = None,
        spawn: object = default_pool,
        tracebacks: bool = False,
        **socket_options: Any,
    ) -> Responder:
        """Make the source too.

        With *bind* it is a ROUTER that knows of peers that are gone (``ROUTER_MANDATORY``) and
        drops and counts the replies that one peer does not take, so that it holds up nobody else.
        With *connect* alone it is a DEALER, for the backend of a proxy.

        Parameters
        ----------
        bind, connect, context, **socket_options
            As for `gzmqsource.Source.open`.
        handler, spawn, tracebacks
            As for the constructor.
        """
        if not bind and not connect:
            raise ValueError("a Responder needs an endpoint to bind or to connect")
        if bind:
            options = {"router_mandatory": 1, **socket_options}
            source = Source.open(
                zmq.ROUTER,
                bind=bind,
                connect=connect,
                context=context,
                overflow="drop_newest",
                **options,
            )
        else:
            source = Source.open(zmq.DEALER, connect=connect, context=context, **socket_options)
        try:
            return cls(source, handler, spawn, tracebacks=tracebacks)
        except BaseException:
            source.close()
            raise

    @property
    def source(self) -> Source:
        """The source that it answers through."""
        return self._source

    @property
    def closed(self) -> bool:
        """Whether its source is closed."""
        return self._source.closed

    def start(self) -> None:
        """Begin to take requests."""
        self._source.start()

    def stop(self, timeout: float | None = None) -> int:
        """Take no more requests, finish those that run, send their replies, and close.

        Parameters
        ----------
        timeout : float or None
            Seconds for all of it; None for the source's `stop_timeout`. What still runs then is
            killed.

        Returns
        -------
        int
            How many requests were taken and not answered, and replies not sent.
        """
        unsent = self._source.stop(timeout)
        dropped = self._source.stats().dropped
        return len(unsent) + dropped.get("killed", 0) + dropped.get("unhandled", 0)

    def close(self) -> None:
        """Close at once; see `gzmqsource.Source.close`."""
        self._source.close()

    def serve_forever(self, stop_timeout: float | None = None) -> None:
        """Start, and wait until it is closed; see `gzmqsource.Source.serve_forever`."""
        self._source.serve_forever(stop_timeout)

    def stats(self) -> ResponderStats:
        """Give a snapshot of what it has done."""
        return ResponderStats(
            requests=self._requests,
            running=self._running,
            replies=self._replies,
            errors=self._errors,
            undelivered=self._undelivered.count + self._source.stats().dropped.get("newest", 0),
            malformed=self._malformed.count,
        )

    def __enter__(self) -> Responder:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._running} running, over {self._source!r}>"

    def _asked(self, message: list[Any]) -> None:
        """Answer one request."""
        try:
            envelope, payload = split(message)
        except ValueError as error:
            self._malformed(error)
            return
        self._requests += 1
        self._running += 1
        try:
            self._reply(envelope, self._answer(payload, message))
        finally:
            self._running -= 1

    def _answer(self, payload: list[Any], message: list[Any]) -> list[Any]:
        try:
            return payload_of(self._handler(payload))
        except (Exception, gevent.Timeout) as error:
            # Reported, but not raised: the source would take it for its own trouble and slow down.
            self._errors += 1
            self._source.report(error, message)
            return error_payload(error, self._tracebacks)

    def _reply(self, envelope: list[Any], payload: list[Any]) -> None:
        try:
            self._source.send(envelope + payload)
            self._replies += 1
        except SendError as error:
            self._undelivered(error)
        except SourceClosed:
            self._undelivered("the source was closed meanwhile")
