"""Sending: at once if libzmq takes the message, through the outbox if it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import zmq

from gzmqsource._socket.budget import Turn, let_io_in
from gzmqsource._socket.readiness import Readiness
from gzmqsource._source.outbox import Lane, Outbox
from gzmqsource.errors import SendError, Severity, severity
from gzmqsource.transfer import Transfer
from gzmqsource.transfer.message import Message, as_frames

Report = Callable[[BaseException, "list[Any] | None"], None]


class Outflow:
    """The way of a source's messages into libzmq.

    Parameters
    ----------
    transfer : Transfer
        Of the socket that sends.
    readiness : Readiness
        Of the same socket.
    outbox : Outbox
        Where messages wait.
    turn : Turn
        Of the source.
    """

    #: How many strides of a turn are sent in one attempt: a queued message that is sent takes a
    #: tenth of one that is handled.
    strides = 8

    #: The most bytes of one lane in one attempt: they take about 50 us.
    max_bytes = 1 << 18

    #: Seconds until it is tried again when there was no memory.
    pause = 0.1

    def __init__(
        self, transfer: Transfer, readiness: Readiness, outbox: Outbox, turn: Turn
    ) -> None:
        #: How many turns ended at their bound with more to do.
        self.budget_stops = 0
        self._transfer = transfer
        self._readiness = readiness
        self._outbox = outbox
        self._turn = turn
        self._flusher: gevent.Greenlet[..., None] | None = None

    def send_now(self, message: Message) -> bool:
        """Send a message that has nothing queued before it; False if libzmq does not take it now.

        Raises
        ------
        zmq.ZMQError
            libzmq refuses it, or the socket is gone.
        """
        try:
            return self._transfer.send_one(message)
        finally:
            self._readiness.check()

    def flush_soon(self, report: Report, broken: Callable[[zmq.ZMQError], None]) -> None:
        """See to it that what is queued is sent, by a greenlet that ends when nothing is.

        Parameters
        ----------
        report : callable
            ``report(error, message)`` takes each message that libzmq refuses.
        broken : callable
            ``broken(error)`` is called if the socket is gone for good.
        """
        if (self._flusher is None or self._flusher.dead) and self._outbox.lanes:
            self._flusher = gevent.spawn(self._flush, report, broken)
        elif self._outbox.has_new_lane:
            # It waits because of other lanes, and what has come from a thread was not tried.
            self._readiness.wake_writers()

    def _flush(self, report: Report, broken: Callable[[zmq.ZMQError], None]) -> None:
        def attempt() -> bool:
            return self._send_queued(report)

        try:
            while self._goes_on():
                sent = self._transfer.sent
                try:
                    self._readiness.write(attempt)
                except MemoryError as error:
                    report(error, None)
                    gevent.sleep(self.pause)
                if self._turn.is_over(self._transfer.sent - sent) and self._goes_on():
                    self.budget_stops += 1
                    let_io_in(self._readiness.hub)
        except zmq.ZMQError as error:
            broken(error)
        finally:
            self._flusher = None

    def _goes_on(self) -> bool:
        return bool(self._outbox.lanes) and not self._readiness.closed

    def _send_queued(self, report: Report) -> bool:
        """Try each lane once; True if something left the outbox, or nothing is in it."""
        progress = False
        self._outbox.has_new_lane = False
        lanes = list(self._outbox.lanes.items())
        share = max(1, self.strides * self._turn.stride // len(lanes)) if lanes else 0
        for key, lane in lanes:
            # A report may switch, and meanwhile the lane may end.
            if self._outbox.lanes.get(key) is lane:
                progress |= self._send_lane(key, lane, share, report)
        return progress or not self._outbox.lanes

    def _send_lane(self, key: Any, lane: Lane, most: int, report: Report) -> bool:
        queued = len(lane.messages)
        refused: SendError | None = None
        try:
            self._transfer.send(lane.messages, most, self.max_bytes)
        except zmq.ZMQError as error:
            if severity(error) is Severity.FATAL:
                raise
            refused = SendError(error, as_frames(lane.messages[0]))
        left = queued - len(lane.messages)
        if refused is not None:
            lane.messages.popleft()
            self._outbox.dropped["refused"] += 1
            left += 1
        self._outbox.settle(key, left)
        if refused is not None:
            report(refused, refused.message)
        return left > 0
