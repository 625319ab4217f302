"""The life cycle of a source, from its start to its end, as in gevent's servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic

import gevent
import zmq

from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._base.event import Event
from gzmqsource._source import neglect, registry
from gzmqsource._source.core import Core, State
from gzmqsource._source.flusher import Report
from gzmqsource._source.handlers import check_callable, check_handler
from gzmqsource._source.limits import Limits, check_limits
from gzmqsource._source.outbox import Overflow
from gzmqsource._source.puller import Puller
from gzmqsource._source.receiver import Handler, Receiver, Spawn, spawner
from gzmqsource._source.stopping import Stopping
from gzmqsource.transfer.message import FrameT, Message

if TYPE_CHECKING:
    from typing_extensions import Self

    from gzmqsource._source.stats import Stats


class BaseSource(Limits, Generic[FrameT]):
    """The life cycle of a `gzmqsource.Source`, which adds receiving and sending."""

    # The second form is the method that a subclass may define, as pyright compares it: unbound.
    #: The handler; None for a source that is pulled.
    handle: Handler[FrameT] | Callable[[Any, list[FrameT]], None] | None = None

    def __init__(
        self,
        socket: zmq.Socket[Any],
        handle: Handler[Any] | None = None,
        *,
        spawn: Spawn = None,
        outbox: int = 1000,
        outbox_bytes: int = 1 << 24,
        overflow: Overflow = "block",
        copy: bool = True,
        on_error: Report | None = None,
        ref: bool = True,
    ) -> None:
        spawner(spawn)
        check_callable("on_error", on_error)
        check_limits(self)
        self._let_handle(handle, spawn)
        if self.handle is not None:
            check_handler(self.handle)
        self._core = Core(
            type(self).__name__,
            socket,
            outbox=outbox,
            outbox_bytes=outbox_bytes,
            overflow=overflow,
            copy=copy,
            on_error=on_error,
            ref=ref,
            serves=self.handle is not None,
            limits=self,
        )
        self._shortcut_send = self._core.socket.shortcuts.send
        self._shortcut_send_now = self._core.socket.shortcuts.send_now
        self._shortcut_receive = self._core.socket.shortcuts.receive
        self._puller = Puller(self._core)
        self._receiver: Receiver | None = None
        self._links: dict[Callable[[Self], object], list[Callable[[Event], object]]] = {}
        self._stopping = Stopping(self._core, self._puller, self.quiet)
        neglect.watch(self._core, self._puller)

    @property
    def started(self) -> bool:
        """Whether it receives messages, or would if it was not paused.

        Without a handler it does so from the beginning.
        """
        return self._core.started

    @property
    def closed(self) -> bool:
        """Whether the socket is gone, or belongs to the parent process."""
        return self._core.closed

    def start(self) -> None:
        """Start calling the handler; messages that have already arrived come first.

        This does nothing to a source without a handler, or one that was already started.

        Raises
        ------
        InvalidThreadUseError
            The source belongs to the hub of another thread.
        SourceClosed
            The source is closed.
        """
        self._core.enter()
        if self._core.state is State.OPEN and self.handle is not None:
            self._core.enter_state(State.STARTED)
            self._receiver = Receiver(self._core, self.handle, self._spawn, self)

    def pause(self) -> None:
        """Stop receiving; messages stay in libzmq, whose high-water mark holds the peers back.

        Messages that were prefetched, at most one batch, are still handled.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `start`.
        """
        self._core.enter()
        self._core.pause()

    def resume(self) -> None:
        """Receive messages again, beginning with those that arrived in the meantime.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `start`.
        """
        self._core.enter()
        self._core.resume()

    def stop(self, timeout: float | None = None, drain: bool = True) -> list[list[Any]]:
        """Stop: receive messages in transit, let handlers finish, send queued messages, and close.

        The phases share one deadline. A source that is started, and not paused, continues to
        receive until no message has come for `quiet` seconds, or half of the time is over; in the
        meantime its endpoints stay bound, and greenlets that pull it get messages. Then it receives
        no more messages: `recv` raises, and handlers finish. The outbox is flushed, and libzmq
        sends its messages for as long as the socket's ``LINGER`` allows. Handlers that still run at
        the deadline are killed. The source is closed, and its endpoints are free.

        Messages that libzmq still holds unread are counted in ``stats().dropped["unread"]``. Each
        stop that has lost a message logs all such counts, as a warning, or for a SUB, XSUB or XPUB
        as an info. Messages that it returns are not in them: the caller has those.

        If the calling greenlet is killed, the source is left draining or stopping, and no message
        is lost; stop it again, or close it. Stopping a closed source does nothing. While one
        greenlet stops it, a second one waits, at most *timeout*, and returns an empty list. If a
        handler calls this, that handler is not waited for; if no other worker is left, no more
        messages are handled.

        Parameters
        ----------
        timeout : float or None
            Seconds for all phases together; None for `stop_timeout`.
        drain : bool
            Whether to receive messages in transit; if not, messages that are not read yet are lost.

        Returns
        -------
        list of list of bytes or zmq.Frame
            The messages that libzmq has not taken.

        Raises
        ------
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            The source belongs to the hub of another thread.
        gevent.exceptions.BlockingSwitchOutError
            The call would have to wait in a callback of the hub, such as a signal
            handler of `signal.signal` while no greenlet runs. Nothing has changed.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        if self._core.closed:
            return []
        self._core.enter()
        return self._stopping.run(self._receiver, deadline, drain)

    def close(self) -> None:
        """Close at once: queued and prefetched messages are dropped, and counted.

        Calls that wait raise `SourceClosed`. libzmq sends its messages for as long as the socket's
        ``LINGER`` allows. Closing a closed source does nothing.

        It waits until the endpoints are free, which takes libzmq 1 to 3 ms, but not longer than
        0.1 s, and not in a callback of the hub. If the greenlet is killed, the source is closed.

        Raises
        ------
        InvalidThreadUseError
            The source belongs to the hub of another thread.
        """
        if not self._core.closed:
            self._core.enter()
            if self._receiver is not None:
                self._core.count_dropped("unhandled", self._receiver.give_up())
            self._core.close()

    def serve_forever(self, stop_timeout: float | None = None) -> None:
        """Start, wait until the source closes, and stop it if the wait ends for another reason.

        If the greenlet is killed, or a Ctrl-C raises here, the source is stopped first, as at the
        end of a ``with`` block.

        Parameters
        ----------
        stop_timeout : float or None
            Seconds for `stop`; None for the attribute `stop_timeout`.

        Raises
        ------
        SourceBroken
            The socket is gone: libzmq reported a fatal error.
        InvalidThreadUseError, SourceClosed
            As for `start`.
        """
        check_timeout(stop_timeout, "stop_timeout")
        self.start()
        try:
            self._core.done.wait()
        finally:
            gevent.spawn(self._stop_alone, stop_timeout).join()
        if self._core.cause is not None:
            raise self._core.closed_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_alone(None)

    def ready(self) -> bool:
        """Return whether the source is closed; `gevent.wait` calls this."""
        return self._core.done.is_set()

    def rawlink(self, callback: Callable[[Self], object]) -> None:
        """Call a function in the hub once the source is closed; `gevent.wait` calls this.

        If the thread ends, the function is called at its end, when no call may use a socket.

        Parameters
        ----------
        callback : callable
            ``callback(source)``; it must not block.
        """

        def link(_event: Event) -> None:
            callback(self)

        self._links.setdefault(callback, []).append(link)
        self._core.done.rawlink(link)

    def unlink(self, callback: Callable[[Self], object]) -> None:
        """Undo one call of `rawlink`, if there was one.

        Parameters
        ----------
        callback : callable
            The function that was passed to `rawlink`.
        """
        links = self._links.get(callback)
        if links is not None:
            self._core.done.unlink(links.pop())
            if not links:
                del self._links[callback]

    def check(self) -> None:
        """Raise the error of a call in another thread, or on a closed source; otherwise do nothing.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `start`.
        """
        self._core.enter()

    def report(self, error: BaseException, message: list[Any] | None = None) -> None:
        """Report an error like one that the handler raised.

        It is passed to ``on_error``, or logged at a bounded rate if there is none, and counted.

        Parameters
        ----------
        error : BaseException
            The error.
        message : list of bytes or zmq.Frame, optional
            The message that it is about.
        """
        self._core.report(error, message)

    def stats(self) -> Stats:
        """Return a snapshot of the source's counters; any thread may call this."""
        return self._core.snapshot()

    def _let_handle(self, handle: Handler[Any] | None, spawn: Spawn) -> None:
        """Note the handler, if one is passed, and where it runs."""
        self._spawn = spawn
        if handle is not None:
            # Here alone: for pyright, `Source` would have a `handle` of its own, without a type.
            self.handle = handle

    def _own(
        self,
        kind: str,
        owner: object,
        counts: Callable[[], Any],
        lost: Callable[[Sequence[Message]], object] | None = None,
    ) -> None:
        """Note the owner of the source, for the metrics; *lost* becomes `Outbox.on_lost`."""
        registry.own(self._core, kind, owner, counts)
        self._core.outbox.on_lost = lost

    def _stop_alone(self, timeout: float | None) -> None:
        """Stop for a caller that does not get the unsent messages: they are counted as lost."""
        self._stopping.report_unsent(self.stop(timeout))

    def __repr__(self) -> str:
        return repr(self._core)

    def __del__(self) -> None:
        core = self.__dict__.get("_core")
        if core is not None:
            core.finalize()
