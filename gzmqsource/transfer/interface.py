"""The interface between a socket and Python, for messages, and the state that it needs.

`Transfer` is the plain one: a few calls, none of which waits. `Shortcuts` serve a busy socket with
one call for each message; they are an object beside the transfer, and they look only at `Backlog`,
`Lane` and `Waiting`. A message that a shortcut declines takes the slow path.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Sized
from contextvars import Context
from typing import Any, Literal, Protocol

import zmq

from gzmqsource.transfer.message import AnyMessage, Message


class Transfer(Protocol):
    """The calls of one socket. Each may consume its edge. Errors are pyzmq's exceptions."""

    #: How many messages were received and sent.
    received: int
    sent: int

    #: The most frames and bytes of a message that is received; `UNLIMITED` to begin with.
    max_frames: int
    max_message_bytes: int

    #: How many messages were larger, and were discarded.
    oversized: int

    #: Whether the rest of such a message is still to be read; the next `receive` continues.
    discarding: bool

    #: Whether the last `receive` found no message because a REQ or REP has to send first.
    must_send_first: bool

    #: How many calls may have read the mailbox, and which of them was the last receive. While they
    #: are the same, no edge that came after that receive was consumed.
    calls: int
    last_receive: int

    def events(self) -> int:
        """Read ``ZMQ_EVENTS``, after every command in the mailbox was processed."""

    def option(self, option: int) -> int:
        """Read a socket option that is an int."""

    def receive(
        self, into: list[list[Any]], max_messages: int, max_bytes: int, copies: bool = True
    ) -> bool:
        """Append whole messages until ``EAGAIN`` or a limit; return True if libzmq has no more.

        The messages of one call have at most `max_frames` frames, apart from those of the last
        message. A message that is too large counts towards *max_messages*, and is not appended.
        Frames are bytes, or `zmq.Frame` objects without *copies*.

        Messages that were received before an error are appended before the error is raised.
        """

    def receive_ahead(self, copies: bool = True) -> None:
        """Receive a message, if there is one, for the next `receive`.

        ``ZMQ_EVENTS`` may have read its first frame inside libzmq, which aborts the process if the
        connection is ended before the rest is read.
        """

    def send_lanes(
        self,
        lanes: Sequence[deque[Message]],
        moved: list[tuple[int, int, zmq.ZMQError | bool]],
        max_each: int,
        max_messages: int,
        max_bytes: int,
    ) -> int:
        """Send from the left of each of many queues until ``EAGAIN`` or a limit.

        Remove the messages that libzmq has taken, and return how many queues were tried.

        For each lane of which messages were taken, or one was refused, a tuple is appended to
        *moved*: the index of the lane, the number of messages that have left it, and the reason for
        the end. That is True for ``EAGAIN``, False for a limit, or the error, which concerns the
        message that is then the leftmost. Any other exception is raised after that.

        Parameters
        ----------
        max_each : int
            The most messages of each lane.
        max_messages, max_bytes : int
            The limits of the whole call; once they are reached no further lane is tried.
        """

    def command_clock(self) -> float:
        """Return the time on a clock that never runs slower than the clock of libzmq itself.

        The unit is libzmq's ``max_command_delay``: within that time, sends do not look for commands
        again.
        """

    def send_one(self, message: Message) -> bool:
        """Send one whole message; return False if libzmq does not take it now.

        If it raises, no part of the message was sent, and none will be. Frames may be any
        contiguous buffers. A large frame is lent to libzmq, so it must not change any more.
        """


class Lane(Protocol):
    """A queue that a shortcut appends to."""

    #: Seconds between two calls of `note_time`.
    resolution: float

    @property
    def queue(self) -> deque[Message]:
        """The messages, oldest first."""

    @property
    def maxsize(self) -> int | None:
        """How many messages fit."""

    @property
    def sizes(self) -> Any:
        """The sizes of the messages, and the most bytes that they may have."""

    @property
    def waiting(self) -> Sized:
        """The putters that wait for room; while there is one, no message is appended."""

    def note_time(self) -> None:
        """Note that a message is about to be queued; once within `resolution` is enough."""


class Backlog(Protocol):
    """The messages that a new one must not overtake. The collections stay the same objects."""

    @property
    def lanes(self) -> dict[Any, Any]:
        """While a message's lane is here, it is queued in `lane`, or takes the slow path.

        If a message needs two frames, the first is the key of its lane. If not, it waits for all
        lanes.
        """

    @property
    def arrivals(self) -> Sized:
        """While it is not empty, a message takes the slow path."""

    @property
    def partial(self) -> dict[Any, Any]:
        """The first frames of a message, by the greenlet that has not sent its last one yet.

        A value that is not a list makes the greenlet's next frame take the slow path.
        """

    @property
    def lane(self) -> Lane | None:
        """The lane of all messages, if there is only one and it has been needed."""

    @property
    def least_frames(self) -> int:
        """How many frames a message needs."""


class Waiting(Protocol):
    """The greenlets whose edge a call may consume. The collections stay the same objects."""

    @property
    def readers(self) -> dict[Any, Any]:
        """Those that wait to receive; no message is received past them."""

    @property
    def writers(self) -> dict[Any, Any]:
        """Those that wait to send."""

    @property
    def pollers(self) -> dict[Any, Any]:
        """The sets that poll the socket."""

    @property
    def look_scheduled(self) -> bool:
        """Whether `recheck` has nothing to do, unless a set polls."""

    def recheck(self) -> None:
        """Look at the socket again before the loop polls; called with each call if any waits."""


class Shortcuts(Protocol):
    """One call for each message of a busy socket, in the thread that made them."""

    #: Whether messages may be received; False at first.
    may_pull: bool

    def send(self, message: AnyMessage) -> bool:
        """Send a message, or queue it behind others; return False if it takes the slow path.

        It takes the slow path if this is not the owner's thread, if senders wait to queue their
        messages, if libzmq does not take the message or refuses it, if it is not of the simplest
        form, or if nothing is left of the allowance.
        """

    def send_now(self, message: AnyMessage) -> bool:
        """Send a message as `send` does, also if nothing is left of the allowance."""

    def send_frames(self, frames: AnyMessage, flags: int) -> bool:
        """Send the last frames of a message, as `send` does; with ``SNDMORE``, hold the frames.

        They are held in `Backlog.partial`, and are sent with the last ones.
        """

    def receive(self) -> list[Any] | Literal[False] | None:
        """Receive one message; return None to take the slow path, False if there is none.

        It takes the slow path also if the socket has to send first.
        """

    def receive_frame(self) -> bytes | Literal[False] | None:
        """Receive one frame, as `receive` receives a message."""

    def receive_uncopied(self, track: bool) -> zmq.Frame | Literal[False] | None:
        """Receive one frame that keeps libzmq's memory."""

    def dispatch(
        self,
        messages: list[list[Any]],
        handle: Callable[[list[Any]], object],
        failed: Callable[[BaseException, list[Any]], object],
        base: Context,
        returned: Callable[[object], object] | None = None,
    ) -> None:
        """Call *handle* with each message, from the right, while the allowance lasts.

        A message is removed from the list before its call. An exception of the call is passed to
        *failed*, together with the message; an exception of *failed* ends the loop. Each call has
        the context variables of *base*, whatever an earlier one has set. *returned* is called with
        the value that a call has returned, unless that is None.
        """

    def close(self) -> None:
        """Stop sending and receiving; `dispatch` still works."""
