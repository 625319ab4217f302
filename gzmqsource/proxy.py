"""libzmq's own steerable proxy on a native thread, controlled from greenlets."""

from __future__ import annotations

import contextlib
import enum
import itertools
import operator
import struct
from collections import deque
from typing import Any, NamedTuple

import gevent
import zmq
from gevent.event import AsyncResult
from zmq.backend import proxy_steerable
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._base.hubs import call_in_hub
from gzmqsource._base.reports import Reports
from gzmqsource._base.threads import NativeThread
from gzmqsource._socket.endpoints import Endpoints
from gzmqsource._socket.held import Held
from gzmqsource._socket.linger import close_on_thread
from gzmqsource._socket.loops import check_proxied, pause_command, run_loop
from gzmqsource._source.source import Source
from gzmqsource._source.stopping import COUNTING, NEVER_QUIET, is_notice
from gzmqsource.errors import SourceClosed

__all__ = ["Proxy", "ProxyStats"]

_serial = itertools.count()

_report = Reports("gzmqsource.proxy")

#: How often a stop reads the counts, within the time for which there must be no message.
_LOOKS = 5

#: The message that makes the thread resume after a pause; any other message ends it.
_GO_ON = b"go on"

#: Sent by the thread when libzmq's loop starts again and counts from zero.
_BEGUN = b"begun"

#: Sent last by the thread. libzmq's own reports are eight numbers; 4.3.5 also has an empty reply to
#: every other command, and 4.3.4 has none.
_ENDED = b"ended"

#: For commands that do not matter any more if the thread ends by itself: `Proxy.join` reports why.
_unless_it_ends = contextlib.suppress(SourceClosed, zmq.ZMQError)


class _State(enum.Enum):
    """The state of a proxy."""

    NEW = "not started"  #: its sockets are the caller's
    RUNNING = "running"  #: passes messages
    PAUSED = "paused"  #: has left libzmq's loop, and can enter it again
    STOPPING = "stopping"  #: is about to end
    ENDED = "ended"  #: its thread has ended, and its sockets are closed


class ProxyStats(NamedTuple):
    """The messages that have passed; libzmq counts frames, and 4.3.4 whole messages."""

    frontend_frames_in: int
    """Frames received from the frontend."""

    frontend_bytes_in: int
    """Their bytes."""

    frontend_frames_out: int
    """Frames sent to the frontend."""

    frontend_bytes_out: int
    """Their bytes."""

    backend_frames_in: int
    """Frames received from the backend."""

    backend_bytes_in: int
    """Their bytes."""

    backend_frames_out: int
    """Frames sent to the backend."""

    backend_bytes_out: int
    """Their bytes."""


