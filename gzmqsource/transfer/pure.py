"""Moving messages through pyzmq's own calls."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import zmq
from zmq.backend import Frame
from zmq.backend import Socket as BackendSocket

from gzmqsource.transfer.message import UNLIMITED, Message, as_frames

_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _RCVMORE = int(zmq.EVENTS), int(zmq.RCVMORE)

#: The types that spread messages over several pipes (libzmq's ``lb_t``). When a pipe dies inside a
#: message, they drop the following frames, up to one without ``SNDMORE``.
DROPPING_TYPES = frozenset({zmq.PUSH, zmq.DEALER, zmq.REQ})

#: Less than libzmq's ``max_command_delay``, in seconds: the shortest is that of a counter of 6 GHz,
#: 0.5 ms.
SHORTEST_COMMAND_DELAY = 0.0004

#: How many messages pass after a wait in a short part: most greenlets that wait take a message or
#: two and wait again.
AFTER_WAIT = 32

#: The most messages between two looks at the clock, each a tenth of the cost of a quick message.
LONGEST_STRIDE = 16


#: Whether pyzmq's backend notes in a frame that it receives whether more follow. In cffi's,
#: ``more`` is an attribute of the class, and always False.
_FRAMES_KNOW = Frame.more is not False

#: The most frames of an oversized message that one call discards; that takes 0.5 ms.
MOST_DISCARDED = 1 << 14


def _receive_and_ask(
    receive: Callable[[int, bool], Any], option: Callable[[int], int], flags: int, copy: bool
) -> Any:
    """Receive a frame, and note whether more follow."""
    frame = receive(flags, copy)
    frame.more = bool(option(_RCVMORE))
    return frame


class PureTransfer:
    """A `gzmqsource.transfer.interface.Transfer` in Python."""

    __slots__ = (
        "_ahead",
        "_dropping",
        "_getsockopt",
        "_is_receiving",
        "_is_sending",
        "_recv",
        "_send",
        "calls",
        "discarding",
        "last_receive",
        "max_frames",
        "max_message_bytes",
        "must_send_first",
        "oversized",
        "received",
        "sent",
    )

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        # Bound past every subclass: a green or patched socket would wait in its own way.
        self._recv = BackendSocket.recv.__get__(socket)
        self._send = BackendSocket.send.__get__(socket)
        self._getsockopt = BackendSocket.get.__get__(socket)
        if not _FRAMES_KNOW:
            self._recv = partial(_receive_and_ask, self._recv, self._getsockopt)
        self.received = self.sent = self.oversized = self.calls = self.last_receive = 0
        #: The messages that were received ahead of the call that returns them.
        self._ahead: list[list[Any]] = []
        self.discarding = self.must_send_first = False
        self._is_receiving = self._is_sending = False
        self.max_frames = self.max_message_bytes = UNLIMITED
        self._dropping = socket.get(zmq.TYPE) in DROPPING_TYPES

    def events(self) -> int:
        """See `Transfer.events`."""
        self.calls += 1
        events: int = self._getsockopt(_EVENTS)
        return events | zmq.POLLIN if self._ahead else events

    def option(self, option: int) -> int:
        """See `Transfer.option`."""
        value: int = self._getsockopt(option)
        return value

    def receive(
        self, into: list[list[Any]], max_messages: int, max_bytes: int, copies: bool = True
    ) -> bool:
        """See `Transfer.receive`; a signal handler that receives finds nothing meanwhile."""
        if self._is_receiving:
            return True
        try:
            self._is_receiving = True
            return self._receive_whole(into, max_messages, max_bytes, copies)
        finally:
            self._is_receiving = False

    def _receive_whole(
        self, into: list[list[Any]], max_messages: int, max_bytes: int, copies: bool
    ) -> bool:
        # A Frame records whether more follow: 0.64 us a message, where reading RCVMORE from the
        # socket after each frame takes 1.14 us.
        recv, append = self._recv, into.append
        most_frames, most_bytes = self.max_frames, self.max_message_bytes
        size = frames = 0
        self.last_receive = self.calls = self.calls + 1
        if self._ahead:
            ahead, self._ahead = self._ahead, self._ahead[max_messages:]
            into += ahead[:max_messages]
            max_messages -= len(ahead)
        if self.discarding and not self._discard():
            return False
        for _ in range(max_messages):
            try:
                frame = recv(_NOBLOCK, False)
                message = [frame]
                length = len(frame)
                while frame.more and len(message) < most_frames and length <= most_bytes:
                    frame = recv(_NOBLOCK, False)
                    message.append(frame)
                    length += len(frame)
                if frame.more or length > most_bytes:
                    self.oversized += 1
                    self.discarding = frame.more
                    if not self._discard():
                        return False
                    continue
                append([frame.bytes for frame in message] if copies else message)
            except BaseException as error:
                # EFSM: a REQ without a request, or a REP that has not replied. Its next message
                # comes with a send, and the look after that send finds it.
                if isinstance(error, zmq.ZMQError) and error.errno in (zmq.EAGAIN, zmq.EFSM):
                    self.must_send_first = error.errno == zmq.EFSM
                    return True
                # Out of memory, or a signal handler's exception, which pyzmq raises when it has
                # received a frame: this message is lost, but the next receive must not begin in
                # the middle of it.
                while self.option(_RCVMORE):
                    recv(_NOBLOCK, False)
                self.discarding = False
                raise
            self.received += 1
            size += length
            frames += len(message)
            if size >= max_bytes or frames >= most_frames:
                break
        return False

    def receive_ahead(self, copies: bool = True) -> None:
        """See `Transfer.receive_ahead`."""
        ahead: list[list[Any]] = []
        try:
            self.receive(ahead, len(self._ahead) + 1, UNLIMITED, copies)
        finally:
            self._ahead += ahead

    def _discard(self) -> bool:
        """Discard frames of a message that is too large; return whether its end was reached."""
        for _ in range(MOST_DISCARDED):
            if not self.discarding:
                break
            self.discarding = self._recv(_NOBLOCK, False).more
        return not self.discarding

    def send_lanes(
        self,
        lanes: Sequence[deque[Message]],
        moved: list[tuple[int, int, zmq.ZMQError | bool]],
        max_each: int,
        max_messages: int,
        max_bytes: int,
    ) -> int:
        """See `Transfer.send_lanes`."""
        for index, lane in enumerate(lanes):
            if max_messages <= 0 or max_bytes <= 0:
                return index
            left = before = len(lane)
            ending: zmq.ZMQError | bool = False
            try:
                for _ in range(min(max_each, max_messages, before)):
                    if not lane or max_bytes <= 0:
                        break
                    message = lane[0]
                    if not self.send_one(message):
                        ending = True
                        break
                    if lane and lane[0] is message:  # else a signal handler has removed it
                        lane.popleft()
                    left -= 1
                    max_bytes -= sum(len(frame) for frame in as_frames(message))
            except zmq.ZMQError as error:
                ending = error
            finally:
                max_messages -= before - left
                if left < before or not isinstance(ending, bool):
                    moved.append((index, before - left, ending))
        return len(lanes)

    def command_clock(self) -> float:
        """See `Transfer.command_clock`."""
        return time.monotonic() / SHORTEST_COMMAND_DELAY

    def send_one(self, message: Message) -> bool:
        """See `Transfer.send_one`; a signal handler that sends has its message queued meanwhile."""
        if self._is_sending:
            return False
        self.calls += 1
        try:
            self._is_sending = True
            if type(message) is bytes:
                self._send(message, _NOBLOCK)
            elif not self._send_frames(message):
                return False
        except zmq.Again:
            return False
        finally:
            self._is_sending = False
        self.sent += 1
        return True

    def _send_frames(self, frames: Sequence[Any]) -> bool:
        """Send the frames of a message; return False if libzmq does not take it now."""
        send, last = self._send, len(frames) - 1
        while True:
            sent = 0
            try:
                for frame in frames:
                    send(frame, _NOBLOCK_MORE if sent < last else _NOBLOCK)
                    sent += 1
                return True
            except zmq.Again:
                if not sent:
                    return False
            # The pipe died inside the message.
            if self._dropping and sent < last:
                send(b"", _NOBLOCK)  # the end of the frames that are being dropped


class PureSlice:
    """A period of time that several allowances share."""

    __slots__ = ("ends", "is_crowded")

    def __init__(self) -> None:
        #: Its end, by `time.monotonic`.
        self.ends = 0.0
        #: Whether an allowance has used its part, and waits for the next.
        self.is_crowded = False


class PureAllowance:
    """The number of messages that may pass, and the time for that."""

    __slots__ = (
        "_began",
        "_ends",
        "_granted",
        "_looked",
        "_short_while",
        "_stride",
        "_until_look",
        "left",
        "max_messages",
        "max_seconds",
    )

    def __init__(self) -> None:
        #: How many messages may still pass; 0 once the time is over.
        self.left = 0
        #: The most messages and seconds of one part of a slice.
        self.max_messages = 0
        self.max_seconds = 0.0
        self._ends = self._looked = self._began = self._short_while = 0.0
        self._granted = 0
        self._stride = self._until_look = 1

    def refill(self, messages: int, seconds: float) -> None:
        """Let this many *messages* pass from now on, for at most this many *seconds*.

        The first one passes however short the time is.
        """
        self._looked = self._began = time.monotonic()
        self._ends = self._began + seconds
        self._short_while = seconds / 16
        self.left = self._granted = messages
        self._stride = 1
        self._until_look = 2

    def restart_within(self, shared: PureSlice) -> bool:
        """Begin a short part, if a shared slice lasts and is not crowded; return whether it does.

        It has `AFTER_WAIT` messages, and an eighth of the seconds of a whole part.
        """
        left = 0.0 if shared.is_crowded else shared.ends - time.monotonic()
        if left <= 0:
            return False
        self.refill(min(AFTER_WAIT, self.max_messages), min(self.max_seconds / 8, left))
        return True

    def seconds_left(self) -> float:
        """Return for how many seconds messages may still pass."""
        return max(0.0, self._ends - time.monotonic())

    def likely(self) -> int:
        """Return how many more are likely to pass, at the pace of those before: at least 1."""
        now = time.monotonic()
        passed, elapsed = self._granted - self.left, now - self._began
        if passed <= 0 or elapsed <= 0:
            return max(1, self.left)
        return max(1, min(self.left, int((self._ends - now) / elapsed * passed)))

    def spend(self, messages: int = 1) -> bool:
        """Count messages that pass; return False if nothing is left."""
        if self.left <= 0:
            return False
        self._until_look -= messages
        if self._until_look <= 0:
            now = time.monotonic()
            if now >= self._ends:
                self.left = 0
                return False
            # Long strides for quick messages; after a slow one, the next message has a look.
            quick = now - self._looked < self._short_while
            self._stride = min(2 * self._stride, LONGEST_STRIDE) if quick else 1
            self._until_look = self._stride
            self._looked = now
        self.left -= messages
        return True

    def spend_batch(self, messages: int) -> None:
        """Count messages that were received together; the next one has a look at the clock.

        They are yet to be handled, and may be slow.
        """
        self.spend(messages)
        self._stride = self._until_look = 1


class PureSizes:
    """The weights of the messages in a deque, oldest first.

    Parameters
    ----------
    most : int
        The most bytes that the messages may count.
    whole : PureSizes, optional
        Sizes that include these, too.
    """

    __slots__ = ("_sizes", "_whole", "most", "total")

    def __init__(self, most: int, whole: PureSizes | None = None) -> None:
        #: The most bytes up to which shortcuts append to the deque.
        self.most = most
        #: How many bytes all messages count.
        self.total = 0
        self._whole = whole
        self._sizes: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._sizes)

    def append(self, size: int) -> None:
        """Append the weight of a message."""
        self._sizes.append(size)
        self._add(size)

    def settle(self, left: int) -> None:
        """Remove the weights of the *left* oldest messages."""
        # In this order here, and below: after an exception between two steps, the number of weights
        # shows that they are to be counted again.
        for _ in range(left):
            self._add(-self._sizes[0])
            self._sizes.popleft()

    def remove(self, index: int) -> None:
        """Remove the weight of one message."""
        self._add(-self._sizes[index])
        del self._sizes[index]

    def recount(self, sizes: list[int]) -> None:
        """Replace all weights, after an exception has left some of them out."""
        weights = deque(sizes)
        self._add(sum(sizes) - self.total)
        self._sizes = weights

    def _add(self, size: int) -> None:
        self.total += size
        if self._whole is not None:
            self._whole.total += size
