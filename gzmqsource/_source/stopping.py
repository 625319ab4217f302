"""The phases of a stop, under one deadline."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

import zmq
from gevent import getcurrent
from gevent.lock import RLock

from gzmqsource._base.deadline import Deadline
from gzmqsource._socket.budget import yield_to_io
from gzmqsource._socket.endpoints import Endpoints
from gzmqsource._socket.linger import (
    RECEIVES_NOTHING,
    SENDS_NOTHING,
    may_hold_messages,
    unbind_and_wait,
)
from gzmqsource._source.core import Core, State
from gzmqsource._source.puller import Puller
from gzmqsource._source.receiver import Receiver
from gzmqsource._source.refusals import cannot_wait

_log = logging.getLogger("gzmqsource.source")

#: The part of the remaining time for which a stop continues to receive.
_SHARE = 0.5

#: The part of that time, and the most seconds, that handlers and the outbox leave to libzmq, which
#: may abort when a socket is closed for good in the middle of a message.
_LINGER_SHARE, _LINGER = 0.1, 0.25

#: The least seconds for which messages are read only to be counted: some 100,000.
COUNTING = 0.1

#: The most seconds to wait for the moment after a message, because right before one it would be
#: lost; and the seconds for which no connection must have ended.
_GAP = 0.01

#: Seconds from one look to the next while greenlets pull, or work on what they have pulled: one
#: that ends reports nothing.
_LOOK = 0.1

#: A publisher sends endlessly, and no other subscriber would get the messages.
NEVER_QUIET = frozenset({zmq.SUB, zmq.XSUB, zmq.XPUB})

#: The reasons for which a stop loses messages.
_LOSSES = ("unread", "unhandled", "killed", "unsent")


class Stopping:
    """Stops one source.

    Parameters
    ----------
    core : Core
        The source's socket.
    puller : Puller
        It receives for greenlets.
    quiet : float
        Seconds without a message after which no more are in transit.
    """

    def __init__(self, core: Core, puller: Puller, quiet: float) -> None:
        self._core = core
        self._puller = puller
        self._quiet = quiet
        self._lock = RLock()

    def run(self, receiver: Receiver | None, deadline: Deadline, drains: bool) -> list[list[Any]]:
        """Go through the phases; return the messages that libzmq has not taken."""
        core, current = self._core, getcurrent()
        if current is core.hub:
            self._check_need_not_wait(receiver, drains)
            drains = False
        if drains and core.state is State.STARTED:
            core.enter_state(State.DRAINING)
        elif not drains:
            self._receive_no_more(receiver)
        stoppers = core.lull.stoppers
        is_first = current not in stoppers
        stoppers.add(current)
        core.lull.end()
        if receiver is not None:
            receiver.note_stopper()
        try:
            if not self._lock.acquire(timeout=deadline.left()):
                return []
            try:
                return self._finish(receiver, deadline)
            finally:
                self._lock.release()
        finally:
            if is_first:
                stoppers.discard(current)

    def report_unsent(self, messages: list[list[Any]]) -> None:
        """Count and report messages that were not sent, and that no caller gets."""
        self._core.count_dropped("unsent", len(messages))
        self._report(Counter(unsent=len(messages)))

    def _finish(self, receiver: Receiver | None, deadline: Deadline) -> list[list[Any]]:
        core = self._core
        before = Counter(core.outbox.dropped)
        try:
            if core.state is State.DRAINING:
                self._drain(receiver, deadline)
            self._receive_no_more(receiver)
            in_time = self._before_linger(deadline)
            if receiver is not None:
                if not receiver.finish(in_time):
                    receiver.kill()
                # Those that are left have no worker: all are in a stop.
                core.count_dropped("unhandled", receiver.give_up())
            if not core.closed:
                core.wait_until_flushed(in_time.left())
            if not core.closed:
                self._count_unread(deadline)
            return [] if core.closed else core.close_lingering(deadline.left())
        finally:
            self._report(Counter(core.outbox.dropped) - before, core.gave_up)

    def _check_need_not_wait(self, receiver: Receiver | None, drains: bool) -> None:
        """Raise, before anything has changed, if a callback of the hub would have to wait."""
        core = self._core
        waits = bool(core.lull.stoppers or core.outbox.lanes or core.outbox.arrivals)
        waits = waits or (receiver is not None and receiver.is_busy)
        if drains and core.started and core.resumed.is_set():
            waits = waits or core.socket.is_readable()
        if waits:
            raise cannot_wait(core, "source.stop")

    def _receive_no_more(self, receiver: Receiver | None) -> None:
        if not self._core.closed:
            self._core.stop_receiving()
            if receiver is not None:
                receiver.end()

    def _drain(self, receiver: Receiver | None, deadline: Deadline) -> None:
        """Receive until the peers are quiet, or the time for that is over.

        In that time the socket stays bound: libzmq would end the connections together with the
        endpoint, and drop the data in the kernel. Then a type that only receives is unbound, so
        that the peers keep further messages, and the messages that it holds are received.
        """
        core = self._core
        endpoints = Endpoints.of(core.raw)
        quiet = self._quiet if endpoints.is_remote and core.kind not in NEVER_QUIET else 0.0
        until = _part(deadline, _SHARE)
        self._receive(receiver, quiet, until)
        if core.is_draining and core.kind in SENDS_NOTHING:
            if until.left() == 0:
                core.lull.wait_for_news(_GAP)
            until = _part(deadline, _SHARE)
            is_bound = bool(endpoints.bound)
            core.socket.readiness.recheck()
            unbind_and_wait(core.raw, endpoints, core.hub, until)
            # The connections end once the socket has read libzmq's notice of each, however late
            # libzmq's thread has sent it: so this reads for as long as handlers run.
            quiet = _GAP if endpoints.is_remote else 0.0
            core.lull.begin()
            self._receive(receiver, quiet, until, with_handlers=is_bound)

    def _receive(
        self, receiver: Receiver | None, quiet: float, until: Deadline, with_handlers: bool = False
    ) -> None:
        """Wait while messages are received, until none has come for *quiet* seconds.

        With *with_handlers*, wait until no handler runs, too.
        """
        core, began = self._core, time.monotonic()
        while core.is_draining:
            rest = self._rest(receiver, quiet, began)
            if with_handlers and receiver is not None and receiver.is_handling:
                rest = max(self._quiet, _GAP)  # not None: one that is killed may report nothing
            left = until.left()
            if rest == 0 or left == 0:
                return
            if rest is None and receiver is None:
                rest = _LOOK
            if rest is None:
                rest = left
            elif left is not None:
                rest = min(rest, left)
            core.lull.wait_for_news(rest if rest is None else max(rest, Deadline.resolution))

    def _rest(self, receiver: Receiver | None, quiet: float, began: float) -> float | None:
        """Return the seconds until it is quiet; None while a message is there, or is handled."""
        core = self._core
        if core.socket.readiness.readers:
            return None if core.socket.is_readable() else core.lull.left(quiet)
        if receiver is not None:
            return 0.0 if receiver.is_stuck() else None
        if not self._puller.may_have_readers():
            return 0.0
        if self._puller.has_takers():
            return None
        if quiet == 0 and core.socket.is_readable():
            quiet = self._quiet  # for a reader that is busy with a message from before the stop
        return max(0.0, began + quiet - time.monotonic())

    def _before_linger(self, deadline: Deadline) -> Deadline:
        """Return the deadline of the phases before the last one."""
        core, left = self._core, deadline.left()
        if core.closed or left is None:
            return deadline
        if not (core.socket.transfer.sent or core.outbox.has_queued):
            return deadline
        if not may_hold_messages(core.raw, Endpoints.of(core.raw)):
            return deadline
        return Deadline(left - min(left * _LINGER_SHARE, _LINGER))

    def _count_unread(self, deadline: Deadline) -> None:
        """Read and count the messages that libzmq still holds, in turns; they are lost."""
        core = self._core
        if core.kind in RECEIVES_NOTHING:
            return
        until = Deadline(max(_part(deadline, _SHARE).left() or 0.0, COUNTING))
        is_all = False
        while not (core.closed or is_all):
            messages: list[list[Any]] = []
            core.socket.readiness.recheck()
            try:
                is_all = core.socket.transfer.receive(messages, 1000, 1 << 20)
            except (zmq.ZMQError, MemoryError):
                is_all = True  # such as for the second message of a REP, which has to answer first
            finally:
                core.count_dropped("unread", sum(map(self._is_loss, messages)))
            if is_all or until.left() == 0:
                return
            if getcurrent() is not core.hub:
                yield_to_io(core.hub)

    def _is_loss(self, message: list[Any]) -> bool:
        is_loss = self._core.is_loss
        return not is_notice(self._core.kind, message) if is_loss is None else is_loss(message)

    def _report(self, lost: Counter[str], gave_up: bool = False) -> None:
        losses = [f"{lost[reason]} {reason}" for reason in _LOSSES if lost[reason]]
        if gave_up:
            losses.append("those that libzmq could not send in time, which it does not count")
        if losses:
            # Messages that a subscriber has not read were sent only to it, and it has left.
            level = logging.INFO if self._core.kind in NEVER_QUIET else logging.WARNING
            _log.log(level, "%r: its stop has lost messages: %s", self._core, ", ".join(losses))


def _part(deadline: Deadline, share: float) -> Deadline:
    left = deadline.left()
    return Deadline(None if left is None else left * share)


def is_notice(kind: int, message: list[Any]) -> bool:
    """Return whether a message is a notice of libzmq or a subscriber, which is not a loss."""
    if kind == zmq.XPUB:
        return message[0][:1] in (b"\0", b"\1")
    return kind == zmq.STREAM and message[-1] == b""
