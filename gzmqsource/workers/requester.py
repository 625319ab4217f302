"""Sending requests: any number of greenlets and native threads, to any number of servers."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.event import AsyncResult
from gevent.hub import get_hub

from gzmqsource._base.deadline import Deadline, check_positive, check_timeout
from gzmqsource._base.event import Event
from gzmqsource._base.fork import abandon_in_child
from gzmqsource._base.hubs import end_with_thread
from gzmqsource._source.opening import Endpoints, each_of
from gzmqsource._source.source import Source
from gzmqsource.errors import InvalidThreadUseError, RequestTimeout, SourceClosed, SourceForked
from gzmqsource.transfer.message import AnyMessage
from gzmqsource.workers import _calls, _elsewhere, _hooks, _reasons
from gzmqsource.workers._calls import AnyCall, Call, ForeignCall, SubmittedCall
from gzmqsource.workers._counts import Counts
from gzmqsource.workers._current import current
from gzmqsource.workers._dispatcher import Dispatcher
from gzmqsource.workers._envelope import payload_of
from gzmqsource.workers._header import NO_KEY, Header, Keys, Kind, milliseconds
from gzmqsource.workers._hooks import Hook
from gzmqsource.workers._link import Opening
from gzmqsource.workers._servers import Servers
from gzmqsource.workers._stats import EndpointStats, RequesterStats, summary
from gzmqsource.workers._targets import Resolve
from gzmqsource.workers._turns import in_turns


class Requester:
    """Sends the requests of many greenlets and native threads to one server or many.

    It has its own connection to each server. It sends each request to the connected and live
    server with the fewest outstanding requests; while there is none, requests wait, in order.
    Servers are `gzmqsource.workers.Responder` objects, with which it speaks the protocol of
    :doc:`/protocol`, or REP and ROUTER sockets in any language, which may reply in any order. Used
    as a context manager, a requester is stopped at the end of the block.

    Parameters
    ----------
    connect : str or iterable of str
        The endpoints of the servers. If a host name stands for several addresses, all of them are
        used.
    bind : str or iterable of str
        Endpoints to bind, for servers that connect. It is unknown which of them has which request:
        a request is lost only when the last of them is gone, and a stuck hub is not noticed.
    dead_after : float
        Seconds of silence after which a server that speaks the protocol counts as dead, while it
        has requests.
    max_outstanding : int
        The most requests that are outstanding, or wait for a server. Callers wait for room.
    max_outstanding_bytes : int
        The most bytes of their payloads; a single one may be larger.
    retry_budget : float
        How many requests may be sent again, as a fraction of those of the last 10 seconds, in
        addition to a hundred: so retries do not multiply an outage. A refusal does not count.
    resolve : callable, optional
        ``resolve(endpoint)`` returns the endpoints for which one of *connect* stands, instead of
        the look-up of its host name. It may wait.
    resolve_every : float
        Seconds after which endpoints are looked up again, which also happens when one is lost.
    hooks : sequence of Hook
        Called for each request.
    context : zmq.Context, optional
        The context of the sockets; ``zmq.Context.instance()`` if not passed.
    **socket_options
        As for `gzmqsource.Source.open`, for each socket, except those that the requester sets
        itself: ``immediate``, ``reconnect_ivl``, ``reconnect_ivl_max``, ``sndhwm``, ``rcvhwm``,
        *outbox* and *outbox_bytes*. ``linger`` is 1000 and ``connect_timeout`` is 5000 by default.

    Raises
    ------
    zmq.ZMQError
        libzmq refuses an option or an endpoint; no socket is left open.
    ValueError
        There is no endpoint, or a number is out of range.
    """

    __module__ = "gzmqsource.workers"

    #: The most seconds that `stop` takes if no timeout is passed.
    stop_timeout = 1.0

    def __init__(
        self,
        connect: Endpoints = (),
        *,
        bind: Endpoints = (),
        dead_after: float = 1.0,
        max_outstanding: int = 100_000,
        max_outstanding_bytes: int = 1 << 28,
        retry_budget: float = 0.2,
        resolve: Resolve | None = None,
        resolve_every: float = 30.0,
        hooks: Sequence[Hook] = (),
        context: zmq.Context[Any] | None = None,
        **socket_options: Any,
    ) -> None:
        endpoints, bound = each_of(connect, "connect"), each_of(bind, "bind")
        if not endpoints and not bound:
            raise ValueError("a Requester needs an endpoint: pass connect=... or bind=...")
        check_positive("dead_after", dead_after)
        self._hub = get_hub()
        self._hooks = _hooks.checked(hooks)
        self._next_key = Keys().next
        self._counts = Counts()
        self._dispatcher = Dispatcher(
            self._hub,
            self._counts,
            Header(Kind.PING, NO_KEY, left=milliseconds(dead_after)).encode(),
            dead_after,
            max_outstanding,
            max_outstanding_bytes,
            retry_budget,
            self._expire,
        )
        self._servers = Servers(
            self._dispatcher,
            Opening(context, socket_options, self._carry, self._broke),
            dead_after,
            resolve,
            resolve_every,
            bool(socket_options.get("ipv6")),
        )
        #: The source with which the metrics of this requester are collected.
        self._carrier: Source | None = None
        self._broken: Source | None = None
        self._stopping = self._closed = self._forked = False
        abandon_in_child(self)
        end_with_thread(self, self._hub)
        try:
            for endpoint in bound:
                self._servers.bind(endpoint)
            for endpoint in endpoints:
                self._servers.connect(endpoint)
        except BaseException:
            self._end(0)
            raise

    @classmethod
    def open(cls, connect: Endpoints = (), **options: Any) -> Requester:
        """Make a requester; the parameters and the errors are those of the constructor."""
        return cls(connect, **options)

    def request(
        self,
        message: AnyMessage,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
    ) -> list[Any]:
        """Send a request and wait for its reply, from any greenlet, hub or native thread.

        If the greenlet is killed, the request is withdrawn or cancelled: a
        `gzmqsource.workers.Responder` stops its handler. In a responder's handler, this takes at
        most the remaining time of the request on which the handler works.

        Parameters
        ----------
        message
            The payload: a bytes-like object, a `zmq.Frame`, or an iterable of them.
        timeout : float or None
            Seconds until the caller no longer waits, however often the request is sent; None waits
            forever. The server receives the remaining time.
        retries : int
            How often the request is sent again when its server is lost: when the connection is
            cut, or the server is silent, or reports that the handler was ended. The server may have
            handled the request by then; a `gzmqsource.workers.Responder` handles it once, and sends
            its reply again. A refused request has not begun, and does not use up a retry.
        priority : int
            From 0 to 255. Of the requests that wait at a server, those with a higher one go first.

        Returns
        -------
        list of bytes or zmq.Frame
            The frames of the reply's payload.

        Raises
        ------
        RequestTimeout
            No reply came within *timeout*.
        RemoteError
            The handler of a `gzmqsource.workers.Responder` raised.
        PeerLost
            The server was lost, and no retry was left.
        SendError
            libzmq refuses the request.
        SourceClosed
            This requester was stopped or closed, before or while the request waited.
        TypeError, ValueError
            *message*, *timeout*, *retries* or *priority* is invalid; nothing was sent.
        """
        payload = [message] if type(message) is bytes else payload_of(message)
        if timeout is not None:
            timeout = check_timeout(timeout)
        if retries or priority or self._stopping or current.get() is not None:
            timeout = self._checked(timeout, retries, priority)
        if self._hooks or priority or get_hub_if_exists() is not self._hub:
            return self._ask_in_another_way(payload, timeout, retries, priority)
        return self._ask(Call(self._hub, self._next_key(), payload, timeout, retries))

    def submit(
        self,
        message: AnyMessage,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
    ) -> AsyncResult[Any]:
        """Send a request, and return a `gevent.event.AsyncResult` of its reply or its error.

        This waits only while *max_outstanding* requests are outstanding; if that takes longer than
        *timeout*, the result has the error.

        The parameters are those of `request`.

        Raises
        ------
        InvalidThreadUseError
            The requester belongs to the hub of another thread, where only `request` may be called.
        SendError, SourceClosed, TypeError, ValueError
            As for `request`; the result has all other errors.
        """
        if get_hub_if_exists() is not self._hub:
            raise InvalidThreadUseError(
                f"{self!r} belongs to the hub of another thread: only request() works here"
            )
        payload = payload_of(message)
        timeout = self._checked(timeout, retries, priority)
        call = SubmittedCall(self._next_key(), payload, timeout, retries)
        _calls.set_priority(call, priority)
        if self._hooks:
            request = _hooks.before(self._hooks, call, self._servers.names)
            call.on_end = functools.partial(_hooks.after, self._hooks, call, request)
        try:
            self._dispatcher.begin(call)
            if call.place is self._dispatcher.wanting:
                call.admitted = Event()
                call.admitted.wait()
        except BaseException as error:
            self._counts.cancelled += self._dispatcher.leave(call)
            if call.on_end is not None:
                call.on_end(error)
            raise
        return call

    @property
    def closed(self) -> bool:
        """Whether it was stopped or closed, or has lost its sockets."""
        return self._closed or self._forked

    def stop(self, timeout: float | None = None) -> int:
        """Accept no more requests, wait until all are answered, and close.

        Parameters
        ----------
        timeout : float or None
            The most seconds to take; None for `stop_timeout`.

        Returns
        -------
        int
            How many requests were not answered; each has raised `gzmqsource.SourceClosed`.

        Raises
        ------
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            The requester belongs to the hub of another thread.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        self._enter()
        dispatcher = self._dispatcher
        self._stopping = dispatcher.ending = True
        while dispatcher.outstanding and not self.closed:
            dispatcher.idle.clear()
            if not dispatcher.idle.wait(deadline.left()):
                for connection in list(dispatcher.connections):
                    if connection.outstanding:
                        connection.link.hear_out()
                break
        unanswered = dispatcher.outstanding
        self._end(None)
        return unanswered

    def close(self) -> None:
        """Close at once, and cancel each outstanding request: it raises `gzmqsource.SourceClosed`.

        Raises
        ------
        InvalidThreadUseError
            The requester belongs to the hub of another thread.
        """
        self._enter()
        self._end(None)

    def stats(self) -> RequesterStats:
        """Return a snapshot of the requester's counters."""
        return self._counts.snapshot(self._dispatcher.outstanding, self._dispatcher.waiting)

    def endpoints(self) -> list[EndpointStats]:
        """Return a snapshot of its connections; any thread may call this."""
        return [each.snapshot() for each in list(self._dispatcher.connections)]

    def __enter__(self) -> Requester:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        outstanding = self._dispatcher.outstanding
        connections = summary(self.endpoints(), self._servers.names)
        return f"<{type(self).__name__} {outstanding} outstanding, {connections}>"

    def abandon(self) -> None:
        """Leave everything to the parent process, in a forked child."""
        self._forked = self._stopping = True

    def thread_ended(self) -> None:
        """Fail the requests of other threads: nothing here takes their replies any more."""
        self._closed = self._stopping = True
        for call in list(self._dispatcher.calls()):
            if isinstance(call, ForeignCall):
                call.settle(SourceClosed(f"{type(self).__name__}: its thread has ended"))

    def _checked(self, timeout: float | None, retries: int, priority: int) -> float | None:
        """Check the arguments of a request; return the seconds that it has."""
        if self._stopping:
            raise self._closed_error()
        timeout = check_timeout(timeout)
        _calls.check_numbers(retries, priority)
        handled = current.get()
        if handled is None or handled.left is None:
            return timeout
        if not handled.left:
            raise RequestTimeout(
                f"{self!r}: not sent, for the time of {handled!r} is over, in whose handler this is"
            )
        return handled.left if timeout is None else min(timeout, handled.left)

    def _ask(self, call: Call) -> list[Any]:
        try:
            self._dispatcher.begin(call)
            outcome: list[Any] | Exception = call.get()
        except BaseException:
            self._counts.cancelled += self._dispatcher.leave(call)
            raise
        if isinstance(outcome, list):
            return outcome
        raise outcome

    def _ask_in_another_way(
        self, payload: list[Any], timeout: float | None, retries: int, priority: int
    ) -> list[Any]:
        """Make a request from another thread, with hooks, or with a priority."""
        call: Any
        if get_hub_if_exists() is self._hub:
            call = Call(self._hub, self._next_key(), payload, timeout, retries)
            ask = self._ask
        else:
            call = ForeignCall(payload, timeout, retries)
            ask = functools.partial(_elsewhere.ask, self._hub, self._adopt, self._give_up, self)
        _calls.set_priority(call, priority)
        return _hooks.around(self._hooks, call, self._servers.names, ask)

    def _adopt(self, call: ForeignCall) -> None:
        """Begin with a request of another thread, unless this was closed in the meantime."""
        if self._closed:
            raise self._closed_error()
        self._dispatcher.begin(call)

    def _expire(self, call: AnyCall) -> None:
        """Give up a request whose time is over."""
        if self._closed or call.place is None or call.key not in call.place:
            return  # it was answered, or is about to fail because this is closed
        error = _reasons.timed_out(self, self._dispatcher, call, self._servers.names)
        if self._dispatcher.leave(call):
            self._counts.timeouts += 1
            call.settle(error)

    def _give_up(self, call: ForeignCall) -> None:
        """Note that the thread of a call no longer waits."""
        if self._dispatcher.leave(call):
            if isinstance(call.value, RequestTimeout):
                self._counts.timeouts += 1
            else:
                self._counts.cancelled += 1

    def _carry(self, source: Source) -> None:
        if self._carrier is None or self._carrier.closed:
            self._carrier = source
            source._own("requester", self, self.stats)

    def _broke(self, source: Source) -> None:
        """Close, because a socket is gone, or the thread or hub has ended."""
        if self._closed:
            return
        self._broken = source
        if get_hub_if_exists() is self._hub:
            self._end(0)
        else:
            self.thread_ended()

    def _enter(self) -> None:
        if get_hub_if_exists() is not self._hub and not self.closed:
            raise InvalidThreadUseError(
                f"{self!r} belongs to the hub of another thread: stop and close it there"
            )

    def _end(self, linger: int | None) -> None:
        """Close all connections, and raise in every greenlet that waits, in turns."""
        if self._closed or self._forked:
            return
        self._closed = self._stopping = True
        calls = list(self._dispatcher.calls())
        self._dispatcher.close()
        self._servers.close(linger)
        # The calls of other threads at once: this hub may not run any more soon.
        self._fail(call for call in calls if isinstance(call, ForeignCall))
        if len(calls):
            gevent.spawn(self._fail, in_turns(calls))

    def _fail(self, calls: Iterable[AnyCall]) -> None:
        """End each call with its own error, whose traceback no other greenlet extends."""
        for call in calls:
            self._counts.failed += self._dispatcher.fail(call, self._closed_error())

    def _closed_error(self) -> SourceClosed:
        """Return the error of a call that comes too late."""
        if self._forked:
            return SourceForked(
                f"{type(self).__name__} was made in the parent process: make a new one"
            )
        if self._broken is not None:
            return self._broken._core.closed_error()
        return SourceClosed(f"{self!r} takes no more requests, for it was stopped: make a new one")
