"""Moving messages in Python."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

import zmq
from zmq.backend import Socket as BackendSocket

from gzmqsource.transfer._calls import raise_unless_interrupted
from gzmqsource.transfer._sends import PureSends
from gzmqsource.transfer.message import UNLIMITED

_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)

#: A part of libzmq's ``max_command_delay``, in seconds: the shortest it can be is that of a counter
#: of 6 GHz, 0.5 ms.
SHORTEST_COMMAND_DELAY = 0.0004

#: How many messages pass after a wait before others are asked for: most greenlets that wait take a
#: message or two and wait again.
AFTER_WAIT = 32

#: The most messages between two looks at the clock, each a tenth of the cost of a quick message.
LONGEST_STRIDE = 16

#: How many frames are prepared before they are received, if the message before had as many.
MOST_PREPARED = 16

#: The most frames of an oversized message that one call discards: they take 0.5 ms.
MOST_DISCARDED = 1 << 14


class PureTransfer(PureSends):
    """A `gzmqsource.transfer.interface.Transfer` in Python.

    A message that is being received is part of its state, as one that is being sent.
    """

    __slots__ = (
        "_begun",
        "_copy",
        "_getsockopt",
        "_usual",
        "discarding",
        "max_frames",
        "max_message_bytes",
        "oversized",
        "received",
    )

    def __init__(self, socket: zmq.Socket[Any], copy: bool = True) -> None:
        super().__init__(socket)
        # Bound past every subclass: a green or patched socket would wait in its own way.
        self._getsockopt = BackendSocket.get.__get__(socket)
        self._copy = copy
        self.received = self.oversized = 0
        self.discarding = False
        self.max_frames = self.max_message_bytes = UNLIMITED
        #: The frames of a message of which the rest has yet to be received, or all to be returned.
        self._begun: list[zmq.Frame] = []
        #: How many frames the last message had.
        self._usual = 1

    def events(self) -> int:
        """See `Transfer.events`."""
        events: int = self._getsockopt(_EVENTS)
        return events | _POLLIN if self._begun else events

    def option(self, option: int) -> int:
        """See `Transfer.option`."""
        value: int = self._getsockopt(option)
        return value

    def receive(self, into: list[list[Any]], max_messages: int, max_bytes: int) -> bool:
        """See `Transfer.receive`."""
        begun, has_more = self._begun, self._calls.has_more
        left = MOST_DISCARDED
        size = frames = length = measured = 0
        while self.discarding or (
            max_messages > 0 and size < max_bytes and frames < self.max_frames
        ):
            last = begun[-1] if begun else None
            if len(begun) < measured or not begun:
                length = measured = 0
            length += sum(map(len, begun[measured:]))
            measured = len(begun)
            is_allowed = measured <= self.max_frames and length <= self.max_message_bytes
            if last is not None and (self.discarding or not is_allowed):
                max_messages -= self._discard(last, has_more(last))
                left -= 1
                if not left:
                    return False
            elif last is None or has_more(last):
                if not self._receive_frames(last):
                    return True
            elif self._complete(last, into):
                size += length
                frames += measured
                max_messages -= 1
        return False

    def _receive_frames(self, last: zmq.Frame | None) -> bool:
        """Receive what follows *last* in its message; return False if there is nothing."""
        most = 1 if self.discarding else self._usual
        begun, (received, error, frames) = self._begun, self._calls.receiving(most)
        before = len(begun)
        # From here to the end no call of Python's comes between: so nothing has changed since.
        if (begun[-1] if begun else None) is not last:
            return True
        if self._socket._closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        try:
            begun.extend(received)
        except MemoryError:
            # There is room in the list: that comes first.
            index = len(begun) - before
            if 0 <= index < len(frames) and frames[index]:
                begun.append(frames[index])
            raise
        # EFSM: a REQ without a request, or a REP that owes a reply. Its next message comes with a
        # send, and the look after that send finds it.
        if error[0] in (zmq.EAGAIN, zmq.EFSM):
            return False
        raise_unless_interrupted(error[0])
        return True

    def _complete(self, last: zmq.Frame, into: list[list[Any]]) -> bool:
        """Return the message that ends with *last*, unless that was done meanwhile."""
        begun = self._begun
        if self._copy:
            message: list[Any] = [frame.bytes for frame in begun]
        else:
            message = begun[:]
            for frame in message[:-1]:
                frame.more = True
        messages = [message]
        # From here to the end no call of Python's comes between.
        if not begun or begun[-1] is not last:
            return False
        into += messages
        del begun[:]
        self.received += 1
        self._usual = min(len(message), MOST_PREPARED)
        return True

    def _discard(self, last: zmq.Frame, has_more: bool) -> int:
        """Discard what was received of a message that is too large; return 1 for the first time."""
        begun = self._begun
        if not begun or begun[-1] is not last:
            return 0
        is_known, self.discarding = self.discarding, has_more
        del begun[:]
        self.oversized += not is_known
        return int(not is_known)

    def command_clock(self) -> float:
        """See `Transfer.command_clock`."""
        return time.monotonic() / SHORTEST_COMMAND_DELAY


class PureSlice:
    """A time that several allowances share."""

    __slots__ = ("ends", "is_crowded")

    def __init__(self) -> None:
        #: When it is over, by `time.monotonic`.
        self.ends = 0.0
        #: Whether one has used its part, and waits for the next.
        self.is_crowded = False


class PureAllowance:
    """How many messages may pass, and for how long."""

    __slots__ = (
        "_ends",
        "_looked",
        "_short_while",
        "_stride",
        "_until_look",
        "left",
        "max_messages",
        "max_seconds",
    )

    def __init__(self) -> None:
        #: How many messages may still pass; once the time is over, none.
        self.left = 0
        #: The most messages and seconds of one part of a slice.
        self.max_messages = 0
        self.max_seconds = 0.0
        self._ends = self._looked = self._short_while = 0.0
        self._stride = self._until_look = 1

    def refill(self, messages: int, seconds: float) -> None:
        """Let this many *messages* pass from now on, for at most this many *seconds*.

        The first one passes however short that is.
        """
        self._looked = time.monotonic()
        self._ends = self._looked + seconds
        self._short_while = seconds / 16
        self.left = messages
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

    def spend(self, messages: int = 1) -> bool:
        """Count messages that pass; return False if nothing is left for them."""
        if self.left <= 0:
            return False
        self._until_look -= messages
        if self._until_look <= 0:
            now = time.monotonic()
            if now >= self._ends:
                self.left = 0
                return False
            # Long strides for quick messages; a slow one is the last before the next look.
            quick = now - self._looked < self._short_while
            self._stride = min(2 * self._stride, LONGEST_STRIDE) if quick else 1
            self._until_look = self._stride
            self._looked = now
        self.left -= messages
        return True


class PureSizes:
    """The weights of the messages in a deque, oldest first.

    Parameters
    ----------
    most : int
        The most bytes that the messages may count.
    whole : PureSizes, optional
        What counts these, too.
    """

    __slots__ = ("_sizes", "_whole", "most", "total")

    def __init__(self, most: int, whole: PureSizes | None = None) -> None:
        #: The most bytes up to which shortcuts append to the deque.
        self.most = most
        #: How many bytes all messages count.
        self.total = 0
        self._whole = whole
        self._sizes: deque[int] = deque()

    def append(self, size: int) -> None:
        """Append the weight of a message."""
        self._sizes.append(size)
        self._add(size)

    def settle(self, left: int) -> None:
        """Remove the weights of the *left* oldest messages."""
        self._add(-sum(self._sizes.popleft() for _ in range(left)))

    def remove(self, index: int) -> None:
        """Remove the weight of one message."""
        self._add(-self._sizes[index])
        del self._sizes[index]

    def _add(self, size: int) -> None:
        self.total += size
        if self._whole is not None:
            self._whole.total += size


class PureShortcuts:
    """A `gzmqsource.transfer.interface.Shortcuts` that takes none."""

    __slots__ = ("_allowance", "may_pull")

    def __init__(self, allowance: PureAllowance) -> None:
        self._allowance = allowance
        self.may_pull = False

    def send(self, message: object) -> bool:
        """Decline; see `Shortcuts.send`."""
        return False

    def send_frames(self, frames: object, flags: int) -> bool:
        """Decline; see `Shortcuts.send_frames`."""
        return False

    def receive(self) -> None:
        """Decline; see `Shortcuts.receive`."""

    def receive_frame(self) -> None:
        """Decline; see `Shortcuts.receive_frame`."""

    def receive_uncopied(self, track: bool) -> None:
        """Decline; see `Shortcuts.receive_uncopied`."""

    def dispatch(
        self,
        messages: list[list[Any]],
        handle: Callable[[list[Any]], object],
        failed: Callable[[BaseException, list[Any]], object],
        base: Context,
    ) -> None:
        """See `Shortcuts.dispatch`."""

        def handle_next() -> None:
            message = messages[-1]
            try:
                messages.pop()  # in here, for a signal's handler may raise when it returns
                handle(message)
            except BaseException as error:
                failed(error, message)

        spend = self._allowance.spend
        while messages and spend():
            base.copy().run(handle_next)

    def close(self) -> None:
        """See `Shortcuts.close`."""
        self.may_pull = False
