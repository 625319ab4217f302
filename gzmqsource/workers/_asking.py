"""The life of a requester: its connections, from the first one to the end of the last."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic

import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.hub import get_hub

from gzmqsource._base.fork import abandon_in_child
from gzmqsource._base.hubs import end_with_thread
from gzmqsource._base.lasting import Lasting
from gzmqsource._source.opening import Endpoints, SourceOption, each_of
from gzmqsource._source.source import Source
from gzmqsource.errors import InvalidThreadUseError, RequestTimeout, SourceClosed, SourceForked
from gzmqsource.transfer.message import FrameT
from gzmqsource.workers import _hooks, _reasons
from gzmqsource.workers._calls import AnyCall, ForeignCall
from gzmqsource.workers._counts import Counts
from gzmqsource.workers._dispatcher import Dispatcher
from gzmqsource.workers._header import NO_KEY, Header, Keys, Kind, milliseconds
from gzmqsource.workers._hooks import Hook
from gzmqsource.workers._link import Opening
from gzmqsource.workers._seconds import checked_dead_after
from gzmqsource.workers._servers import Servers
from gzmqsource.workers._stats import EndpointStats, RequesterStats, summary
from gzmqsource.workers._targets import Resolve
from gzmqsource.workers._turns import in_turns


class BaseRequester(Generic[FrameT]):
    """The life of a `gzmqsource.workers.Requester`, which adds the requests."""

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
        **socket_options: SourceOption,
    ) -> None:
        endpoints, bound = each_of(connect, "connect"), each_of(bind, "bind")
        if not endpoints and not bound:
            raise ValueError("a Requester needs an endpoint: pass connect=... or bind=...")
        dead_after = checked_dead_after(dead_after)
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
        self._posted: set[ForeignCall] = set()  # of other threads, and not taken over yet
        #: The calls that are about to fail because this was closed.
        self._failing: deque[AnyCall] = deque()
        self._linger: int | None = None
        self._ends = Lasting(self._fail_all)
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

    @property
    def closed(self) -> bool:
        """Whether it was stopped or closed, or has lost its sockets."""
        return self._closed or self._forked

    def stats(self) -> RequesterStats:
        """Return a snapshot of what the requester has done."""
        return self._counts.snapshot(self._dispatcher.outstanding, self._dispatcher.waiting)

    def endpoints(self) -> list[EndpointStats]:
        """Return a snapshot of its connections; any thread may call this."""
        return [each.snapshot() for each in list(self._dispatcher.connections)]

    def __repr__(self) -> str:
        outstanding = self._dispatcher.outstanding
        # Errors contain it, and there may be hundreds of connections, of which it shows a few.
        connections = summary(list(self._dispatcher.connections), self._servers.names)
        return f"<{type(self).__name__} {outstanding} outstanding, {connections}>"

    def abandon(self) -> None:
        """Leave everything to the parent process, in a forked child."""
        self._forked = self._stopping = True

    def thread_ended(self) -> None:
        """Fail all requests: nothing here takes their replies any more.

        Those of other threads raise. Greenlets of this one do not run any more.
        """
        self._closed = self._stopping = True
        calls = self._dispatcher.abandon()
        self._counts.failed += len(calls)
        for call in calls:
            if isinstance(call, ForeignCall):
                call.settle(SourceClosed(f"{type(self).__name__}: its thread has ended"))
        self._fail_posted(f"{type(self).__name__}: its thread has ended")

    def _expire(self, call: AnyCall) -> None:
        """Give up a request whose time is over."""
        if self._closed or call.place is None or call.key not in call.place:
            return  # it was answered, or is about to fail because this is closed
        error = _reasons.timed_out(self, self._dispatcher, call, self._servers.names)
        self._counts.timeouts += self._dispatcher.give_up(call, error)

    def _give_up(self, call: ForeignCall) -> None:
        """Note that the thread of a call no longer waits."""
        if self._dispatcher.leave(call):
            self._count_given_up(call)

    def _count_given_up(self, call: ForeignCall) -> None:
        if isinstance(call.value, RequestTimeout):
            self._counts.timeouts += 1
        else:
            self._counts.cancelled += 1

    def _carry(self, source: Source) -> None:
        if self._carrier is None or self._carrier.closed:
            self._carrier = source
            source._own("requester", self, self.stats)

    def _broke(self, source: Source) -> None:
        """Close, because libzmq has taken a socket away, or its thread or hub has ended."""
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
        self._linger = linger
        self._failing.extend(self._dispatcher.calls())
        self._ends.start()  # first: it also does what an exception leaves undone here
        self._close_all()

    def _close_all(self) -> None:
        self._closed = self._stopping = True
        self._dispatcher.close()
        # Those of other threads at once: this hub may soon run no more.
        for call in list(self._failing):
            if isinstance(call, ForeignCall):
                self._fail(call)
        self._fail_posted()
        self._servers.close(self._linger)

    def _fail_all(self) -> None:
        self._close_all()
        for call in in_turns(list(self._failing)):
            self._fail(call)
            self._failing.popleft()

    def _fail_posted(self, why: str = "") -> None:
        """End the calls of other threads that this hub has yet to take over: it may never."""
        for call in list(self._posted):
            error = SourceClosed(why) if why else self._closed_error()
            self._counts.failed += call.set(error)

    def _fail(self, call: AnyCall) -> None:
        """End a call with an error of its own, whose traceback no other greenlet extends."""
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
