"""Sending what is queued, once libzmq takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import zmq

from gzmqsource._socket import HubSocket
from gzmqsource._source.lane import Lane
from gzmqsource._source.outbox import Outbox
from gzmqsource.errors import SendError, Severity, severity
from gzmqsource.transfer.message import as_frames

Report = Callable[[BaseException, "list[Any] | None"], None]


class Flusher(gevent.Greenlet):  # type: ignore[type-arg]
    """Sends from the lanes of an outbox, and ends when nothing is queued.

    Parameters
    ----------
    socket : HubSocket
        The socket that sends.
    outbox : Outbox
        Where messages wait.
    report : callable
        ``report(error, message)`` takes each message that libzmq refuses.
    fail : callable
        ``fail(error)`` is called if the socket is gone for good.
    """

    #: Seconds before the next attempt after one that found no memory.
    pause = 0.1

    #: The most messages of one attempt: they take about 50 us.
    max_messages = 256

    #: The most bytes of one lane in one attempt: they take about 50 us.
    max_bytes = 1 << 18

    def __init__(
        self,
        socket: HubSocket,
        outbox: Outbox,
        report: Report,
        fail: Callable[[zmq.ZMQError], None],
    ) -> None:
        super().__init__()
        #: Whether it attempts nothing any more.
        self.is_over = False
        self._socket = socket
        self._outbox = outbox
        self._report = report
        self._fail = fail

    def attempt(self) -> bool:
        """Try each lane once; return True if a message left the outbox, or nothing is queued."""
        progress = False
        self._outbox.filled.clear()
        lanes = [item for item in self._outbox.lanes.items() if item[1].queue]
        budget = self._socket.budget
        left = budget.left if budget.left > 0 else budget.max_messages
        most = max(1, min(self.max_messages, left) // max(1, len(lanes)))
        for key, lane in lanes:
            # A report may switch, and meanwhile the lane may end.
            if self._outbox.lanes.get(key) is lane:
                progress |= self._send(key, lane, most)
        if not progress:
            return not self._outbox.has_queued
        if self._outbox.lanes and not self._outbox.has_queued:
            gevent.sleep(0)  # the putters for which there is room come now, and it goes on
        return True

    def _send(self, key: Any, lane: Lane, most: int) -> bool:
        queued = len(lane.queue)
        refused: SendError | None = None
        try:
            self._socket.transfer.send(lane.queue, most, self.max_bytes)
        except zmq.ZMQError as error:
            if severity(error) is Severity.FATAL:
                raise
            refused = SendError(error, as_frames(lane.queue[0]))
        left = queued - len(lane.queue)
        if refused is not None:
            lane.queue.popleft()
            self._outbox.dropped["refused"] += 1
            left += 1
        self._socket.budget.spend(left)
        self._outbox.settle(key, left)
        if refused is not None:
            self._report(refused, refused.message)
        return left > 0

    def _run(self) -> None:
        socket, outbox = self._socket, self._outbox
        gone: zmq.ZMQError | None = None
        try:
            while outbox.has_queued and not socket.readiness.closed:
                try:
                    socket.readiness.write(self.attempt)
                except MemoryError as error:
                    self._report(error, None)
                    gevent.sleep(self.pause)
                if outbox.has_queued and socket.budget.left <= 0 and socket.budget.exhausted():
                    socket.budget.yield_to_io()
        except zmq.ZMQError as error:
            gone = error
        finally:
            self.is_over = True
        if gone is not None:
            self._fail(gone)
