"""A ZeroMQ socket as a gevent event source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

import zmq

from gzmqsource._socket.linger import close_and_free
from gzmqsource._socket.view import SourceSocket
from gzmqsource._source.flusher import Report
from gzmqsource._source.handlers import check_handler
from gzmqsource._source.opening import Endpoints, SocketOption, Topics, open_socket
from gzmqsource._source.outbox import Overflow
from gzmqsource._source.receiver import Handler, Spawn, spawner
from gzmqsource._source.sending import SendingSource
from gzmqsource.errors import SourceBroken, SourceClosed, SourceForked
from gzmqsource.transfer.message import UNLIMITED, FrameT

if TYPE_CHECKING:
    from typing_extensions import Self, TypeVar

    _Uncopied = TypeVar("_Uncopied", bound="Source[zmq.Frame]")


class Source(SendingSource[FrameT]):
    """A ZeroMQ socket as an event source of the current hub.

    With a handler it is a server: once started, it calls ``handle(message)`` for each message.
    Without a handler it is pulled, with `recv`, `recv_many`, or iteration. It can send in both
    cases.

    A message is received as a list of its frames. A source belongs to the hub that made it; other
    threads send through a `sender`. Used as a context manager, it is stopped at the end of the
    block.

    Parameters
    ----------
    socket : zmq.Socket
        Any configured socket, plain or green. The source owns it from now on: use
        `Source.socket` instead of it.
    handle : callable, optional
        ``handle(message)``. A subclass may define a method of that name instead.
    spawn : None, int, gevent.pool.Pool or callable
        Where the handler runs:

        - None: in one worker greenlet, one message after another, in order.
        - An int: in at most that many worker greenlets. Each takes the next message itself, in
          order, and a handler that does not wait costs no switch.
        - A pool: each message in a greenlet of its own, at most as many as the pool has room for.
        - `gevent.spawn`, `gevent.spawn_raw`, or another spawn function: each message in a new
          greenlet, without a bound. If the function raises, the error is reported, and the message
          is the next one again.

        While all workers are in the handler, or the pool is full, nothing is read. Each call of
        the handler begins with the context variables with which the source was started. A worker
        handles many messages, so objects that belong to its greenlet remain: a
        `gevent.local.local`, or a `gevent.Timeout` that was not closed.
    outbox : int
        The most messages that wait for libzmq; on a ROUTER or STREAM, the most for each peer.
    outbox_bytes : int
        The most bytes of them, likewise; each frame counts 64 more. A single message may be larger.
        The attribute `max_outbox_bytes` bounds the bytes for all peers of a ROUTER or STREAM.
    overflow : {"block", "raise", "drop_newest", "drop_oldest"}
        The policy for a message that finds the outbox full: `send` waits, raises
        `gevent.queue.Full`, drops that message, or drops the oldest one.
    copy : bool
        Whether received frames are bytes; otherwise they are `zmq.Frame` objects.
    on_error : callable, optional
        ``on_error(error, message)`` is called with each exception of a handler, and with a
        `SendError` for each queued message that libzmq refused. Without it, errors are logged at a
        bounded rate.
    ref : bool
        Whether a greenlet that waits on this source keeps the hub's loop running. With libuv it
        always does: gevent's I/O watchers have no ``ref`` there.

    Raises
    ------
    TypeError
        *socket* is not a `zmq.Socket`, *spawn* is none of the above, or *handle* is a coroutine
        function or a generator function.
    zmq.ZMQError
        The socket is closed.
    ValueError
        Another source or a proxy owns the socket, there is a handler but its type receives
        nothing, or *spawn*, *outbox*, *outbox_bytes*, *overflow* or a limit is out of range.
    """

    __module__ = "gzmqsource"

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Source[bytes],
            socket: zmq.Socket[Any],
            handle: Handler[bytes] | None = None,
            *,
            spawn: Spawn = None,
            outbox: int = 1000,
            outbox_bytes: int = 1 << 24,
            overflow: Overflow = "block",
            copy: Literal[True] = True,
            on_error: Report | None = None,
            ref: bool = True,
        ) -> None: ...

        @overload
        def __init__(
            self: Source[zmq.Frame],
            socket: zmq.Socket[Any],
            handle: Handler[zmq.Frame] | None = None,
            *,
            spawn: Spawn = None,
            outbox: int = 1000,
            outbox_bytes: int = 1 << 24,
            overflow: Overflow = "block",
            copy: Literal[False],
            on_error: Report | None = None,
            ref: bool = True,
        ) -> None: ...

        @overload
        def __init__(
            self: Source[bytes | zmq.Frame],
            socket: zmq.Socket[Any],
            handle: Handler[bytes | zmq.Frame] | None = None,
            *,
            spawn: Spawn = None,
            outbox: int = 1000,
            outbox_bytes: int = 1 << 24,
            overflow: Overflow = "block",
            copy: bool,
            on_error: Report | None = None,
            ref: bool = True,
        ) -> None: ...

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    # The second is for subclasses that say which frames they have: they open their own class.
    @overload
    @classmethod
    def open(
        cls,
        socket_type: int,
        handle: Handler[bytes] | None = None,
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        subscribe: Topics = (),
        context: zmq.Context[Any] | None = None,
        spawn: Spawn = None,
        outbox: int = 1000,
        outbox_bytes: int = 1 << 24,
        overflow: Overflow = "block",
        copy: Literal[True] = True,
        on_error: Report | None = None,
        ref: bool = True,
        **socket_options: SocketOption,
    ) -> Self: ...

    @overload
    @classmethod
    def open(
        cls: type[_Uncopied],
        socket_type: int,
        handle: Handler[zmq.Frame] | None = None,
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        subscribe: Topics = (),
        context: zmq.Context[Any] | None = None,
        spawn: Spawn = None,
        outbox: int = 1000,
        outbox_bytes: int = 1 << 24,
        overflow: Overflow = "block",
        copy: Literal[False],
        on_error: Report | None = None,
        ref: bool = True,
        **socket_options: SocketOption,
    ) -> _Uncopied: ...

    @overload
    @classmethod
    def open(
        cls,
        socket_type: int,
        handle: Handler[zmq.Frame] | None = None,
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        subscribe: Topics = (),
        context: zmq.Context[Any] | None = None,
        spawn: Spawn = None,
        outbox: int = 1000,
        outbox_bytes: int = 1 << 24,
        overflow: Overflow = "block",
        copy: Literal[False],
        on_error: Report | None = None,
        ref: bool = True,
        **socket_options: SocketOption,
    ) -> Source[zmq.Frame]: ...

    @overload
    @classmethod
    def open(
        cls,
        socket_type: int,
        handle: Handler[bytes | zmq.Frame] | None = None,
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        subscribe: Topics = (),
        context: zmq.Context[Any] | None = None,
        spawn: Spawn = None,
        outbox: int = 1000,
        outbox_bytes: int = 1 << 24,
        overflow: Overflow = "block",
        copy: bool,
        on_error: Report | None = None,
        ref: bool = True,
        **socket_options: SocketOption,
    ) -> Source[bytes | zmq.Frame]: ...

    @classmethod
    def open(
        cls,
        socket_type: int,
        handle: Handler[Any] | None = None,
        *,
        bind: Endpoints = (),
        connect: Endpoints = (),
        subscribe: Topics = (),
        context: zmq.Context[Any] | None = None,
        spawn: Spawn = None,
        outbox: int = 1000,
        outbox_bytes: int = 1 << 24,
        overflow: Overflow = "block",
        copy: bool = True,
        on_error: Report | None = None,
        ref: bool = True,
        **socket_options: SocketOption,
    ) -> Source[Any]:
        """Make a socket, and a source that owns it.

        Parameters
        ----------
        socket_type : int
            ``zmq.PULL``, ``zmq.ROUTER``, ...
        handle, spawn, outbox, outbox_bytes, overflow, copy, on_error, ref
            As for `Source`.
        bind, connect : str or iterable of str
            The endpoints to bind, and those to connect.
        subscribe : str, bytes or iterable of str or bytes
            The topics of a SUB socket; ``""`` is everything.
        context : zmq.Context, optional
            The context of the socket; ``zmq.Context.instance()`` if not passed.
        **socket_options
            Socket options by their pyzmq names in lower case, such as ``sndhwm=10``. They are set
            before the socket is bound and connected.

        Raises
        ------
        AttributeError, zmq.ZMQError
            A socket has no such option, or libzmq refuses it, an endpoint, or one more socket.
        TypeError, ValueError
            As for `Source`, or an option has another type. After any error no socket is left open.
        """
        socket = open_socket(context, socket_type, socket_options, subscribe, bind, connect)
        try:
            return cls(
                socket,
                handle,
                spawn=spawn,
                outbox=outbox,
                outbox_bytes=outbox_bytes,
                overflow=overflow,
                copy=copy,
                on_error=on_error,
                ref=ref,
            )
        except BaseException:
            close_and_free(socket, 0)
            raise

    @property
    def socket(self) -> SourceSocket:
        """The socket, for everything but messages (bind, connect, subscribe, options).

        It has pyzmq's whole interface, and its calls never make a waiting greenlet miss its edge.
        For a function that takes sockets, such as ``zmq.zmq_poll``, read this property each time:
        that restores an edge which calls before the next switch consume.

        Raises
        ------
        InvalidThreadUseError
            The source belongs to the hub of another thread.
        SourceClosed
            The source is closed.
        """
        self._core.enter()
        return self._core.view()

    def set_handle(self, handle: Handler[FrameT], spawn: Spawn = None) -> None:
        """Set the handler of a source without one, like `gevent.baseserver.BaseServer.set_handle`.

        The source is no longer pulled; `start` starts calling the handler.

        Parameters
        ----------
        handle : callable
            ``handle(message)``.
        spawn : None, int, gevent.pool.Pool or callable
            Where the handler runs, as for the constructor.

        Raises
        ------
        TypeError
            *spawn* is none of these, or *handle* is a coroutine function or a generator function.
        ValueError
            The source has a handler, its type receives nothing, a greenlet waits in `recv`, or
            *spawn* is less than 1.
        InvalidThreadUseError, SourceClosed
            As for `socket`.
        """
        self._core.enter()
        if self.handle is not None:
            raise ValueError(f"{self!r} has a handler already")
        spawner(spawn)
        check_handler(handle)
        self._core.serve()
        self._let_handle(handle, spawn)

    def recv(self, block: bool = True, timeout: float | None = None) -> list[FrameT]:
        """Receive one message.

        Waiting greenlets are served in FIFO order. If the greenlet is killed while it waits, no
        message is lost.

        Parameters
        ----------
        block : bool
            Whether to wait for a message.
        timeout : float or None
            Seconds to wait at most; None waits forever.

        Returns
        -------
        list of bytes or zmq.Frame
            The frames of the message.

        Raises
        ------
        gevent.queue.Empty
            There was no message, or none came within *timeout*.
        SourceClosed
            The source was stopped or closed.
        TypeError
            The source has a handler, which receives all messages.
        zmq.ZMQError
            libzmq refuses to receive, as on a PUSH, which only sends; the source still works.
        ValueError
            *timeout* is negative.
        InvalidThreadUseError
            The source belongs to the hub of another thread.
        """
        if timeout is None:
            message = self._shortcut_receive()
            if message:
                return message
            if message is False and block is True:
                return self._puller.wait()
        return self._puller.receive(1, block, timeout)[0]

    def recv_many(
        self, limit: int, block: bool = True, timeout: float | None = None
    ) -> list[list[FrameT]]:
        """Receive the messages that are there, 1 to *limit*; wait for the first as `recv` does.

        It also returns once `max_bytes` have been read. If the greenlet is killed while it waits,
        no message is lost.

        Parameters
        ----------
        limit : int
            The most messages to return, at least 1.
        block : bool
            Whether to wait for a message.
        timeout : float or None
            Seconds to wait at most; None waits forever.

        Returns
        -------
        list of list of bytes or zmq.Frame
            The messages.

        Raises
        ------
        TypeError, ValueError
            *limit* is not an int, or less than 1.
        gevent.queue.Empty, SourceClosed, TypeError, zmq.ZMQError, ValueError, InvalidThreadUseError
            As for `recv`.
        """
        if not isinstance(limit, int):
            raise TypeError(f"limit={limit!r}: how many messages, an int of at least 1")
        if limit < 1:
            raise ValueError(f"limit={limit!r}: how many messages, an int of at least 1")
        return self._puller.receive(min(limit, UNLIMITED), block, timeout)

    def __iter__(self) -> Iterator[list[FrameT]]:
        """Iterate over the messages, until the source is stopped or closed.

        Raises
        ------
        SourceBroken, SourceForked
            The source lost its socket, or belongs to the parent process.
        TypeError, zmq.ZMQError, InvalidThreadUseError
            As for `recv`.
        """
        while True:
            try:
                message = self.recv()
            except (SourceBroken, SourceForked):
                raise
            except SourceClosed:
                return
            yield message
