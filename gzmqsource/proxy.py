"""libzmq's own steerable proxy on a native thread, controlled from greenlets."""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
import operator
import struct
from collections import deque
from typing import Any, NamedTuple

import zmq
from gevent.event import AsyncResult
from zmq.backend import proxy_steerable
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource._base.threads import NativeThread
from gzmqsource._socket.loops import run_loop
from gzmqsource._socket.view import check_is_free
from gzmqsource._source.source import Source
from gzmqsource.errors import SourceClosed

_serial = itertools.count()

#: What has the thread go on after a pause; anything else ends it.
_GO_ON = b"go on"

#: What the thread sends when libzmq's loop begins anew, without its numbers.
_BEGUN = b"begun"

#: What the thread sends last; libzmq's own replies are empty, or eight numbers.
_ENDED = b"ended"


class _State(enum.Enum):
    """Where a proxy is in its life."""

    NEW = "not started"  #: its sockets are the caller's
    RUNNING = "running"  #: passes messages
    PAUSED = "paused"  #: has left libzmq's loop, and can enter it again
    STOPPING = "stopping"  #: was told to end
    ENDED = "ended"  #: its thread has ended, and its sockets are closed


class ProxyStats(NamedTuple):
    """What has passed a proxy; libzmq counts frames, not messages."""

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
    """Passes messages between two sockets, at libzmq's speed and beside the hub.

    The sockets belong to the proxy from `start` on, and are closed with it: to close one before
    only sets its linger. If a greenlet is killed while it controls the proxy, what it asked for is
    still done, and the next one is obeyed. It is a context manager that starts and stops it.

    Parameters
    ----------
    frontend, backend : zmq.Socket
        Bound or connected: a ROUTER and a DEALER, an XSUB and an XPUB, a PULL and a PUSH.
    capture : zmq.Socket, optional
        Gets a copy of each message: a PUB, or a PUSH or DEALER, which holds up the proxy while it
        takes no more.

    Raises
    ------
    TypeError, ValueError
        Something else is to be proxied, or a socket that a source owns.
    """

    #: Seconds that `stop` takes at most if it is not told.
    stop_timeout = 1.0

    def __init__(
        self,
        frontend: zmq.Socket[Any],
        backend: zmq.Socket[Any],
        capture: zmq.Socket[Any] | None = None,
    ) -> None:
        self._sockets = [frontend, backend, *([] if capture is None else [capture])]
        for socket in self._sockets:
            check_is_free(socket, "a proxy passes messages between zmq sockets")
        self._thread = NativeThread(self._run)
        self._inner: Any = None
        self._control: Source | None = None
        self._replies: deque[AsyncResult[Any]] = deque()
        self._paused: AsyncResult[Any] | None = None
        self._stopping = False
        self._lingers: dict[zmq.Socket[Any], int | None] = {}
        # What had passed before libzmq's loop began, and by its last word.
        self._before = self._total = ProxyStats(*[0] * 8)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended, paused or not."""
        return self._state not in (_State.NEW, _State.ENDED)

    def start(self) -> None:
        """Begin to pass messages.

        Raises
        ------
        SourceClosed
            It was started before.
        """
        if self._state is not _State.NEW:
            raise SourceClosed(f"{self!r} was started before: make a new one")
        context = self._sockets[0].context
        address = f"inproc://gzmqsource-proxy-{next(_serial)}"
        self._control = Source.open(
            zmq.PAIR, self._replied, bind=address, context=context, on_error=lambda *_: None
        )
        self._control.rawlink(self._ended)
        self._control.start()
        self._inner = PlainSocket(PlainContext(shadow=context), zmq.PAIR)
        self._inner.connect(address)
        for socket in self._sockets:
            # `zmq.Context.destroy` closes them, which crashes libzmq while the thread uses them.
            socket.close = functools.partial(  # type: ignore[method-assign]
                self._close_later, socket
            )
        self._thread.start()

    def pause(self) -> None:
        """Pass no more messages; they stay with ZeroMQ, whose high-water mark acts on the peers."""
        paused = self._paused
        if paused is None:
            # libzmq's own pause uses a whole core while messages wait (4.3.5), so its loop is left;
            # it is paused before that to count exactly.
            self._steer(_pause_command())
            paused = self._paused = self._steer(b"STATISTICS")
            self._steer(b"TERMINATE")
        paused.get()

    def resume(self) -> None:
        """Pass messages again."""
        paused = self._paused
        if paused is not None:
            stats: Any = paused.get()
            if self._paused is paused:
                self._control_source().send_nowait(_GO_ON)
                self._before = stats
                self._paused = None

    def stats(self) -> ProxyStats:
        """Ask libzmq what has passed.

        When a peer is authenticated, what has passed since the last call may be left out.
        """
        reply = self._paused or self._steer(b"STATISTICS")
        numbers: Any = reply.get()
        return ProxyStats(*numbers)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False if *timeout*, in seconds, ran out.

        Raises
        ------
        zmq.ZMQError
            What ended it: ``ETERM`` if its context did.
        """
        if self._control is not None:
            self._thread.join(timeout)
        if self._thread.error is not None:
            raise self._thread.error
        return not self.running

    def stop(self, timeout: float | None = None) -> bool:
        """Pass no more messages, and close the sockets; again or unstarted it does nothing.

        Parameters
        ----------
        timeout : float or None
            Seconds; None for `stop_timeout`.

        Returns
        -------
        bool
            Whether it has ended. If not, its capture takes no more: it ends when that does.

        Raises
        ------
        zmq.ZMQError
            What ended it before, unless its context did.
        """
        control = self._control
        if control is not None and not control.closed and not self._stopping:
            if self._paused is None:
                self._steer(b"TERMINATE")
            self._stopping = True
            control.send_nowait(b"end")
        try:
            return self.join(self.stop_timeout if timeout is None else timeout)
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

    def _control_source(self) -> Source:
        if self._control is None:
            raise SourceClosed(f"{self!r}: start it first")
        if self._state in (_State.STOPPING, _State.ENDED):
            self.join(0)
            raise SourceClosed(f"{self!r} has ended, or is about to")
        return self._control

    def _steer(self, command: bytes) -> AsyncResult[Any]:
        """Send a command; the result gets the numbers when libzmq has done it."""
        self._control_source().send_nowait(command)
        reply: AsyncResult[Any] = AsyncResult()
        self._replies.append(reply)
        return reply

    def _close_later(self, socket: zmq.Socket[Any], linger: int | None = None) -> None:
        self._lingers[socket] = linger

    def _replied(self, message: list[bytes]) -> None:
        if message == [_ENDED]:
            if self._control is not None:
                self._control.close()
        elif message == [_BEGUN]:
            self._before = self._total
        else:
            if len(message) == len(self._before):
                numbers = (struct.unpack("=Q", frame)[0] for frame in message)
                self._total = ProxyStats(*map(operator.add, self._before, numbers))
            self._replies.popleft().set(self._total)

    def _ended(self, control: Source) -> None:
        """Fail every greenlet that waits for a reply: there will be none."""
        error = self._thread.error or SourceClosed(f"{self!r} has ended")
        while self._replies:
            self._replies.popleft().set_exception(error)

    def _run(self) -> None:
        try:
            self._pass_on()
            while PlainSocket.recv(self._inner) == _GO_ON:
                self._pass_on()
        finally:
            for socket in self._sockets:
                del socket.close
                PlainSocket.close(socket, self._lingers.get(socket))
            # If the context has ended the control notices that by itself.
            with contextlib.suppress(zmq.ZMQError):
                PlainSocket.send(self._inner, _ENDED, zmq.NOBLOCK)
            PlainSocket.close(self._inner)

    def _pass_on(self) -> None:
        """Run libzmq's loop until it is told to end."""
        frontend, backend, *rest = self._sockets
        capture = rest[0] if rest else None
        run_loop(
            lambda: proxy_steerable(frontend, backend, capture, self._inner),
            self._sockets,
            lambda: PlainSocket.send(self._inner, _BEGUN),
        )


@functools.cache
def _pause_command() -> bytes:
    """Find out what pauses a proxy; it takes libzmq some 100 us.

    zmq_proxy_steerable(3) says ``PAUSE``; libzmq 4.3.5 takes that for ``RESUME``, and the other way
    round.
    """
    with PlainContext() as context:
        sockets = [PlainSocket(context, kind) for kind in (zmq.PULL, zmq.PUB, zmq.PAIR)]
        control, feeder = (PlainSocket(context, kind) for kind in (zmq.PAIR, zmq.PUSH))
        sockets[0].bind("inproc://front")
        sockets[2].bind("inproc://control")
        feeder.connect("inproc://front")
        control.connect("inproc://control")
        thread = NativeThread(lambda: proxy_steerable(sockets[0], sockets[1], None, sockets[2]))
        thread.start()
        control.send(b"PAUSE")
        feeder.send(b"x")
        # What is there when a command comes has passed when the next one does.
        for command in (b"STATISTICS", b"STATISTICS", b"TERMINATE"):
            control.send(command)
        replies = [control.recv_multipart() for _ in range(4)]
        thread.join()
        for socket in (*sockets, control, feeder):
            socket.close(0)
    return b"RESUME" if any(replies[2][0]) else b"PAUSE"
