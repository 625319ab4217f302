"""A ZeroMQ socket as a gevent event source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import zmq

from gzmqsource._base.deadline import Deadline, check_timeout
from gzmqsource._socket.view import SourceSocket
from gzmqsource._source.base import BaseSource
from gzmqsource._source.flusher import Report
from gzmqsource._source.opening import Endpoints, Topics, open_socket
from gzmqsource._source.outbox import Overflow
from gzmqsource._source.receiver import Handler, spawner
from gzmqsource._source.sender import Sender
from gzmqsource.errors import SourceBroken, SourceClosed, SourceForked
from gzmqsource.transfer.message import AnyMessage, as_message

if TYPE_CHECKING:
    from typing_extensions import Self


class Source(BaseSource):
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

    __module__ = "gzmqsource"

    @classmethod
    def open(
        cls,
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
    ) -> Self:
        """Make the socket, too.

        Parameters
        ----------
        socket_type : int
            ``zmq.PULL``, ``zmq.ROUTER``, ...
        handle, spawn, outbox, overflow, copy, on_error, ref
            As for `Source` itself.
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
    def socket(self) -> SourceSocket:
        """The socket, for everything but messages (bind, connect, subscribe, options).

        It has pyzmq's whole interface, and no call of it robs a waiting greenlet of its edge. A
        function that takes sockets, such as `zmq.zmq_poll`, should get it from here each time:
        the edge is repaired for what is done before the next switch.

        Raises
        ------
        InvalidThreadUseError
            The source belongs to the hub of another thread.
        SourceClosed
            The source is closed.
        """
        self._core.enter()
        return self._core.view()

    def set_handle(self, handle: Handler, spawn: object = None) -> None:
        """Set the handler of a source without one, as `gevent.baseserver.BaseServer.set_handle`.

        It is no longer pulled; `start` begins to call the handler.

        Parameters
        ----------
        handle, spawn
            As for the constructor.

        Raises
        ------
        ValueError
            It has a handler, its type receives nothing, or a greenlet waits in `recv`.
        InvalidThreadUseError, SourceClosed
            As for `socket`.
        """
        self._core.enter()
        if self.handle is not None:
            raise ValueError(f"{self!r} has a handler already")
        spawner(spawn)
        self._core.serve()
        self.handle = handle
        self._spawn = spawn

    def recv(self, block: bool = True, timeout: float | None = None) -> list[Any]:
        """Receive one message.

        Waiting greenlets are served in FIFO order. If the greenlet is killed while it waits, no
        message is lost.

        Parameters
        ----------
        block : bool
            Whether to wait for a message.
        timeout : float or None
            Seconds to wait at most; None for ever.

        Returns
        -------
        list of bytes or zmq.Frame
            The frames of the message.

        Raises
        ------
        gevent.queue.Empty
            There is no message, or none came within *timeout*.
        SourceClosed
            The source was stopped or closed.
        TypeError
            The source has a handler, which gets all messages.
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            The source belongs to the hub of another thread.
        """
        if timeout is None:
            message = self._shortcut_receive()
            if message:
                return message
            if message is False and block:
                return self._puller.wait()
        return self._puller.receive(1, block, timeout)[0]

    def recv_many(
        self, limit: int, block: bool = True, timeout: float | None = None
    ) -> list[list[Any]]:
        """Receive what is there, from 1 to *limit* messages; wait for the first as `recv` does.

        Fewer than *limit* are returned also when `max_bytes` have been read.

        Parameters
        ----------
        limit : int
            How many messages at most.
        block, timeout
            As for `recv`, and so are the errors.

        Returns
        -------
        list of list of bytes or zmq.Frame
            The messages.
        """
        if limit < 1:
            raise ValueError(f"limit={limit!r}: at least 1 message")
        return self._puller.receive(limit, block, timeout)

    def __iter__(self) -> Iterator[list[Any]]:
        """Iterate over the messages, until the source is stopped or closed, or `SourceBroken`."""
        while True:
            try:
                message = self.recv()
            except (SourceBroken, SourceForked):
                raise
            except SourceClosed:
                return
            yield message

    def send(self, message: AnyMessage, block: bool = True, timeout: float | None = None) -> None:
        """Send one message.

        If nothing is queued and libzmq takes the message, it goes out at once, without a switch.
        Otherwise it is queued, and goes out when libzmq can take it. If the greenlet is killed
        while it waits for room, the message is withdrawn.

        A greenlet that sends all the time yields to other I/O after each `max_messages`.

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
        InvalidThreadUseError, SourceClosed
            As for `socket`.
        """
        if timeout is None and self._shortcut_send(message):
            return
        self._core.enter()
        if block:
            check_timeout(timeout)
            self._core.spend()
        self._core.send(message, block, timeout)

    def send_nowait(self, message: AnyMessage) -> None:
        """Send one message without waiting for room; parameters and errors are those of `send`."""
        self.send(message, block=False)

    def withdraw(self, message: AnyMessage) -> bool:
        """Take back a message that is still queued.

        Parameters
        ----------
        message
            A message that is equal to it.

        Returns
        -------
        bool
            False if libzmq has taken it, or never will.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `socket`.
        """
        self._core.enter()
        return self._core.outbox.withdraw(as_message(message))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until libzmq has taken every queued message.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None for ever.

        Returns
        -------
        bool
            False if *timeout* ran out.

        Raises
        ------
        SourceClosed
            The source is closed, or was while messages were queued.
        InvalidThreadUseError
            As for `socket`.
        """
        self._core.enter()
        deadline = Deadline(timeout)
        self._core.accept()
        flushed = self._core.outbox.empty.wait(deadline.left())
        if self._core.closed:
            raise self._core.closed_error()
        return bool(flushed)

    def sender(self) -> Sender:
        """Return a handle that sends from any greenlet, any hub, and any native thread.

        Raises
        ------
        InvalidThreadUseError, SourceClosed
            As for `socket`.
        """
        self._core.enter()
        return Sender(self._core)
