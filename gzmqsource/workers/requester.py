"""Sending requests: any number of greenlets and native threads, to any number of servers."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import zmq
from gevent import getcurrent
from gevent._hub_local import get_hub_if_exists

from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._base.event import Event
from gzmqsource._source.opening import Endpoints, SourceOption
from gzmqsource._source.refusals import cannot_wait
from gzmqsource.errors import InvalidThreadUseError, RequestTimeout, SourceClosed
from gzmqsource.transfer.message import AnyMessage, FrameT
from gzmqsource.workers import _calls, _elsewhere, _hooks
from gzmqsource.workers._asking import BaseRequester
from gzmqsource.workers._calls import AnyCall, Call, ForeignCall, SubmittedCall
from gzmqsource.workers._current import current
from gzmqsource.workers._envelope import payload_of
from gzmqsource.workers._header import KEY_SIZE
from gzmqsource.workers._hooks import Hook
from gzmqsource.workers._quick import filled
from gzmqsource.workers._targets import Resolve

if TYPE_CHECKING:
    from typing_extensions import Self

    from gzmqsource.workers._calls import Submitted

_ZERO = 0


class Requester(BaseRequester[FrameT]):
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
    AttributeError, zmq.ZMQError
        As for `gzmqsource.Source.open`; no socket is left open.
    TypeError, ValueError
        There is no endpoint, a number is out of range, an argument is of another type, or an option
        is one that the requester sets itself.
    """

    __module__ = "gzmqsource.workers"

    #: The most seconds that `stop` takes if no timeout is passed.
    stop_timeout = 1.0

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Requester[bytes],
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
            copy: Literal[True] = True,
            **socket_options: SourceOption,
        ) -> None: ...

        @overload
        def __init__(
            self: Requester[zmq.Frame],
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
            copy: Literal[False],
            **socket_options: SourceOption,
        ) -> None: ...

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    @overload
    @classmethod
    def open(
        cls,
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
        copy: Literal[True] = True,
        **socket_options: SourceOption,
    ) -> Self: ...

    @overload
    @classmethod
    def open(
        cls,
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
        copy: Literal[False],
        **socket_options: SourceOption,
    ) -> Requester[zmq.Frame]: ...

    @classmethod
    def open(cls, connect: Endpoints = (), **options: Any) -> Requester[Any]:
        """Make a requester; the parameters and the errors are those of the constructor."""
        return cls(connect, **options)

    def request(
        self,
        message: AnyMessage,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
    ) -> list[FrameT]:
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
            handled the request by then; a `gzmqsource.workers.Responder` handles it once while it
            keeps the reply (*dedup*), which it sends again. A refused request has not begun, and
            does not use up a retry.
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
        frames = [b"", b"", message] if type(message) is bytes else _frames_of(message)
        if timeout is not None:
            timeout = check_timeout(timeout)
        # By identity: an empty list is false as well. Any other object is checked.
        is_usual = retries is _ZERO and priority is _ZERO
        if not is_usual or self._stopping or current.get() is not None:
            timeout = self._checked(timeout, retries, priority)
        if self._hooks or priority or get_hub_if_exists() is not self._hub:
            return self._ask_in_another_way(frames, timeout, retries, priority)
        return self._ask(filled(Call(self._hub), self._next_key(), frames, timeout, retries))

    def submit(
        self,
        message: AnyMessage,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
    ) -> Submitted[FrameT]:
        """Send a request, and return a `gevent.event.AsyncResult` of its reply or its error.

        This waits only while *max_outstanding* requests are outstanding; if that takes longer than
        *timeout*, the result has the error.

        The parameters are those of `request`.

        Raises
        ------
        InvalidThreadUseError
            The requester belongs to the hub of another thread, where only `request` may be called.
        RequestTimeout
            This is called in a responder's handler, and the time of its request is over.
        SendError, SourceClosed, TypeError, ValueError
            As for `request`; the result has all other errors.
        """
        if get_hub_if_exists() is not self._hub:
            raise InvalidThreadUseError(
                f"{self!r} belongs to the hub of another thread: only request() works here"
            )
        frames = _frames_of(message)
        timeout = self._checked(timeout, retries, priority)
        call = filled(SubmittedCall(), self._next_key(), frames, timeout, retries)
        _calls.set_priority(call, priority)
        if self._hooks:
            request = _hooks.before(self._hooks, call, self._servers.names)
            call.on_end = functools.partial(_hooks.after, self._hooks, call, request)
        try:
            self._begin(call)
            if call.place is self._dispatcher.wanting:
                call.admitted = Event()
                call.admitted.wait()
        except BaseException as error:
            self._counts.cancelled += self._dispatcher.leave(call)
            if call.on_end is not None:
                call.on_end(error)
            raise
        return call  # type: ignore[return-value]

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
        gevent.exceptions.BlockingSwitchOutError
            The call would have to wait in a callback of the hub. Nothing has changed.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        self._enter()
        dispatcher = self._dispatcher
        if dispatcher.outstanding and getcurrent() is self._hub:
            raise cannot_wait(self, "requester.stop")
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _checked(self, timeout: float | None, retries: int, priority: int) -> float | None:
        """Check the arguments of a request; return the seconds that it has."""
        self._check_open()
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
        if self._stopping:  # since hooks have run
            raise self._closed_error()
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
        self, frames: list[Any], timeout: float | None, retries: int, priority: int
    ) -> list[Any]:
        """Make a request from another thread, with hooks, or with a priority."""
        call: Any
        if get_hub_if_exists() is self._hub:
            call = filled(Call(self._hub), self._next_key(), frames, timeout, retries)
            ask = self._ask
        else:
            call = filled(ForeignCall(), os.urandom(KEY_SIZE), frames, timeout, retries)
            begin, give_up = self._begin_elsewhere, self._give_up
            hub, posted = self._hub, self._posted
            ask = functools.partial(_elsewhere.ask, hub, posted, begin, give_up, self)
        _calls.set_priority(call, priority)
        return _hooks.around(self._hooks, call, self._servers.names, ask)

    def _check_open(self) -> None:
        if self._stopping:
            raise self._closed_error()

    def _begin(self, call: AnyCall) -> None:
        """Begin with a request after the hooks, or of another thread."""
        self._check_open()
        self._dispatcher.begin(call)

    def _begin_elsewhere(self, call: ForeignCall) -> None:
        """Begin with a request of another thread, unless its time was over before this hub ran."""
        if call.value is None:
            self._begin(call)
        elif not isinstance(call.value, SourceClosed):  # those were counted at the close
            self._count_given_up(call)


def _frames_of(message: AnyMessage) -> list[Any]:
    """Check a payload, and return the frames of its request, whose header is not made yet."""
    return [b"", b"", *payload_of(message)]
