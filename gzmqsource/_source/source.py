"""A ZeroMQ socket as a gevent event source."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
import zmq
from gevent.lock import RLock

from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._base.event import Event
from gzmqsource._socket.view import OwnedSocket
from gzmqsource._source.core import Core, State
from gzmqsource._source.flusher import Report
from gzmqsource._source.opening import Endpoints, Topics, open_socket
from gzmqsource._source.outbox import Overflow
from gzmqsource._source.puller import Pulled
from gzmqsource._source.receiver import Handler, Intake, spawner
from gzmqsource._source.sender import Sender
from gzmqsource.transfer.message import AnyMessage, as_message

if TYPE_CHECKING:
    from gzmqsource._source.stats import Stats

_SourceT = TypeVar("_SourceT", bound="Source")


class Source(Pulled):
    """A ZeroMQ socket as an event source of the current hub.

    With a handler it is a server: once started, it calls ``handle(message)`` for each message.
    Without one it is pulled, with `recv`, `recv_many`, or iteration. Either way it sends.

    A message is received as a list of its frames. A source belongs to the hub that made it; other
    threads send through a `sender`. It is a context manager that stops it.

    Parameters
    ----------
    socket : zmq.Socket
        Any configured socket, plain or green. The source owns it from now on: use
        `Source.socket` in its place.
    handle : callable, optional
        ``handle(message)``. A subclass may define a method of that name instead.
    spawn : None, int, gevent.pool.Pool or callable
        Where the handler runs. None: in the source's own greenlet, one message after another, in
        order. A pool, or an int for a pool of that size: in the pool, and while it is full
        nothing is read. `gevent.spawn` or `gevent.spawn_raw`: unbounded.
    outbox : int
        How many messages wait for libzmq at most; on a ROUTER or STREAM, for each peer.
    overflow : {"block", "raise", "drop_newest", "drop_oldest"}
        What happens to a message that finds the outbox full: `send` waits, raises
        `gevent.queue.Full`, drops that message, or drops the one queued longest.
    copy : bool
        Whether received frames are bytes; if not they are `zmq.Frame` objects.
    on_error : callable, optional
        ``on_error(error, message)`` takes what a handler raised, and each queued message that
        libzmq refused (a `SendError`). Without it, ``hub.handle_error`` does.
    ref : bool
        Whether a greenlet that waits on this source keeps the hub's loop running. Over libuv it
        always does: gevent's I/O watchers have no ``ref`` there.
    """

    #: The most messages that are handed out, pulled, or sent before other I/O has its turn. A
    #: turn of I/O costs about 30 us, so with less than 1000 messages it would be felt.
    max_messages = 5000

    #: Seconds after which a turn ends, if that comes first. With several busy sources the turns
    #: add up, and 1 ms each keeps a ticking greenlet well below 5 ms late.
    max_seconds = 0.001

    #: The most messages that are read ahead of the handler. The batch begins with one message,
    #: doubles while the handler keeps up, and shrinks when a turn ends by time.
    max_batch = 128

    #: The most bytes read in one call, so that a batch of large messages stays small in memory.
    max_bytes = 1 << 17

    #: Seconds to pause after the second error in a row; each further one doubles the pause.
    min_delay = 0.01

    #: The longest such pause, in seconds.
    max_delay = 1.0

    #: Seconds that `stop` takes at most if it is not told, as in gevent's servers.
    stop_timeout: float | None = 1.0

    def __init__(
        self,
        socket: zmq.Socket[Any],
        handle: Handler | None = None,
        *,
        spawn: object = None,
        outbox: int = 1000,
        overflow: Overflow = "block",
        copy: bool = True,
        on_error: Report | None = None,
        ref: bool = True,
    ) -> None:
        spawner(spawn)
        if handle is not None:
            self.handle = handle
        self._core = Core(
            type(self).__name__,
            socket,
            outbox=outbox,
            overflow=overflow,
            copy=copy,
            on_error=on_error,
            ref=ref,
            serves=self.handle is not None,
            max_messages=self.max_messages,
            max_seconds=self.max_seconds,
            max_bytes=self.max_bytes,
        )
        self._send_direct = self._core.transfer.send_direct
        self._receive_direct = self._core.transfer.receive_direct
        self._spawn = spawn
        self._intake: Intake | None = None
        self._links: dict[Callable[[Source], object], Callable[[Event], object]] = {}
        self._stopping = RLock()

    @classmethod
    def open(
        cls: type[_SourceT],
        socket_type: int,
        handle: Handler | None = None,
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        subscribe: Topics = (),
        context: zmq.Context[Any] | None = None,
        spawn: object = None,
        outbox: int = 1000,
        overflow: Overflow = "block",
        copy: bool = True,
        on_error: Report | None = None,
        ref: bool = True,
        **socket_options: Any,
    ) -> _SourceT:
        """Make the socket too.

        Parameters
        ----------
        socket_type : int
            ``zmq.PULL``, ``zmq.ROUTER``, ...
        bind, connect : str or iterable of str
            Endpoints.
        subscribe : str, bytes or iterable of them
            Topics of a SUB socket; ``""`` is everything.
        context : zmq.Context, optional
            ``zmq.Context.instance()`` if not given.
        **socket_options
            By pyzmq's names in lower case, ``sndhwm=10``; set before binding and connecting.

        Raises
        ------
        zmq.ZMQError
            libzmq refuses an option or an endpoint; no socket is left open.
        """
        socket = open_socket(context, socket_type, socket_options, subscribe, bind, connect)
        try:
            return cls(
                socket,
                handle,
                spawn=spawn,
                outbox=outbox,
                overflow=overflow,
                copy=copy,
                on_error=on_error,
                ref=ref,
            )
        except BaseException:
            socket.close(0)
            raise

    @property
    def socket(self) -> OwnedSocket:
        """The socket, for everything but messages (bind, connect, subscribe, options).

        It has pyzmq's whole interface, and no call of it robs a waiting greenlet of its edge. A
        function that takes sockets, as `zmq.zmq_poll` does, should get it from here each time:
        the edge is repaired for what is done before the next switch.
        """
        self._core.enter()
        return self._core.owned()

    def set_handle(self, handle: Handler, spawn: object = None) -> None:
        """Give a source without a handler one, as `gevent.baseserver.BaseServer.set_handle` does.

        It is no longer pulled; `start` begins to hand messages out.

        Parameters
        ----------
        handle, spawn
            As for the constructor.

        Raises
        ------
        ValueError
            It has a handler, its type receives nothing, or a greenlet waits in `recv`.
        """
        self._core.enter()
        if self.handle is not None:
            raise ValueError(f"{self!r} has a handler already")
        spawner(spawn)
        self._core.begin_to_serve()
        self.handle = handle
        self._spawn = spawn

    def send(self, message: AnyMessage, block: bool = True, timeout: float | None = None) -> None:
        """Send one message.

        If nothing is queued and libzmq takes the message, it goes out at once, without a switch.
        Otherwise it is queued, and goes out when libzmq can take it. If the greenlet is killed
        while it waits for room, the message is withdrawn.

        A greenlet that sends all the time lets other I/O in after each `max_messages`.

        Parameters
        ----------
        message
            A bytes-like object or a `zmq.Frame` for one frame, or an iterable of them. All frames
            go out, or none. On a ROUTER the first is the peer's routing id.
        block : bool
            Whether to wait for room under ``overflow="block"``.
        timeout : float or None
            Seconds to wait at most; None for ever.

        Raises
        ------
        gevent.queue.Full
            The outbox is full, or was for *timeout*; the message is not queued.
        SendError
            libzmq refuses this message; the source goes on.
        TypeError, ValueError
            *message* is not a message, or *timeout* is negative.
        SourceClosed
            The source is closed.
        """
        if timeout is None and self._send_direct(message):
            return
        self._core.enter()
        if block:
            check_timeout(timeout)
            self._core.take_turn()
        self._core.send(message, block, timeout)

    def send_nowait(self, message: AnyMessage) -> None:
        """Send one message without waiting for room; see `send`."""
        self.send(message, block=False)

    def withdraw(self, message: AnyMessage) -> bool:
        """Take back a message that is still queued; False if libzmq has it, or never will."""
        self._core.enter()
        return self._core.outbox.withdraw(as_message(message))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until libzmq has taken every queued message.

        Returns False if *timeout*, in seconds, ran out.

        Raises
        ------
        SourceClosed
            The source is closed, or was while messages were queued.
        """
        self._core.enter()
        deadline = Deadline(timeout)
        self._core.accept()
        flushed = self._core.outbox.empty.wait(deadline.left())
        if self._core.closed:
            raise self._core.closed_error()
        return bool(flushed)

    def sender(self) -> Sender:
        """Give a handle that sends from any greenlet, any hub, and any native thread."""
        self._core.enter()
        return Sender(self._core)

    @property
    def started(self) -> bool:
        """Whether messages are taken in; a source without a handler is from the beginning."""
        return self._core.state is State.STARTED and not self._core.closed

    @property
    def closed(self) -> bool:
        """Whether the socket is gone."""
        return self._core.closed

    def start(self) -> None:
        """Begin to hand messages to the handler; what is there already comes first."""
        self._core.enter()
        if self._core.state is State.OPEN and self.handle is not None:
            self._core.state = State.STARTED
            self._intake = Intake(self._core, self.handle, self._spawn, self)

    def pause(self) -> None:
        """Take no more messages in; they stay in libzmq, whose high-water mark acts on the peers.

        What was read ahead, one batch at most, is still handed out.
        """
        self._core.enter()
        self._core.pause()

    def resume(self) -> None:
        """Take messages in again, and look at the socket first."""
        self._core.enter()
        self._core.resume()

    def stop(self, timeout: float | None = None) -> list[list[Any]]:
        """Stop without losing anything: read no more, handle what was read, send what is queued.

        The phases have one deadline: handlers finish, the outbox is flushed, libzmq sends what it
        holds for as long as the socket's ``LINGER`` allows. What is left then is killed, and the
        source is closed. If the calling greenlet is killed the source is left stopping, with
        nothing lost; stop it again, or close it.

        Parameters
        ----------
        timeout : float or None
            Seconds for all phases together; None for `stop_timeout`.

        Returns
        -------
        list of list of bytes or zmq.Frame
            The messages that libzmq has not taken.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        core = self._core
        if not core.closed:
            core.enter()
            core.end_intake()
            if self._intake is not None:
                self._intake.end()
            if self._stopping.acquire(timeout=deadline.left()):
                try:
                    return self._finish(deadline)
                finally:
                    self._stopping.release()
        return []

    def close(self) -> None:
        """Close at once: what is queued or in hand is dropped, and counted.

        Everybody who waits gets `SourceClosed`. What libzmq holds goes out as the socket's
        ``LINGER`` allows. A source may be closed more than once.
        """
        if not self._core.closed:
            self._core.enter()
            if self._intake is not None:
                self._core.count_dropped("unhandled", self._intake.abandon())
            self._core.close()

    def serve_forever(self, stop_timeout: float | None = None) -> None:
        """Start, wait until the source closes, and stop it if the wait ends otherwise.

        Raises
        ------
        SourceBroken
            libzmq took the socket away.
        """
        self.start()
        try:
            self._core.done.wait()
        finally:
            gevent.spawn(self.stop, stop_timeout).join()
        if self._core.cause is not None:
            raise self._core.closed_error()

    def __enter__(self: _SourceT) -> _SourceT:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ready(self) -> bool:
        """Whether the source is closed, as `gevent.wait` asks."""
        return self._core.done.is_set()

    def rawlink(self, callback: Callable[[Source], object]) -> None:
        """Call ``callback(source)`` in the hub once the source is closed."""
        link = self._links[callback] = lambda _event: callback(self)
        self._core.done.rawlink(link)

    def unlink(self, callback: Callable[[Source], object]) -> None:
        """Take back a `rawlink`; no error if there is none."""
        link = self._links.pop(callback, None)
        if link is not None:
            self._core.done.unlink(link)

    def check(self) -> None:
        """Raise what every call raises in another thread, or once the source is closed."""
        self._core.enter()

    def report(self, error: BaseException, message: list[Any] | None = None) -> None:
        """Give an error to ``on_error``, or to ``hub.handle_error``, as for one of a handler."""
        self._core.report(error, message)

    def stats(self) -> Stats:
        """Give a snapshot of what the source has done."""
        # Not before it is asked for: `dataclasses` is a third of this package's time of import.
        from gzmqsource._source.stats import snapshot

        return snapshot(self._core)

    def __repr__(self) -> str:
        return repr(self._core)

    def __del__(self) -> None:
        core = self.__dict__.get("_core")
        if core is not None:
            core.drop()

    def _finish(self, deadline: Deadline) -> list[list[Any]]:
        """Go through the phases of `stop`."""
        core, intake = self._core, self._intake
        if intake is not None and not intake.finish(deadline):
            core.count_dropped("killed", intake.kill())
        if not core.closed:
            core.accept()
            core.outbox.empty.wait(deadline.left())
        return [] if core.closed else core.release_lingering(deadline.left())