class Proxy:
    """Passes messages between two sockets, at libzmq's speed and without the hub.

    From `start` on the sockets belong to the proxy, which closes them when it ends; closing one
    before only sets its linger. If a greenlet is killed in a call of the proxy, the call still
    takes effect. As a context manager, a proxy is started, and stopped at the end of the block.

    Parameters
    ----------
    frontend, backend : zmq.Socket
        Bound or connected: a ROUTER and a DEALER, an XSUB and an XPUB, a PULL and a PUSH.
    capture : zmq.Socket, optional
        Gets a copy of each message: a PUB, or a PUSH or DEALER, which blocks the proxy while it is
        full. libzmq 4.3.4 sends it the proxy's commands, too, such as ``STATISTICS``.

    Raises
    ------
    TypeError
        An argument is not a `zmq.Socket`.
    ValueError
        A source or another proxy owns one of the sockets, or their types pass no messages.
    """

    #: The most seconds that `stop` takes if no timeout is passed.
    stop_timeout = 1.0

    def __init__(
        self,
        frontend: zmq.Socket[Any],
        backend: zmq.Socket[Any],
        capture: zmq.Socket[Any] | None = None,
    ) -> None:
        self._sockets = [frontend, backend, *([] if capture is None else [capture])]
        check_proxied(self._sockets)
        self._thread = NativeThread(self._run)
        self._inner: Any = None
        self._control: Source | None = None
        self._replies: deque[AsyncResult[Any]] = deque()
        self._paused: AsyncResult[Any] | None = None
        self._stopping = False
        self._held: Any = None
        self._kinds = [int(socket.get(zmq.TYPE)) for socket in self._sockets]
        self._unread = 0  # messages that its sockets held at its end
        # The counts before libzmq's loop began, and at its last report.
        self._before = self._total = ProxyStats(*[0] * 8)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended, paused or not."""
        return self._state not in (_State.NEW, _State.ENDED)

    def start(self) -> None:
        """Start passing messages.

        Raises
        ------
        SourceClosed
            It was started before.
        zmq.ZMQError, RuntimeError
            There is no socket or no thread for it; its sockets are the caller's as before.
        """
        if self._state is not _State.NEW:
            raise SourceClosed(f"{self!r} was started before: make a new one")
        context = self._sockets[0].context
        self._may_be_quiet = not all(kind in NEVER_QUIET for kind in self._kinds) and any(
            Endpoints.of(socket).is_remote for socket in self._sockets
        )
        address = f"inproc://gzmqsource-proxy-{next(_serial)}"
        self._control = Source.open(
            zmq.PAIR, self._replied, bind=address, context=context, on_error=lambda *_: None
        )
        self._control._own("proxy", self, self._counts)
        self._control.rawlink(self._ended)
        self._control.start()
        try:
            self._inner = PlainSocket(PlainContext(shadow=context), zmq.PAIR)
            self._inner.connect(address)
            self._held = Held(self._sockets, lambda: None)  # until libzmq's loop is ended by `stop`
            self._thread.start()
        except BaseException:
            self._not_started()
            raise

    def pause(self) -> None:
        """Stop passing messages; they stay in libzmq, whose high-water mark holds back the peers.

        It returns once the proxy has paused. Pausing a paused proxy does nothing.

        Raises
        ------
        SourceClosed
            The proxy was not started, or has ended.
        zmq.ZMQError
            The error that ended it.
        InvalidThreadUseError
            It was started in the hub of another thread.
        """
        paused = self._paused
        if paused is None:
            # libzmq's own pause uses a whole core while messages wait (4.3.5), so the thread leaves
            # its loop; it is paused before that to count exactly.
            self._command(pause_command())
            paused = self._paused = self._ask()
            self._command(b"TERMINATE")
        paused.get()

    def resume(self) -> None:
        """Pass messages again; resuming a proxy that is not paused does nothing.

        Raises
        ------
        SourceClosed, zmq.ZMQError, InvalidThreadUseError
            As for `pause`, if it was paused.
        """
        paused = self._paused
        if paused is not None:
            stats: Any = paused.get()
            if self._paused is paused:
                self._command(_GO_ON)
                self._before = stats
                self._paused = None

    def stats(self) -> ProxyStats:
        """Read libzmq's counts of messages, and return them.

        Where peers are authenticated, messages since the last call may be left out. A paused proxy
        has its counts from the pause, which it keeps when it has ended.

        Raises
        ------
        SourceClosed, zmq.ZMQError, InvalidThreadUseError
            As for `pause`.
        """
        reply = self._paused or self._ask()
        numbers: Any = reply.get()
        return ProxyStats(*numbers)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None waits forever.

        Returns
        -------
        bool
            False if *timeout* ran out.

        Raises
        ------
        zmq.ZMQError
            The error that ended it: ``ETERM`` if the context was terminated.
        ValueError
            *timeout* is negative.
        """
        timeout = check_timeout(timeout)
        if self._control is not None:
            self._thread.join(timeout)
        if self._thread.error is not None:
            raise self._thread.error
        return not self.running

    def stop(self, timeout: float | None = None, drain: bool = True) -> bool:
        """Stop passing messages, and close the sockets; their endpoints are free then.

        Before that, it continues until no message has come for 0.25 s, or half of the time is over,
        unless all its sockets publish or subscribe. Messages that are still unread then are lost,
        and logged. Stopping a proxy that was not started, or has ended, does nothing.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None for `stop_timeout`.
        drain : bool
            Whether to pass the messages that are on their way.

        Returns
        -------
        bool
            Whether it has ended. If not, it ends later: its time was too short, or the capture
            socket is full and has to have room first.

        Raises
        ------
        zmq.ZMQError
            The error that ended it before, unless the context was terminated.
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            It was started in the hub of another thread.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        control = self._control
        try:
            if drain and self._state is _State.RUNNING:
                left = deadline.left()
                with _unless_it_ends:
                    self._drain(Deadline(None if left is None else left / 2))
        finally:
            if control is not None and not control.closed and not self._stopping:
                with _unless_it_ends:
                    if self._paused is None:
                        self._ask()  # for the metrics, which count the messages
                        self._command(b"TERMINATE")
                    self._command(b"end")
                    self._stopping = True
        try:
            has_ended = self.join(deadline.left())
            if has_ended and control is not None:
                gevent.wait([control], deadline.left())  # it reads the last report, and closes
            return has_ended
        except zmq.ContextTerminated:
            return True
        finally:
            if control is not None and not self.running:
                control.close()

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.value}>"

    @property
    def _state(self) -> _State:
        if self._control is None:
            return _State.NEW
        if not self._thread.is_alive():
            return _State.ENDED
        if self._stopping:
            return _State.STOPPING
        return _State.RUNNING if self._paused is None else _State.PAUSED

    def _command(self, message: bytes) -> None:
        """Send a message to the thread, or raise an error as `pause` does."""
        if self._control is None:
            raise SourceClosed(f"{self!r}: start it first")
        if self._state not in (_State.STOPPING, _State.ENDED):
            with contextlib.suppress(SourceClosed):  # the context ends, and the thread with it
                self._control.send_nowait(message)
                return
        self.join(0)
        raise SourceClosed(f"{self!r} has ended, or is about to: make a new one")

    def _drain(self, until: Deadline) -> None:
        """Wait until no message has come for a while."""
        seen, quiet = None, 0
        while self._state is _State.RUNNING and quiet < _LOOKS:
            if not self._ask().wait(until.left()):
                return
            seen, before = self._total.frontend_frames_in + self._total.backend_frames_in, seen
            quiet = quiet + 1 if seen == before else 0
            if not self._may_be_quiet or until.left() == 0:
                return
            gevent.sleep(Source.quiet / _LOOKS)

    def _ask(self) -> AsyncResult[Any]:
        """Ask for the counts; the result is set once libzmq has executed all commands before."""
        self._command(b"STATISTICS")
        reply: AsyncResult[Any] = AsyncResult()
        self._replies.append(reply)
        return reply

    def _counts(self) -> dict[str, int]:
        """Return the counts of libzmq's last report, and ask for the next; from any thread."""
        control = self._control
        if control is not None and not control.closed:
            call_in_hub(control._core.hub, gevent.spawn_raw, self._refresh)
        return self._total._asdict()

    def _refresh(self) -> None:
        """Have libzmq report its counts, unless it is about to."""
        if self._state is _State.RUNNING and not self._replies:
            with _unless_it_ends:
                self._ask()

    def _count_unread(self) -> None:
        """Count the messages that the sockets still hold, in the thread; they are lost."""
        for socket, kind in zip(self._sockets, self._kinds, strict=True):
            deadline = Deadline(COUNTING)
            # A green one would make a hub for this thread, and nothing destroys that.
            plain = PlainSocket(shadow=int(socket.underlying))
            with contextlib.suppress(zmq.ZMQError):  # there is no more, or it receives nothing
                while deadline.left():
                    message = plain.recv_multipart(zmq.NOBLOCK)
                    self._unread += not is_notice(kind, message)

    def _replied(self, message: list[bytes]) -> None:
        if message == [_ENDED]:
            if self._control is not None:
                self._control.close()
        elif message == [_BEGUN]:
            self._before = self._total
        elif len(message) == len(self._before):
            numbers = (struct.unpack("=Q", frame)[0] for frame in message)
            self._total = ProxyStats(*map(operator.add, self._before, numbers))
            self._replies.popleft().set(self._total)

    def _ended(self, control: Source) -> None:
        """Raise in every greenlet that waits for a reply: none will come."""
        if self._unread:
            control._core.count_dropped("unread", self._unread)
            _report(
                lambda: f"a proxy has ended with {self._unread} messages unread, which are lost"
            )
        error = self._thread.error or SourceClosed(f"{self!r} has ended")
        while self._replies:
            self._replies.popleft().set_exception(error)

    def _not_started(self) -> None:
        """Give back the sockets, and close those that the start has made: there is no thread."""
        if self._held is not None:
            self._held.let_go()
            self._held = None
        if self._inner is not None:
            PlainSocket.close(self._inner)
        if self._control is not None:
            self._control.close()
            self._control = None

    def _run(self) -> None:
        try:
            self._pass_on()
            while PlainSocket.recv(self._inner) == _GO_ON:
                self._pass_on()
        finally:
            self._count_unread()
            self._held.let_go()
            for socket in self._sockets:
                close_on_thread(socket, self._held.closed.get(socket))
            # If the context was terminated, the control socket notices that by itself.
            with contextlib.suppress(zmq.ZMQError):
                PlainSocket.send(self._inner, _ENDED, zmq.NOBLOCK)
            PlainSocket.close(self._inner)

    def _pass_on(self) -> None:
        """Run libzmq's loop until a command ends it."""
        frontend, backend, *rest = self._sockets
        capture = rest[0] if rest else None
        run_loop(
            lambda: proxy_steerable(frontend, backend, capture, self._inner),
            self._sockets,
            lambda: PlainSocket.send(self._inner, _BEGUN),
        )
