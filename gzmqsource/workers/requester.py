"""Sending requests: any number of greenlets and native threads over one DEALER."""

from __future__ import annotations

import functools
import itertools
import logging
import os
from collections.abc import Iterable
from typing import Any, get_args

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.event import AsyncResult
from gevent.hub import get_hub
from gevent.queue import Full

from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._base.event import Event
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.opening import Endpoints
from gzmqsource._source.source import Source
from gzmqsource.errors import (
    InvalidThreadUseError,
    PeerLost,
    RequestTimeout,
    SendError,
    SourceClosed,
)
from gzmqsource.monitor import Monitor
from gzmqsource.transfer.message import AnyMessage
from gzmqsource.workers._calls import AnyCall, Call, ForeignCall, Lost, SubmittedCall
from gzmqsource.workers._clock import Clock
from gzmqsource.workers._envelope import error_in, payload_of
from gzmqsource.workers._stats import RequesterStats
from gzmqsource.workers._turns import hear_out, in_turns

_log = logging.getLogger("gzmqsource.workers")


class Requester:
    """Sends the requests of many greenlets and native threads over one DEALER.

    A correlation frame and the empty delimiter precede each request, so that a REP or ROUTER in any
    language can reply, in any order. Over several connections, libzmq sends each request to the
    next peer that has room. As a context manager, a requester is stopped at the end of the block.

    Parameters
    ----------
    source : Source
        A DEALER without a handler. The requester owns it from now on.
    lost : {"wait", "fail", "retry"}
        What happens to outstanding requests when a connection is lost. libzmq does not report which
        peer has which request, so with several peers it happens to all of them. ``"wait"``:
        nothing; they have their timeouts. ``"fail"``: they raise `PeerLost` at once. ``"retry"``:
        they are sent again at once if they have retries left, and raise `PeerLost` if not.

    Raises
    ------
    ValueError
        The source is not a DEALER, or has a handler; or *lost* is none of the above.
    InvalidThreadUseError, SourceClosed
        The source belongs to the hub of another thread, or is closed.
    """

    __module__ = "gzmqsource.workers"

    #: The most seconds that `stop` takes if no timeout is passed.
    stop_timeout = 1.0

    #: When a connection is lost or a timeout ends, the most turns for replies that are there
    #: already.
    max_turns = 100

    def __init__(self, source: Source, *, lost: Lost = "wait") -> None:
        if lost not in get_args(Lost):
            raise ValueError(f"lost={lost!r}: use one of {', '.join(get_args(Lost))}")
        if source.socket.get(zmq.TYPE) != zmq.DEALER:
            raise ValueError(f"{source!r}: a Requester asks through a DEALER")
        self._source = source
        self._sender = source.sender()
        self._hub = get_hub()
        self._lost = lost
        # A reply to an earlier process with the same routing id must not match.
        self._prefix = os.urandom(8)
        self._numbers = itertools.count()
        self._pending: dict[bytes, AnyCall] = {}
        self._idle = Event()
        self._hear_out = functools.partial(hear_out, source, self.max_turns)
        self._clock = Clock(self._expire, self._hear_out)
        self._ending = False
        self._requests = self._retries = self._timeouts = self._given_up = self._late = 0
        self._unknown = LimitedWarning(_log, "a reply that answers nothing was dropped: %s")
        self._lost_peer = LimitedWarning(_log, "a connection was lost: %s")
        source.set_handle(self._answered)
        source._own("requester", self, self.stats)
        source.rawlink(self._ended)
        source.start()
        self._monitor = Monitor(source, zmq.EVENT_DISCONNECTED) if lost != "wait" else None
        if self._monitor is not None:
            gevent.spawn(self._watch_peers, self._monitor)

    @classmethod
    def open(
        cls,
        connect: Endpoints = (),
        *,
        bind: Endpoints = (),
        context: zmq.Context[Any] | None = None,
        lost: Lost = "wait",
        **socket_options: Any,
    ) -> Requester:
        """Make a DEALER, and a requester that owns it.

        Parameters
        ----------
        connect, bind : str or iterable of str
            The endpoints to connect, and those to bind.
        context : zmq.Context, optional
            The context of the socket; ``zmq.Context.instance()`` if not passed.
        lost : {"wait", "fail", "retry"}
            As for the constructor.
        **socket_options
            As for `gzmqsource.Source.open`; its own parameters, such as *outbox*, are also allowed.

        Raises
        ------
        zmq.ZMQError
            libzmq refuses an option or an endpoint; no socket is left open.
        ValueError
            *lost* is none of the above.
        """
        source = Source.open(
            zmq.DEALER, connect=connect, bind=bind, context=context, **socket_options
        )
        try:
            return cls(source, lost=lost)
        except BaseException:
            source.close()
            raise

    def request(
        self, message: AnyMessage, timeout: float | None = None, retries: int = 0
    ) -> list[Any]:
        """Send a request, and wait for its reply; from any greenlet, hub or native thread.

        If the greenlet is killed, the request is withdrawn if it is queued, or its reply dropped.

        Parameters
        ----------
        message
            The payload: a bytes-like object, a `zmq.Frame`, or an iterable of them.
        timeout : float or None
            Seconds to wait for a reply to each attempt; None waits forever.
        retries : int
            How often the request is sent again when the timeout ends. The peer may then handle it
            more than once; the first reply counts, whichever attempt it replies to.

        Returns
        -------
        list of bytes or zmq.Frame
            The frames of the reply's payload.

        Raises
        ------
        RequestTimeout
            No reply came within the timeout of the last attempt.
        RemoteError
            The handler of a `gzmqsource.workers.Responder` raised.
        PeerLost
            A connection was lost, and *lost* of the constructor says to raise.
        SendError
            libzmq refuses the request.
        SourceClosed
            This requester was stopped or closed, before or while the request waited.
        TypeError, ValueError
            *message*, *timeout* or *retries* is invalid; nothing was sent.
        """
        timeout = check_timeout(timeout)
        frames = self._frames(message, retries)
        if get_hub_if_exists() is not self._hub:
            return self._ask_elsewhere(frames, timeout, retries)
        call = Call(self._hub, frames, timeout, retries)
        try:
            self._begin(call)
            outcome: list[Any] | Exception = call.get()
        except BaseException:
            if self._take(call.frames[0]) is not None and not self._source.closed:
                self._source.withdraw(call.frames)
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def submit(
        self, message: AnyMessage, timeout: float | None = None, retries: int = 0
    ) -> AsyncResult[Any]:
        """Send a request, and return a `gevent.event.AsyncResult` of its reply or its error.

        It waits only while the outbox is full; if that takes longer than *timeout*, the result has
        the error.

        Parameters
        ----------
        message
            The payload, as for `request`.
        timeout : float or None
            Seconds to wait for a reply to each attempt; None waits forever.
        retries : int
            How often the request is sent again when the timeout ends.

        Raises
        ------
        InvalidThreadUseError
            The requester belongs to the hub of another thread, where only `request` may be called.
        SendError, SourceClosed, TypeError, ValueError
            As for `request`; the result has all other errors.
        """
        if get_hub_if_exists() is not self._hub:
            raise InvalidThreadUseError(
                f"{type(self).__name__} belongs to another hub: use request() here"
            )
        timeout = check_timeout(timeout)
        call = SubmittedCall(self._frames(message, retries), timeout, retries)
        try:
            self._begin(call)
        except BaseException:
            self._take(call.frames[0])
            raise
        return call

    @property
    def closed(self) -> bool:
        """Whether its source is closed."""
        return self._source.closed

    def stop(self, timeout: float | None = None) -> int:
        """Accept no more requests, wait until all are answered, and close.

        Parameters
        ----------
        timeout : float or None
            Seconds to take at most; None for `stop_timeout`.

        Returns
        -------
        int
            How many requests were not answered; each has raised `SourceClosed`.

        Raises
        ------
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            The requester belongs to the hub of another thread.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        self._ending = True
        while self._pending and not self._source.closed:
            self._idle.clear()
            if not self._idle.wait(deadline.left()):
                self._hear_out()
                break
        unanswered = len(self._pending)
        self._stop_watching()
        self._source.stop(deadline.left())
        return unanswered

    def close(self) -> None:
        """Close at once; every outstanding request raises `SourceClosed`.

        Raises
        ------
        InvalidThreadUseError
            The requester belongs to the hub of another thread.
        """
        self._ending = True
        self._stop_watching()
        self._source.close()

    def stats(self) -> RequesterStats:
        """Return a snapshot of what the requester has done."""
        return RequesterStats(
            requests=self._requests,
            outstanding=len(self._pending),
            retries=self._retries,
            timeouts=self._timeouts,
            lost=self._given_up,
            late=self._late,
            unknown=self._unknown.count,
        )

    def __enter__(self) -> Requester:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._pending)} outstanding, over {self._source!r}>"

    def _frames(self, message: AnyMessage, retries: int) -> list[Any]:
        """Check a request, and return it with its envelope."""
        if self._ending:
            raise SourceClosed(f"{type(self).__name__} takes no more requests")
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries={retries!r}: how often to send again, an int from 0 up")
        payload = [message] if type(message) is bytes else payload_of(message)
        self._requests += 1
        return [self._prefix + next(self._numbers).to_bytes(8, "big"), b"", *payload]

    def _begin(self, call: Call | SubmittedCall) -> None:
        """Send a request for the first time, and set its deadline."""
        timeout = call.timeout
        self._pending[call.frames[0]] = call
        try:
            self._source.send_nowait(call.frames)
        except Full:
            deadline = Deadline(timeout)
            try:
                self._source.send(call.frames, timeout=timeout)
            except Full:
                self._expire(call, "no room in the outbox")
                return
            timeout = deadline.left()
        if timeout is not None and call.frames[0] in self._pending:
            self._clock.start(call, timeout)

    def _expire(self, call: Call | SubmittedCall, reason: str = "no reply") -> None:
        """Send a request again after its timeout, or give it up."""
        if call.frames[0] not in self._pending or self._source.closed:
            return  # it was answered, or is about to fail because the source is closed
        if call.retries:
            self._ask_again(call)
        else:
            queued = self._source.withdraw(call.frames)
            self._give_up(call, "never sent" if queued else reason)

    def _ask_again(self, call: Call | SubmittedCall) -> None:
        """Send a request once more; if there is no room for it, this attempt just times out."""
        call.retries -= 1
        self._retries += 1
        if call.timeout is not None:
            self._clock.stop(call)
            self._clock.start(call, call.timeout)
        try:
            self._source.withdraw(call.frames)
            self._source.send_nowait(call.frames)
        except Full:
            pass
        except (SourceClosed, SendError) as error:
            self._settle(call.frames[0], error)

    def _give_up(self, call: Call | SubmittedCall, reason: str) -> None:
        error = RequestTimeout(f"{self!r}: {reason} within {call.timeout} s")
        self._timeouts += self._settle(call.frames[0], error)

    def _settle(self, key: bytes, outcome: list[Any] | Exception) -> bool:
        """End a request; return False if it has ended before."""
        call = self._take(key)
        if call is not None:
            call.settle(outcome)
        return call is not None

    def _take(self, key: bytes) -> AnyCall | None:
        """Remove a request from the table, and return it to only one caller, in whatever thread."""
        call = self._pending.pop(key, None)
        if call is not None:
            if call.deadline is not None:
                self._clock.stop(call)
            if self._ending and not self._pending:
                self._idle.set()
        return call

    def _ask_elsewhere(self, frames: list[Any], timeout: float | None, retries: int) -> list[Any]:
        """Send a request from another thread, which does its timing; the owner's hub receives."""
        again_after = (RequestTimeout, PeerLost) if self._lost == "retry" else RequestTimeout
        for left in range(retries, -1, -1):
            call = ForeignCall(frames)
            self._pending[frames[0]] = call
            try:
                self._sender.send(frames, timeout=timeout)
                call.wait(timeout)
            except Full:
                left = 0
            finally:
                self._take(frames[0])
            # A reply that comes at this very moment counts. No text here has the source's repr,
            # which reads the socket: only its hub may do that.
            call.set(RequestTimeout(f"{type(self).__name__}: no reply within {timeout} s"))
            if isinstance(call.value, list):
                return call.value
            if not left or not isinstance(call.value, again_after):
                break
            self._retries += 1
        self._timeouts += isinstance(call.value, RequestTimeout)
        self._given_up += isinstance(call.value, PeerLost)
        raise call.value

    def _answered(self, message: list[Any]) -> None:
        """Pass a reply to its request."""
        key, payload = bytes(message[0]), message[2:]
        is_reply = bool(payload) and not len(message[1])
        if is_reply and self._settle(key, error_in(payload) or payload):
            return
        if is_reply and len(key) == 16 and key.startswith(self._prefix):
            self._late += 1
        else:
            self._unknown(f"{len(message)} frames, {key[:40]!r}")

    def _watch_peers(self, monitor: Monitor) -> None:
        for event in monitor:
            asked = list(self._pending.values())
            self._lost_peer(f"{event.endpoint}, while {len(asked)} requests were outstanding")
            self._hear_out()
            for call in in_turns(asked):
                if self._source.closed:
                    return
                if call.frames[0] not in self._pending:
                    pass  # it was answered meanwhile
                elif self._lost == "retry" and call.retries and not isinstance(call, ForeignCall):
                    self._ask_again(call)
                else:
                    error = PeerLost(f"{self!r} lost a connection before the reply")
                    was_pending = self._settle(call.frames[0], error)
                    # A request of another thread is counted there.
                    self._given_up += was_pending and not isinstance(call, ForeignCall)

    def _stop_watching(self) -> None:
        if self._monitor is not None:
            self._monitor.close()

    def _ended(self, source: Source) -> None:
        """Raise in every greenlet that waits, in turns: the source is closed."""
        self._stop_watching()
        self._clock.close()
        calls = list(self._pending.values())
        # Those of other threads at once: this hub may soon run no more.
        self._fail(call for call in calls if isinstance(call, ForeignCall))
        gevent.spawn(self._fail, in_turns(calls))

    def _fail(self, calls: Iterable[AnyCall]) -> None:
        """End each call with an error of its own, whose traceback no other greenlet extends."""
        for call in calls:
            try:
                self._source.check()
            except SourceClosed as error:
                self._settle(call.frames[0], error)
