"""Replying to requests: a handler is called with each one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import gevent
import zmq
from gevent.queue import Full

from gzmqsource._base.reports import peer_of
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.opening import Endpoints
from gzmqsource._source.source import Source
from gzmqsource.errors import SendError, SourceClosed
from gzmqsource.transfer.message import AnyMessage, Message, as_frames
from gzmqsource.workers._envelope import error_payload, payload_of, reports_error, split
from gzmqsource.workers._stats import ResponderStats

#: Called with the frames of a request's payload; it returns or yields the frames of the reply.
Answer: TypeAlias = "Callable[[list[Any]], AnyMessage]"

_ENVELOPED = frozenset({zmq.ROUTER, zmq.DEALER})

_log = logging.getLogger("gzmqsource.workers")


class Responder:
    """Replies to requests, of a `gzmqsource.workers.Requester` or of any REQ or DEALER.

    The handler is called with a request's payload, and returns the payload of the reply: a
    bytes-like object, a `zmq.Frame`, or an iterable of them. It may also yield the frames. If it
    raises, the reply reports the name of the exception's class and its text, and the exception goes
    to the source's ``on_error``, or is logged. If its greenlet is killed there is no
    reply, and the peer may retry. As a context manager, a responder is stopped at the end of the
    block; call `start` in it.

    Parameters
    ----------
    source : Source
        A ROUTER, or a DEALER behind a proxy, without a handler. The responder owns it from now on.
    handler : callable
        ``handler(payload)``, where *payload* is a list of frames.
    spawn : int, gevent.pool.Pool, callable or None
        Where the handler runs, as for `gzmqsource.Source`. While all workers are in the handler,
        or a pool is full, nothing is read.
    tracebacks : bool
        Whether a reply that reports an error also has the traceback.

    Raises
    ------
    ValueError
        The source is neither a ROUTER nor a DEALER, or has a handler.
    TypeError
        *handler* cannot be called, or *spawn* is none of the above.
    InvalidThreadUseError, SourceClosed
        The source belongs to the hub of another thread, or is closed.
    """

    __module__ = "gzmqsource.workers"

    #: The default of *spawn*: enough for handlers that wait, and few enough to leave a flood of
    #: requests in libzmq.
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
        #: Requests that got no reply at all, and replies that were queued and then lost.
        self._unanswered = self._lost = 0
        self._undeliverable = LimitedWarning(_log, "a reply could not be delivered: %s")
        self._malformed = LimitedWarning(_log, "a malformed request was dropped: %s")
        source.set_handle(self._asked, spawn)
        source._own("responder", self, self._counts, self._reply_lost)

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
        """Make a socket, and a responder that owns it.

        With *bind* it is a ROUTER with ``ROUTER_MANDATORY``, which reports peers that are gone. It
        drops and counts replies that a peer does not read, so that one peer never delays others.
        libzmq keeps ``sndhwm`` of them for such a peer, 1000 by default and of any size, beside
        what *outbox* and *outbox_bytes* allow. Pass a lower one if replies are large: with 100, a
        client with 1000 small requests outstanding gets 0.4 times as many replies a second.
        With only *connect* it is a DEALER, for the backend of a proxy.

        Parameters
        ----------
        handler, spawn, tracebacks
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
        ValueError
            There is no endpoint.
        zmq.ZMQError
            libzmq refuses an option or an endpoint; no socket is left open.
        TypeError
            As for the constructor.
        """
        if not bind and not connect:
            raise ValueError("a Responder needs an endpoint to bind or to connect")
        source = open_source(Source, bind=bind, connect=connect, context=context, **socket_options)
        try:
            return cls(source, handler, spawn, tracebacks=tracebacks)
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
        self._source.start()

    def stop(self, timeout: float | None = None) -> int:
        """Read no more requests, finish those that run, send their replies, and close.

        Parameters
        ----------
        timeout : float or None
            Seconds to take at most; None for the source's `stop_timeout`. Handlers that still run
            then are killed.

        Returns
        -------
        int
            How many requests were read and not answered, plus replies not sent.

        Raises
        ------
        ValueError, InvalidThreadUseError
            As for `gzmqsource.Source.stop`.
        """
        unsent = self._source.stop(timeout)
        dropped = self._source.stats().dropped
        return len(unsent) + dropped.get("killed", 0) + dropped.get("unhandled", 0)

    def close(self) -> None:
        """Close at once; see `gzmqsource.Source.close`.

        Raises
        ------
        InvalidThreadUseError
            The responder belongs to the hub of another thread.
        """
        self._source.close()

    def serve_forever(self, stop_timeout: float | None = None) -> None:
        """Start, and wait until the responder is closed.

        Parameters
        ----------
        stop_timeout : float or None
            As for `gzmqsource.Source.serve_forever`, and so are the errors.

        Raises
        ------
        SourceBroken, InvalidThreadUseError, SourceClosed
            As for `gzmqsource.Source.serve_forever`.
        """
        self._source.serve_forever(stop_timeout)

    def stats(self) -> ResponderStats:
        """Return a snapshot of what the responder has done."""
        return ResponderStats(
            requests=self._requests,
            running=self._running,
            replies=self._replies - self._lost,
            errors=self._errors,
            undelivered=self._unanswered + self._lost,
            malformed=self._malformed.count,
        )

    def _counts(self) -> dict[str, int]:
        """Return the numbers for a collector: none but *running* goes down."""
        return {
            "requests": self._requests,
            "running": self._running,
            "replies": self._replies,
            "errors": self._errors,
            "undelivered": self._unanswered + self._lost,
            "malformed": self._malformed.count,
        }

    def __enter__(self) -> Responder:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._running} running, over {self._source!r}>"

    def _asked(self, message: list[Any]) -> None:
        """Handle one request, which counts as one thing at any moment."""
        try:
            envelope, payload = split(message)
        except ValueError as error:
            self._malformed(f"{error}, {len(message)} frames{self._from(message)}")
            return
        self._requests += 1
        self._running += 1
        is_error = is_sent = False
        reply: list[Any]
        try:
            try:
                reply = payload_of(self._handler(payload))
            except (Exception, gevent.Timeout) as error:
                is_error = True
                self._source.report(error, message)
                reply = error_payload(error, self._tracebacks)
            is_sent = self._reply(envelope, reply)
        finally:
            self._running -= 1
            if is_error:
                self._errors += 1
            elif is_sent:
                self._replies += 1
            else:
                self._unanswered += 1

    def _reply(self, envelope: list[Any], payload: list[Any]) -> bool:
        """Send a reply; return whether libzmq or the outbox has it."""
        try:
            self._source.send(envelope + payload)
        except SendError as error:
            self._undeliverable(f"{error.strerror}{self._from(envelope)}")
        except Full:
            self._undeliverable(f"the peer does not read{self._from(envelope)}")
        except SourceClosed:
            self._undeliverable(f"the source was closed meanwhile{self._from(envelope)}")
        else:
            return True
        return False

    def _reply_lost(self, messages: Sequence[Message]) -> None:
        """Count replies that were queued, and will not be sent, unless they report an error."""
        self._lost += sum(not reports_error(as_frames(message)) for message in messages)

    def _from(self, message: list[Any]) -> str:
        """Return what a line of the log says of the peer: behind a proxy, of one of the proxy's."""
        return f", peer {peer_of(message[0])}"


def open_source(kind: type[Source], *, bind: Endpoints, **options: Any) -> Source:
    """Make a source of the class *kind* for a responder, as `Responder.open` says."""
    if not bind:
        return kind.open(zmq.DEALER, **options)
    options = {"router_mandatory": 1, **options}
    return kind.open(zmq.ROUTER, bind=bind, overflow="raise", **options)
