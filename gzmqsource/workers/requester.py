"""Asking: any number of greenlets and native threads over one DEALER."""

from __future__ import annotations

import itertools
import logging
import os
from typing import Any, Literal, NamedTuple, get_args

import gevent
import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.event import AsyncResult
from gevent.hub import get_hub
from gevent.queue import Full

from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._base.event import Event
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._socket.budget import yield_to_io
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
from gzmqsource.workers._calls import AnyCall, Call, ForeignCall, SubmittedCall
from gzmqsource.workers._clock import Clock
from gzmqsource.workers._envelope import error_in, payload_of

#: What happens to the requests that are not answered when a connection is lost.
Lost = Literal["wait", "fail", "retry"]

_log = logging.getLogger("gzmqsource.workers")


class RequesterStats(NamedTuple):
    """What a requester has done since it was made."""

    requests: int
    """Requests that were made."""

    outstanding: int
    """Requests that wait for their reply now."""

    retries: int
    """How often a request was sent again."""

    timeouts: int
    """Requests that were given up because no reply came."""

    lost: int
    """Requests that were given up because a connection was lost."""

    late: int
    """Replies that nobody waited for any more, for their request was given up or answered."""

    unknown: int
    """Replies to what was never asked here, or without an envelope."""


class Requester:
    """Asks for many greenlets, and for native threads, over one DEALER.

    Each request goes out with a correlation frame and the empty delimiter in front, so that a REP
    or ROUTER of any language can answer, in any order. Over several connections libzmq gives each
    request to the next peer that has room. It is a context manager that stops it.

    Parameters
    ----------
    source : Source
        A DEALER without a handler. The requester owns it from now on.
    lost : {"wait", "fail", "retry"}
        What happens to requests that are not answered when a connection is lost. Which peer has
        which request libzmq does not tell, so with several peers it is all of them. ``"wait"``:
        nothing, they have their timeouts. ``"fail"``: they raise `PeerLost` at once. ``"retry"``:
        they are sent again at once if they have retries left, and raise `PeerLost` if not.

    Raises
    ------
    ValueError
        The source is no DEALER, has a handler, or *lost* is something else.
    """

    #: Seconds that `stop` takes at most if it is not told.
    stop_timeout = 1.0

    #: How many turns are given to replies that are there already when a connection is lost. A turn
    #: takes up to 5000; other peers' replies, which go on coming, must not put it off for ever.
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
        # A reply to an earlier process with the same routing id must not fit.
        self._prefix = os.urandom(8)
        self._numbers = itertools.count()
        self._pending: dict[bytes, AnyCall] = {}
        self._idle = Event()
        self._clock = Clock(self._expire)
        self._ending = False
        self._requests = self._retries = self._timeouts = self._given_up = self._late = 0
        self._unknown = LimitedWarning(_log, "a reply that answers nothing was dropped: %s")
        source.set_handle(self._answered)
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
        """Make the source too.

        Parameters
        ----------
        connect, bind, context, **socket_options
            As for `gzmqsource.Source.open`.
        lost
            As for the constructor.
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
        """Ask, and wait for the reply. From any greenlet, hub or native thread.

        If the greenlet is killed while it waits, its request is forgotten, and a reply dropped.

        Parameters
        ----------
        message
            The payload: a bytes-like object, a `zmq.Frame`, or an iterable of them.
        timeout : float or None
            Seconds to wait for a reply, each time that it is sent; None for ever.
        retries : int
            How often it is sent again when the timeout ends. The server may then do it more than
            once; the first reply counts, whichever time it answers.

        Returns
        -------
        list of bytes
            The frames of the reply.

        Raises
        ------
        RequestTimeout
            No reply came.
        RemoteError
            The handler of a `gzmqsource.workers.Responder` raised.
        PeerLost
            See the constructor.
        SourceClosed
            This requester was closed, before or while it waited.
        TypeError, ValueError
            *message*, *timeout* or *retries* is not what it should be; nothing was sent.
        """
        if get_hub_if_exists() is not self._hub:
            return self._request_from_elsewhere(message, timeout, retries)
        call = Call(self._hub, self._frames(message, timeout, retries), timeout, retries)
        try:
            self._begin(call)
            outcome: list[Any] | Exception = call.get()
        except BaseException:
            self._take(call.frames[0])
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def submit(
        self, message: AnyMessage, timeout: float | None = None, retries: int = 0
    ) -> AsyncResult[Any]:
        """Ask, and give a `gevent.event.AsyncResult` of the reply or the error.

        It waits only while the outbox is full, and that may end in an error of the result, too.
        Arguments and errors are those of `request`; it belongs to the greenlets of one hub.
        """
        if get_hub_if_exists() is not self._hub:
            raise InvalidThreadUseError(
                f"{type(self).__name__} belongs to another hub: use request() here"
            )
        call = SubmittedCall(self._frames(message, timeout, retries), timeout, retries)
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
        """Take no more requests, wait until all are answered, and close.

        Parameters
        ----------
        timeout : float or None
            Seconds for all of it; None for `stop_timeout`.

        Returns
        -------
        int
            How many requests were not answered; each has raised `SourceClosed`.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        self._ending = True
        while self._pending and not self._source.closed:
            self._idle.clear()
            if not self._idle.wait(deadline.left()):
                break
        unanswered = len(self._pending)
        self._stop_watching()
        self._source.stop(deadline.left())
        return unanswered

    def close(self) -> None:
        """Close at once; every request that waits raises `SourceClosed`."""
        self._ending = True
        self._stop_watching()
        self._source.close()

    def stats(self) -> RequesterStats:
        """Give a snapshot of what it has done."""
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

    def _frames(self, message: AnyMessage, timeout: float | None, retries: int) -> list[Any]:
        """Check what is asked for, and put the envelope in front of it."""
        if self._ending:
            raise SourceClosed(f"{type(self).__name__} takes no more requests")
        check_timeout(timeout)
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries={retries!r}: how often to send again, an int from 0 up")
        payload = [message] if type(message) is bytes else payload_of(message)
        self._requests += 1
        return [self._prefix + next(self._numbers).to_bytes(8, "big"), b"", *payload]

    def _begin(self, call: Call | SubmittedCall) -> None:
        """Send a request for the first time, and start its clock."""
        timeout = call.timeout
        self._pending[call.frames[0]] = call
        try:
            self._source.send_nowait(call.frames)
        except Full:
            deadline = Deadline(timeout)
            try:
                self._source.send(call.frames, timeout=timeout)
            except Full:
                self._give_up(call, "no room in the outbox")
                return
            timeout = deadline.left()
        if timeout is not None and call.frames[0] in self._pending:
            self._clock.start(call, timeout)

    def _expire(self, call: Call | SubmittedCall) -> None:
        """Send a request again whose time is over, or give it up."""
        if call.frames[0] not in self._pending or self._source.closed:
            return  # it was answered, or is about to be told that the source is closed
        if call.retries:
            self._ask_again(call)
        else:
            queued = self._source.withdraw(call.frames)
            self._give_up(call, "never sent" if queued else "no reply")

    def _ask_again(self, call: Call | SubmittedCall) -> None:
        """Send a request once more; if there is no room for it, that was this time."""
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
        """End a request; False if there is none, or it was ended before."""
        call = self._take(key)
        if call is not None:
            call.settle(outcome)
        return call is not None

    def _take(self, key: bytes) -> AnyCall | None:
        """Take a request out of the table. One of all who try gets it, whatever their thread."""
        call = self._pending.pop(key, None)
        if call is not None:
            if call.deadline is not None:
                self._clock.stop(call)
            if self._ending and not self._pending:
                self._idle.set()
        return call

    def _request_from_elsewhere(
        self, message: AnyMessage, timeout: float | None, retries: int
    ) -> list[Any]:
        """Ask from another thread; replies come from the owner's hub, the clock is the caller's."""
        frames = self._frames(message, timeout, retries)
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
            # The reply may come in this very moment: then it counts. No text here has the source's
            # repr, which asks the socket: that belongs to its hub.
            call.set(RequestTimeout(f"{type(self).__name__}: no reply within {timeout} s"))
            if isinstance(call.value, list):
                return call.value
            if not left or not self._retries_after(call.value):
                break
            self._retries += 1
        self._timeouts += isinstance(call.value, RequestTimeout)
        self._given_up += isinstance(call.value, PeerLost)
        raise call.value

    def _retries_after(self, error: Exception) -> bool:
        return isinstance(error, RequestTimeout) or (
            isinstance(error, PeerLost) and self._lost == "retry"
        )

    def _answered(self, message: list[Any]) -> None:
        """Give a reply to who asked."""
        key, payload = bytes(message[0]), message[2:]
        is_reply = bool(payload) and not len(message[1])
        if is_reply and self._settle(key, error_in(payload) or payload):
            return
        if is_reply and len(key) == 16 and key.startswith(self._prefix):
            self._late += 1
        else:
            self._unknown(f"{len(message)} frames, {key[:40]!r}")

    def _watch_peers(self, monitor: Monitor) -> None:
        for _ in monitor:
            asked = list(self._pending.values())
            self._hear_out()
            for call in asked:
                if call.frames[0] not in self._pending:
                    continue
                if self._lost == "retry" and call.retries and not isinstance(call, ForeignCall):
                    self._ask_again(call)
                else:
                    error = PeerLost(f"{self!r} lost a connection before the reply")
                    was_pending = self._settle(call.frames[0], error)
                    # One of another thread counts when it is given up there.
                    self._given_up += was_pending and not isinstance(call, ForeignCall)

    def _hear_out(self) -> None:
        """Let replies in that came before the connection was lost: its event may overtake them."""
        source = self._source
        for _ in range(self.max_turns):
            if source.closed:
                return
            events = int(source.socket.get(zmq.EVENTS))
            if not events & zmq.POLLIN and not source.stats().in_hand:
                return
            yield_to_io(self._hub)

    def _stop_watching(self) -> None:
        if self._monitor is not None:
            self._monitor.close()

    def _ended(self, source: Source) -> None:
        """Tell everybody who waits that the source is closed."""
        self._stop_watching()
        try:
            source.check()
        except SourceClosed as error:
            for key in list(self._pending):
                self._settle(key, error)
            self._clock.close()
