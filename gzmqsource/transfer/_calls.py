"""libzmq's calls for the transfer in Python, each of which is one step together with its record.

pyzmq runs the handlers of signals after each call of libzmq, and Python after each call of its own.
What a handler raises then comes between what libzmq has done and the record of it: a frame that was
received is gone, or one that was sent is sent again. And what a handler sends comes between the
frames of a message. So what must not be divided is composed of iterators that are written in C, and
one call consumes them: `consume`, or a list's ``extend``.

`LibzmqCalls` does that with libzmq's functions. Where these cannot be had, in PyPy and over other
backends than pyzmq's in Cython, `PyzmqCalls` has the same interface, and not that property.
"""

from __future__ import annotations

import copy
import ctypes
import errno
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress, dropwhile, repeat, takewhile, tee
from typing import Any, Protocol

import zmq
from zmq.backend import Socket as BackendSocket

#: Call what an iterator consists of.
consume: Callable[[Iterator[Any]], None] = deque(maxlen=0).extend

_NOBLOCK, _NOBLOCK_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_ZERO = (0,)
_is_success = (0).__le__

#: The bytes of a frame up to which libzmq copies it from where it is; a longer one is made a
#: `zmq.Frame`. It is the largest int for which no memory is needed when libzmq returns it.
_SHORT = 255


class Calls(Protocol):
    """The calls of one socket. None of them waits."""

    def has_more(self, frame: zmq.Frame) -> bool:
        """Return whether a frame that was received is not the last one of its message."""

    def receiving(self, most: int) -> tuple[Iterator[zmq.Frame], list[int], Sequence[zmq.Frame]]:
        """Return an iterator that receives frames of one message, and where libzmq's error is.

        It yields *most* frames, or fewer if the message ends or none is there. Without an error
        that is 0. The frames themselves come third, if they exist already: one that was received
        is not empty, although there may have been no memory for what libzmq returned.
        """

    def lone(self, message: bytes) -> tuple[Lone, Iterator[int]] | None:
        """Return the quick way to send a short message of one frame, and its step."""

    def sending(self, frames: Sequence[Any], before: int = 0) -> Sending:
        """Return what sends a message; or its last frames, if libzmq took some *before*."""


class Sending:
    """A message, or the end of one, on its way into libzmq.

    Parameters
    ----------
    tickets : iterator
        As many as there are frames, and one more; the step takes one before each frame, and one
        after the last.
    before : int
        How many frames libzmq has taken before.
    frames : sequence
        Those that follow.
    step : iterator
        Sends them, until libzmq refuses one.
    error : list of int
        Where libzmq's error is then, unless it has taken all frames.
    sizes : sequence of int
        How long each frame is, if libzmq empties those that it takes.
    """

    __slots__ = ("_before", "_frames", "_sizes", "_tickets", "count", "error", "step", "successor")

    def __init__(
        self,
        tickets: Any,
        before: int,
        frames: Sequence[Any],
        step: Iterator[Any],
        error: list[int],
        sizes: Sequence[int] = (),
    ) -> None:
        self._tickets = tickets
        self._before = before
        self._frames = frames
        self._sizes = sizes
        #: How many frames the message has.
        self.count = before + len(frames)
        self.step = step
        self.error = error
        #: What sends the rest, once this was interrupted.
        self.successor: Sending | None = None

    @property
    def taken(self) -> int:
        """How many frames libzmq has taken."""
        # The last one that was tried is not among them: either libzmq has refused it, or there
        # was no memory to try it. But if it is empty now, there was none for what libzmq returned.
        tried = len(self._frames) + 1 - int(self._tickets.__length_hint__())
        last = max(0, tried - 1)
        if tried and last < len(self._sizes) and len(self._frames[last]) < self._sizes[last]:
            last += 1
        return self._before + last

    @property
    def is_whole(self) -> bool:
        """Whether libzmq has taken all frames."""
        return not self._tickets.__length_hint__() or self.taken == self.count

    @property
    def is_interrupted(self) -> bool:
        """Whether libzmq has taken some frames, and takes the others if it gets them."""
        return 0 < self.taken < self.count and self.error[0] in (0, errno.EINTR)

    @property
    def rest(self) -> Sequence[Any]:
        """The frames that libzmq has not taken."""
        return self._frames[self.taken - self._before :]


