"""Sending queued messages, once libzmq takes them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import gevent
import zmq

from gzmqsource._base.repairs import call_after
from gzmqsource._socket import HubSocket
from gzmqsource._source.outbox import Outbox
from gzmqsource.errors import SendError, Severity, severity
from gzmqsource.transfer.message import UNLIMITED, Message

Report = Callable[[BaseException, "list[Any] | None"], None]


class Flusher(gevent.Greenlet):  # type: ignore[type-arg]
    """Sends from the lanes of an outbox, and ends when nothing is queued.

    Parameters
    ----------
    socket : HubSocket
        The socket that sends.
    outbox : Outbox
        The lanes in which messages wait.
    report : callable
        ``report(error, message)`` takes each message that libzmq refuses.
    fail : callable
        ``fail(error)`` is called if the socket is gone for good.
    refused : callable
        ``refused(error, message)`` returns the error to report for a message.
    go_on : callable
        Starts another flusher if messages are queued, once this one is over.
    ended : callable
        ``ended(flusher)`` is called in the hub after its end, which may be by an exception.
    """

    #: Seconds before the next attempt after memory ran out, or after another exception.
    pause = 0.1

    #: The most messages of one attempt: they take about 50 us.
    max_messages = 256

    #: The most bytes of one attempt: they take about 50 us.
    max_bytes = 1 << 18

    def __init__(
        self,
        socket: HubSocket,
        outbox: Outbox,
        report: Report,
        fail: Callable[[zmq.ZMQError], None],
        refused: Callable[[zmq.ZMQError, Message], SendError],
        go_on: Callable[[], object],
        ended: Callable[[Flusher], object],
    ) -> None:
        super().__init__()
        #: Whether it makes no more attempts.
        self.is_over = False
        self._socket = socket
        self._outbox = outbox
        self._report = report
        self._fail = fail
        self._refused = refused
        self._go_on = go_on
        call_after(self, ended)
        #: Chooses the lanes that have a turn, for a socket that has many destinations.
        self._many = socket.readiness.many
        #: The lanes that may have room, as far as is known, in the order in which they are tried.
        #: Of many, an attempt costs what it tries.
        self._promising: OrderedDict[Any, None] = OrderedDict()

    def attempt(self) -> bool:
        """Try some lanes; return True if others may have room, or if nothing is queued."""
        outbox, budget = self._outbox, self._socket.budget
        self._look_for_lanes()
        if budget.left <= 0:
            budget.restart()  # it was woken, or has just begun
        most = max(1, min(self.max_messages, budget.left))
        moved: list[tuple[int, int, zmq.ZMQError | bool]] = []
        refused: list[tuple[Any, zmq.ZMQError]] = []
        # Lanes without room cost little, and are all tried before the hub looks at anything else.
        while self._promising and not moved:
            keys, queues = self._next_lanes(most)
            tried = 0
            try:
                tried = self._socket.transfer.send_lanes(
                    queues, moved, max(1, most // max(1, len(keys))), most, self.max_bytes
                )
            finally:
                # In this order: lanes that were not tried come before those that continue.
                self._put_first(keys[tried:])
                refused = self._settle(keys, moved)
        self._refuse(refused)
        if self.is_over:
            return True
        if outbox.lanes and not outbox.has_queued:
            gevent.sleep(0)  # the putters for which there is room run now, and it continues
        return bool(self._promising or outbox.filled) or not outbox.has_queued

    def _look_for_lanes(self) -> None:
        """Find lanes to try, if there may be others than those that are known."""
        outbox, many, promising = self._outbox, self._many, self._promising
        if many is not None and many.due is not None:
            promising.update(dict.fromkeys(many.due))
            many.due = None
        if outbox.filled:
            filled = list(outbox.filled)
            if many is not None:
                for key in filled:
                    many.destinations.add(key)
            self._put_first(filled)
            outbox.filled.clear()
        if not promising:
            some = outbox.lanes if many is None else many.destinations.take_some()
            promising.update(dict.fromkeys(some))

    def _put_first(self, keys: list[Any]) -> None:
        """Let lanes be tried before all others."""
        promising = self._promising
        for key in reversed(keys):
            promising[key] = None
            promising.move_to_end(key, last=False)

    def _next_lanes(self, most: int) -> tuple[list[Any], list[deque[Message]]]:
        """Return the keys of the *most* lanes to try next, and their messages."""
        lanes, promising = self._outbox.lanes, self._promising
        keys: list[Any] = []
        queues: list[deque[Message]] = []
        while promising and len(keys) < most:
            key, _ = promising.popitem(last=False)
            lane = lanes.get(key)
            if lane is not None and lane.queue:
                keys.append(key)
                queues.append(lane.queue)
                continue
            self._outbox.recheck(key)
            if self._many is not None:
                self._many.leave(key)  # its messages were withdrawn
        return keys, queues

    def _settle(
        self, keys: list[Any], moved: list[tuple[int, int, zmq.ZMQError | bool]]
    ) -> list[tuple[Any, zmq.ZMQError]]:
        """Note the messages that have left the lanes; return lanes whose first one was refused."""
        refused = []
        taken = {keys[index]: left for index, left, _ in moved if left}
        self._socket.budget.spend(sum(taken.values()))
        self._outbox.settle(taken)
        for index, _, ending in moved:
            key = keys[index]
            lane = self._outbox.lanes.get(key)
            if isinstance(ending, zmq.ZMQError):
                refused.append((key, ending))
            elif lane is None or not lane.queue:
                if self._many is not None:
                    self._many.leave(key)
            else:
                if self._many is not None:
                    self._many.destinations.add(key)
                if not ending or self._many is None:  # the budget is asked before the next
                    self._promising[key] = None
        return refused

    def _refuse(self, refused: list[tuple[Any, zmq.ZMQError]]) -> None:
        """Report the messages that libzmq refuses: all of a lane if its peer is gone."""
        reports: list[SendError] = []
        for _, error in refused:
            if severity(error) is Severity.FATAL:
                raise error
        for key, error in refused:
            if len(reports) >= self.max_messages:
                self._promising[key] = None  # it is refused again
                continue
            lane = self._outbox.lanes[key]
            if error.errno == zmq.EHOSTUNREACH:
                messages = self._outbox.empty(key)
            else:
                messages = [lane.queue.popleft()]
                self._outbox.drop("refused", messages)
                self._outbox.settle({key: 1})
            reports += [self._refused(error, message) for message in messages]
            if lane.queue:
                self._promising[key] = None
            elif self._many is not None:
                self._many.leave(key)
        self._socket.budget.spend(len(reports))
        if reports:
            # A report may wait, also for messages to go out: another flusher sends them.
            self.is_over = True
            self._go_on()
        for report in reports:
            self._report(report, report.message)

    def _run(self) -> None:
        socket, outbox = self._socket, self._outbox
        gone: zmq.ZMQError | None = None
        try:
            self._promising.update(dict.fromkeys(outbox.lanes))
            while outbox.has_queued and not socket.readiness.closed:
                try:
                    socket.readiness.write(self.attempt)
                except MemoryError as error:
                    self._promising.update(dict.fromkeys(outbox.lanes))
                    self._report(error, None)
                    gevent.sleep(self.pause)
                if self.is_over:
                    break
                if outbox.has_queued and socket.budget.left <= 0 and socket.budget.exhausted():
                    socket.budget.yield_to_io()
        except zmq.ZMQError as error:
            gone = error
        finally:
            self.is_over = True
        if gone is not None:
            self._fail(gone)


def last_look(
    socket: HubSocket,
    flush_soon: Callable[[], object],
    queued: Callable[[], int] = lambda: UNLIMITED,
) -> Callable[[], object]:
    """Return a function that tries libzmq once more before a greenlet gives up waiting for it.

    Its result changes while messages go out, and while the socket waits for its turn beside other
    busy ones. Of those turns only the first after a message counts, because a receiver of the same
    socket may take all others. Once as many have gone out as *queued* has returned for the first
    look, it does not change any more: others may go on sending.
    """
    budget, transfer = socket.budget, socket.transfer
    sent = turn = last = -1

    def look() -> object:
        nonlocal sent, turn, last
        flush_soon()
        socket.readiness.recheck()
        if last < 0:
            last = transfer.sent + queued()
        if transfer.sent >= last:
            return None
        if transfer.sent != sent:
            sent, turn = transfer.sent, -1
        if budget.is_queued and turn in (-1, budget.stops):
            turn = budget.stops
            return object()
        return sent

    return look
