"""The half of the pure transfer that sends."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, compress
from typing import Any

import zmq

from gzmqsource.transfer._calls import Lone, Sending, calls_of, consume, raise_unless_interrupted
from gzmqsource.transfer.message import Message, as_frames

#: The types that spread messages over several pipes (libzmq's ``lb_t``). When a pipe dies inside
#: a message they drop the frames that follow, until one without ``SNDMORE``.
DROPPING_TYPES = frozenset({zmq.PUSH, zmq.DEALER, zmq.REQ})


class PureSends:
    """Sends whole messages.

    A signal handler may raise between any two calls here, or send itself. So what has begun is part
    of the state, and the next call, whoever makes it, goes on from there.
    """

    __slots__ = ("_calls", "_dropping", "_sending", "_socket", "sent")

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self._socket = socket
        self._calls = calls_of(socket)
        self._dropping = socket.get(zmq.TYPE) in DROPPING_TYPES
        self.sent = 0
        #: What libzmq was given last, until the caller knows.
        self._sending: list[Sending | Lone] = []

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
            ending: zmq.ZMQError | bool = False
            gone: list[Message] = []
            message: Message | None = None
            try:
                for _ in range(min(max_each, max_messages, len(lane))):
                    message = lane[0]
                    if not self._send(message):
                        ending = True
                        break
                    self._remove(message, lane, gone)
                    max_bytes -= sum(len(frame) for frame in as_frames(message))
                    if max_bytes <= 0:
                        break
            except zmq.ZMQError as error:
                ending = error
            finally:
                if message is not None:
                    self._remove(message, lane, gone)
                self.sent += len(gone)
                max_messages -= len(gone)
                if gone or not isinstance(ending, bool):
                    moved.append((index, len(gone), ending))
        return len(lanes)

    def _remove(self, message: Message, lane: deque[Message], gone: list[Message]) -> None:
        """Remove a message from its lane if libzmq has taken it, and forget that it has."""
        if self._sending and self._sending[0].is_whole and lane and lane[0] is message:
            forgets: Iterator[Any] = compress((None,), map(list.clear, (self._sending,)))
            gone.extend(chain(map(deque.popleft, (lane,)), forgets))

    def send_one(self, message: Message) -> bool:
        """See `Transfer.send_one`."""
        taken = self._send(message)
        self.sent += taken
        self._sending.clear()
        return taken

    def _send(self, message: Message) -> bool:
        """Send a message as `send_one` does; if it was taken, `_sending` says so, too."""
        if self._sending:
            self._end()
        while type(message) is bytes and (lone := self._calls.lone(message)) is not None:
            if self._give_lone(*lone):
                return True
            if lone[0][1] == zmq.EAGAIN:
                return False
            raise_unless_interrupted(lone[0][1])
        frames = as_frames(message)
        while True:
            sending = self._calls.sending(frames)
            try:
                self._give(sending)
            except MemoryError:
                if not sending.taken:
                    raise
            if sending.is_whole:
                return True
            sending = self._finish(sending)
            if sending.is_whole:
                return True
            error = sending.error[0]
            if error == zmq.EAGAIN and not sending.taken:
                return False
            if error == zmq.EAGAIN:
                self._end()  # the pipe died inside the message, which is tried again
            else:
                raise_unless_interrupted(error)

    def _give_lone(self, outcome: Lone, step: Iterator[int]) -> bool:
        """Give libzmq a message of one frame; return whether it was taken."""
        state: list[Sending | Lone] = [outcome]
        # From here on no call of Python's comes between.
        if self._socket._closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        self._sending[:] = state
        outcome.extend(step)
        return outcome[0] >= 0

    def _give(self, sending: Sending, interrupted: Sending | None = None) -> None:
        """Give libzmq the frames of a message in one step, without a finaliser in between."""
        was_enabled = gc.isenabled()
        state: list[Sending | Lone] = [sending]
        try:
            gc.disable()
            # From here on no call of Python's comes between.
            if self._socket._closed:
                raise zmq.ZMQError(zmq.ENOTSOCK)
            if interrupted is not None:
                if interrupted.successor is not None:
                    return
                interrupted.successor = sending
            self._sending[:] = state
            consume(sending.step)
        finally:
            if was_enabled:
                gc.enable()

    def _finish(self, sending: Sending) -> Sending:
        """Give libzmq the rest of an interrupted message, unless that was done meanwhile."""
        while True:
            while sending.successor is not None:
                sending = sending.successor
            if not sending.is_interrupted:
                return sending
            self._give(self._calls.sending(sending.rest, sending.taken), sending)

    def _end(self) -> None:
        """End the message before, if its sending was broken off within it.

        libzmq has forgotten the frames of one whose pipe has died. A type that spreads messages
        over pipes drops those that follow, up to the last one.
        """
        sending = self._sending[0] if self._sending else None
        if isinstance(sending, Sending):
            sending = self._finish(sending)
            if self._dropping and 0 < sending.taken < sending.count - 1:
                self._give(self._calls.sending([b""]))
        self._sending.clear()