class Lone(list[int]):
    """A message of one short frame: what libzmq has returned, and its error, once it was sent."""

    @property
    def is_whole(self) -> bool:
        """Whether libzmq has taken it."""
        return bool(self) and self[0] >= 0


def _recorded(codes: Iterator[int], error: list[int], number: Callable[..., int]) -> Iterator[Any]:
    """Return an iterator that records libzmq's error after the first code that stands for one."""
    return compress(
        _ZERO, map(error.__setitem__, _ZERO, map(number, dropwhile(_is_success, codes)))
    )


class PyzmqCalls:
    """`Calls` by pyzmq's methods."""

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        # Bound past every subclass: a green or patched socket would wait in its own way.
        self._recv = BackendSocket.recv.__get__(socket)
        self._send = BackendSocket.send.__get__(socket)

    def has_more(self, frame: zmq.Frame) -> bool:
        """See `Calls.has_more`."""
        return bool(frame.more)

    def lone(self, message: bytes) -> None:
        """See `Calls.lone`."""

    def receiving(self, most: int) -> tuple[Iterator[zmq.Frame], list[int], Sequence[zmq.Frame]]:
        """See `Calls.receiving`."""
        error = [0]

        def receive() -> Iterator[zmq.Frame]:
            try:
                yield self._recv(_NOBLOCK, False)
            except zmq.ZMQError as raised:
                error[0] = raised.errno or 0

        return receive(), error, ()

    def sending(self, frames: Sequence[Any], before: int = 0) -> Sending:
        """See `Calls.sending`."""
        error = [0]
        last = len(frames) - 1
        tickets = iter([*frames, None])

        def send() -> Iterator[None]:
            for index, frame in enumerate(tickets):
                if index <= last:
                    try:
                        self._send(frame, _NOBLOCK_MORE if index < last else _NOBLOCK)
                    except zmq.ZMQError as raised:
                        error[0] = raised.errno or 0
                        return
                    yield

        return Sending(tickets, before, frames, send(), error)


class LibzmqCalls:
    """`Calls` by libzmq's functions, with the GIL, as the native transfer has it."""

    def __init__(self, socket: zmq.Socket[Any], libzmq: Libzmq) -> None:
        self._libzmq = libzmq
        self._handle = (libzmq.pointer(socket.underlying),)

    def has_more(self, frame: zmq.Frame) -> bool:
        """See `Calls.has_more`."""
        return bool(self._libzmq.more(self._libzmq.message_in(frame)))

    def lone(self, message: bytes) -> tuple[Lone, Iterator[int]] | None:
        """See `Calls.lone`."""
        libzmq, size = self._libzmq, len(message)
        if size > _SHORT:
            return None
        called = map(libzmq.send, self._handle, (message,), libzmq.sizes[size], (_NOBLOCK,))
        return Lone(), chain(called, map(libzmq.errno, _ZERO))

    def receiving(self, most: int) -> tuple[Iterator[zmq.Frame], list[int], Sequence[zmq.Frame]]:
        """See `Calls.receiving`."""
        libzmq, error = self._libzmq, [0]
        frames = [zmq.Frame() for _ in range(most)]
        into = [*map(libzmq.message_in, frames)]
        if most > 1:  # each of the others only if the one before is not the last of its message
            followed = takewhile(bool, map(libzmq.more, into))
            into_next: Iterable[Any] = chain(into[:1], compress(into[1:], followed))
        else:
            into_next = into
        called = map(libzmq.receive, into_next, repeat(*self._handle), repeat(_NOBLOCK))
        codes, same_codes = tee(called)
        received = compress(frames, map(_is_success, codes))
        return chain(received, _recorded(same_codes, error, libzmq.errno)), error, frames

    def sending(self, frames: Sequence[Any], before: int = 0) -> Sending:
        """See `Calls.sending`."""
        libzmq, error, count = self._libzmq, [0], len(frames)
        kept: Sequence[Any] = frames
        full: list[int] = []
        flags = chain(repeat(_NOBLOCK_MORE, count - 1), (_NOBLOCK,))
        if _are_short(frames):
            tickets = iter([*self._handle * (count + 1)])
            sizes = chain.from_iterable([libzmq.sizes[len(frame)] for frame in frames])
            called = map(libzmq.send, tickets, frames, sizes, flags)
        else:
            kept = [_part(frame) for frame in frames]
            full = [len(part) for part in kept]
            tickets = iter([*map(libzmq.message_in, kept), None])
            called = map(libzmq.send_part, tickets, repeat(*self._handle), flags)
        # Without an error, libzmq's number means nothing.
        note = map(error.__setitem__, _ZERO, map(libzmq.errno, _ZERO))
        step = chain(takewhile(_is_success, called), note)
        return Sending(tickets, before, kept, step, error, full)


