"""Moving messages through pyzmq's own calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
from zmq.backend import Socket as BackendSocket

from gzmqsource.transfer.message import Message, as_frames

_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)

#: The types that spread messages over several pipes (libzmq's ``lb_t``). When a pipe dies inside
#: a message they drop the frames that follow, until one without ``SNDMORE``.
DROPPING_TYPES = frozenset({zmq.PUSH, zmq.DEALER, zmq.REQ})


class PureTransfer:
    """A `gzmqsource.transfer.Transfer` in Python."""

    __slots__ = (
        *("_copy", "_dropping", "_getsockopt", "_recv", "_send"),
        *("in_handler", "pulls", "received", "sent", "turn_left"),
    )

    def __init__(self, socket: zmq.Socket[Any], copy: bool = True) -> None:
        # Bound past every subclass: a green or patched socket would wait in its own way.
        self._recv = BackendSocket.recv.__get__(socket)
        self._send = BackendSocket.send.__get__(socket)
        self._getsockopt = BackendSocket.get.__get__(socket)
        self._copy = copy
        self.received = self.sent = self.turn_left = 0
        self.pulls = False
        self.in_handler: list[Any] | None = None
        self._dropping = socket.get(zmq.TYPE) in DROPPING_TYPES

    def events(self) -> int:
        """See `Transfer.events`."""
        events: int = self._getsockopt(_EVENTS)
        return events

    def option(self, option: int) -> int:
        """See `Transfer.option`."""
        value: int = self._getsockopt(option)
        return value

    def receive(self, into: list[list[Any]], max_messages: int, max_bytes: int) -> bool:
        """See `Transfer.receive`."""
        # A Frame knows whether more follow: 0.64 us a message, where asking the socket for
        # RCVMORE after each frame takes 1.14 us.
        recv, copy, append = self._recv, self._copy, into.append
        size = 0
        for _ in range(max_messages):
            try:
                frame = recv(_NOBLOCK, False)
            except zmq.ZMQError as error:
                # EFSM: a REQ without a request, or a REP that owes a reply. Its next message
                # comes with a send, and the look after that send finds it.
                if error.errno in (zmq.EAGAIN, zmq.EFSM):
                    return True
                raise
            message = [frame.bytes if copy else frame]
            size += len(frame)
            while frame.more:
                frame = recv(_NOBLOCK, False)
                message.append(frame.bytes if copy else frame)
                size += len(frame)
            append(message)
            self.received += 1
            if size >= max_bytes:
                break
        return False

    def send(self, messages: deque[Message], max_messages: int, max_bytes: int) -> bool:
        """See `Transfer.send`."""
        send_one = self.send_one
        size = 0
        for _ in range(min(max_messages, len(messages))):
            message = messages[0]
            if not send_one(message):
                return False
            messages.popleft()
            size += sum(len(frame) for frame in as_frames(message))
            if size >= max_bytes:
                break
        return True

    def send_one(self, message: Message) -> bool:
        """See `Transfer.send_one`."""
        if type(message) is bytes:
            taken = self.send_frame(message, _NOBLOCK)
        else:
            sent = self._send_frames(message)
            while 0 < sent < len(message):  # the pipe died inside the message
                if self._dropping and sent < len(message) - 1:
                    self._send(b"", _NOBLOCK)  # the end of what is being dropped
                sent = self._send_frames(message)
            taken = sent > 0
        self.sent += taken
        return taken

    def send_frame(self, frame: Any, flags: int) -> bool:
        """Send one frame; False if libzmq does not take it now."""
        try:
            self._send(frame, flags)
        except zmq.Again:
            return False
        return True

    def _send_frames(self, frames: Any) -> int:
        """Send frames until libzmq answers ``EAGAIN``; return how many it took."""
        last = len(frames) - 1
        for index, frame in enumerate(frames):
            if not self.send_frame(frame, _NOBLOCK_MORE if index < last else _NOBLOCK):
                return index
        return last + 1

    def grant(self, messages: int, stride: int, seconds: float) -> int:
        """See `Transfer.grant`."""
        self.turn_left = min(messages, stride)
        return self.turn_left

    def goes_on(self) -> bool:
        """See `Transfer.goes_on`."""
        self.turn_left -= 1
        return self.turn_left >= 0

    def hand_out(self, messages: list[list[Any]], handle: Callable[[list[Any]], object]) -> None:
        """See `Transfer.hand_out`."""
        while messages and self.goes_on():
            self.in_handler = messages.pop()
            handle(self.in_handler)
        self.in_handler = None

    def guard(self, *_: object) -> None:
        """Take no short cut; see `Transfer.guard`."""

    def close(self) -> None:
        """See `Transfer.close`."""

    def send_direct(self, message: object) -> bool:
        """Take the long way; see `Transfer.send_direct`."""
        return False

    def receive_frame_direct(self) -> None:
        """Take the long way; see `Transfer.receive_frame_direct`."""

    def receive_direct(self) -> None:
        """Take the long way; see `Transfer.receive_direct`."""
