"""Moving messages between a socket and Python.

Three calls do the work: read ``EVENTS``, receive up to a limit, send until ``EAGAIN``. None of
them ever waits, and each of them may eat the socket's edge (see `gzmqsource._socket.readiness`).

There are two transfers. ``native`` is a loop in C over the libzmq that pyzmq has loaded; ``pure``
makes pyzmq's calls, and serves where the C extension was not built, on PyPy, and over pyzmq's cffi
backend. ``GZMQSOURCE_TRANSFER=native`` or ``pure`` in the environment forces one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sized
from typing import Any, Literal, Protocol

import zmq

from gzmqsource.transfer.message import AnyMessage, Message
from gzmqsource.transfer.pure import PureTransfer

__all__ = ["Transfer", "backend", "reason", "transfer_for"]


class Transfer(Protocol):
    """The calls of one socket. Errors are pyzmq's own exceptions."""

    #: How many messages were received and sent.
    received: int
    sent: int

    #: How many messages may still pass before other I/O has its turn, as far as is known.
    turn_left: int

    #: The message that the handler was called with last, if it raised.
    in_handler: list[Any] | None

    #: Whether messages may be pulled now.
    pulls: bool

    def events(self) -> int:
        """Read ``ZMQ_EVENTS``, after every command in the mailbox was processed."""

    def option(self, option: int) -> int:
        """Read a socket option that is an int."""

    def receive(self, into: list[list[Any]], max_messages: int, max_bytes: int) -> bool:
        """Append whole messages until ``EAGAIN`` or a limit.

        Returns True if libzmq has no more. An error is raised after what was received before it
        has been appended.
        """

    def send(self, messages: deque[Message], max_messages: int, max_bytes: int) -> bool:
        """Send from the left of a queue until ``EAGAIN`` or a limit; remove what libzmq has taken.

        Returns False if libzmq takes no more now. An error belongs to the message that is then
        the leftmost.
        """

    def send_one(self, message: Message) -> bool:
        """Send one whole message; False if libzmq does not take it now."""

    def guard(
        self,
        lanes: dict[Any, Any],
        arrivals: Sized,
        maxsize: int,
        readers: Sized,
        writers: Sized,
        pollers: Sized,
        check: Callable[[], None],
        least_frames: int,
    ) -> None:
        """Allow the two short cuts, in this thread.

        Parameters
        ----------
        lanes, arrivals : sized
            While one of them is not empty, a message must not overtake.
        maxsize : int
            Of a lane; 0 if nothing is to be queued. If a message needs but one frame there is one
            lane, which is always the same object, and a message may be queued in it.
        readers, writers, pollers : sized
            While one of them is not empty, *check* is called after each call; while there are
            readers, nothing is received past them.
        least_frames : int
            How many frames a message needs.
        """

    def grant(self, messages: int, stride: int, seconds: float) -> int:
        """Let messages pass in this turn, so many and for so long.

        Returns how many may pass until the next grant. A transfer that does not look at the clock
        itself lets one *stride* pass.
        """

    def goes_on(self) -> bool:
        """Count a message that passes; False if the turn had ended."""

    def hand_out(self, messages: list[list[Any]], handle: Callable[[list[Any]], object]) -> None:
        """Call *handle* with each message, from the right, while the turn lasts.

        A message is taken from the list before its call. An exception ends it.
        """

    def close(self) -> None:
        """Take no short cut any more."""

    def send_direct(self, message: AnyMessage) -> bool:
        """Send a message, or queue it behind others; False to take the long way.

        That is so if this is not the owner's thread, others wait to queue theirs, libzmq does not
        take the message or refuses it, it is not of the simplest form, or the turn has ended.
        """

    def receive_frame_direct(self) -> bytes | Literal[False] | None:
        """Receive one frame, as `receive_direct` does a message."""

    def receive_direct(self) -> list[Any] | Literal[False] | None:
        """Receive one message if nothing stands in the way; None to take the long way.

        False says that there is nothing to receive.
        """


def _choose() -> tuple[type[Any], str, str]:
    """Give the transfer's class, its name, and the reason for it."""
    wanted = os.environ.get("GZMQSOURCE_TRANSFER")
    if wanted not in (None, "", "native", "pure"):
        raise ImportError(f"GZMQSOURCE_TRANSFER={wanted!r}: use native or pure")
    if wanted == "pure":
        return PureTransfer, "pure", "GZMQSOURCE_TRANSFER=pure"
    try:
        from gzmqsource.transfer.native import NativeTransfer
    except (ImportError, AttributeError) as error:
        if wanted == "native":
            raise ImportError(f"GZMQSOURCE_TRANSFER=native cannot be had: {error}") from error
        return PureTransfer, "pure", f"the native transfer cannot be had: {error}"
    return NativeTransfer, "native", "GZMQSOURCE_TRANSFER=native" if wanted else "it was built"


_class, backend, reason = _choose()
"""Which transfer is in use, and why."""


def transfer_for(socket: zmq.Socket[Any], copy: bool = True) -> Transfer:
    """Give the transfer of a socket; with ``copy=False`` it receives `zmq.Frame` objects.

    Frames that keep libzmq's memory are pyzmq's own, so they are received through pyzmq.
    """
    transfer: Transfer = _class(socket) if copy else PureTransfer(socket, copy=False)
    return transfer