def _are_short(frames: Sequence[Any]) -> bool:
    return all(type(frame) is bytes and len(frame) <= _SHORT for frame in frames)


def _part(frame: Any) -> zmq.Frame:
    """Return what libzmq can take, and empty."""
    if isinstance(frame, zmq.Frame):
        return copy.copy(frame)
    return zmq.Frame(frame, copy=True)


class Libzmq:
    """The functions of the libzmq that pyzmq has loaded, and what they are called with."""

    def __init__(self) -> None:
        import zmq.backend.cython._zmq as pyzmq

        if not issubclass(zmq.Frame, pyzmq.Frame):
            raise ImportError("pyzmq uses another backend")
        library = ctypes.PyDLL(pyzmq.__file__)
        self.send = library.zmq_send
        self.send_part = library.zmq_msg_send
        self.receive = library.zmq_msg_recv
        self.more = library.zmq_msg_more
        self.errno = library.zmq_errno
        self.pointer: Callable[[int], Any] = ctypes.c_void_p.from_param
        self.sizes = [(ctypes.c_size_t.from_param(size),) for size in range(_SHORT + 1)]
        self._offset = self._find_message(library)

    def _find_message(self, library: Any) -> int:
        """Return where a `zmq.Frame` has its ``zmq_msg_t``: a short message is in there itself."""
        message = ctypes.create_string_buffer(64)
        frame: Any = zmq.Frame(b"x", copy=True)
        library.zmq_msg_data.restype = ctypes.c_void_p
        library.zmq_msg_init_size(message, ctypes.c_size_t(1))
        into_message = library.zmq_msg_data(message) - ctypes.addressof(message)
        library.zmq_msg_close(message)
        content: Any = (ctypes.c_char * 1).from_buffer(frame)
        offset: int = ctypes.addressof(content) - id(frame) - into_message
        if not object.__basicsize__ <= offset <= zmq.Frame.__basicsize__ - 64:
            raise ImportError("a zmq.Frame has no zmq_msg_t that can be found")
        return offset

    def message_in(self, frame: zmq.Frame) -> Any:
        """Return a pointer to the ``zmq_msg_t`` of a frame."""
        return self.pointer(id(frame) + self._offset)


_libzmq: Libzmq | None
try:
    _libzmq = Libzmq() if platform.python_implementation() == "CPython" else None
except (ImportError, AttributeError, TypeError):
    _libzmq = None


def calls_of(socket: zmq.Socket[Any]) -> Calls:
    """Return the best calls that there are for a socket."""
    return PyzmqCalls(socket) if _libzmq is None else LibzmqCalls(socket, _libzmq)


def raise_unless_interrupted(error: int) -> None:
    """Raise libzmq's error; after a signal, whose handler has run by now, the call is repeated."""
    if error == zmq.ETERM:
        raise zmq.ContextTerminated
    if error not in (0, errno.EINTR):
        raise zmq.ZMQError(error)
