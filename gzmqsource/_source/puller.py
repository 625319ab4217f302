"""Pulling messages from a source without a handler, by any number of greenlets in FIFO order."""

from __future__ import annotations

from typing import Any

from gevent import getcurrent

from gzmqsource._base.deadline import Deadline
from gzmqsource._source import refusals
from gzmqsource._source.core import Core, State


class Puller:
    """Receives for the greenlets that pull a source.

    No message is read ahead: messages that are not pulled stay in libzmq, so a kill loses none.

    Parameters
    ----------
    core : Core
        The socket that is read.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._is_readable = core.socket.is_readable
        self._receive_one = core.socket.shortcuts.receive
        # The id of the last greenlet that did not take a shortcut, and whether there was another
        # one before.
        self._last: int | None = None
        self._are_many = False
        # The greenlets that have taken a message while the source stops.
        self._takers: set[Any] = set()

    def wait(self) -> list[Any]:
        """Wait for one message, after a shortcut has found none."""
        self._core.enter()  # the shortcut checks the thread, which may have another hub by now
        if self._last != id(getcurrent()):
            self._note_reader()
        self._core.lull.begin()
        self._core.socket.wait_readable()
        message = self._receive_one()
        # The woken greenlet is first in line, even if others wait by now.
        return message or self._receive(1, None, Deadline(None), has_waited=True)[0]

    def receive(self, limit: int, block: bool, timeout: float | None) -> list[list[Any]]:
        """Receive from 1 to *limit* messages; see `gzmqsource.Source.recv_many`."""
        core = self._core
        timeout = refusals.check_block(block, timeout)
        core.enter()
        if core.serves:
            raise TypeError(
                f"{core!r} has a handler, which receives all messages once start() was called: "
                "open it without a handler to receive with recv()"
            )
        self._note_reader()
        if not block:
            timeout = None
        deadline = Deadline(timeout if block else 0)
        has_waited = False
        if block:
            # A greenlet that has to wait needs no turn.
            if core.socket.budget.take(self._is_readable, receives=True, left=deadline.left):
                core.enter()
            has_waited = bool(core.socket.readiness.readers)
            core.socket.wait_behind_readers(deadline.left())
        return self._receive(limit, timeout, deadline, has_waited)

    @property
    def was_used(self) -> bool:
        """Whether a greenlet has pulled, apart from shortcuts that found a message."""
        return self._last is not None

    def may_have_readers(self) -> bool:
        """Return whether a greenlet other than this one may be about to pull."""
        return self._are_many or self._last not in (None, id(getcurrent()))

    def has_takers(self) -> bool:
        """Return whether a greenlet that took a message since the stop began is still alive."""
        self._takers = {taker for taker in self._takers if not taker.dead}
        return bool(self._takers - self._core.lull.stoppers)

    def _note_reader(self) -> None:
        current = id(getcurrent())
        if current != self._last:
            self._are_many = self._last is not None
            self._last = current

    def _receive(
        self, limit: int, timeout: float | None, deadline: Deadline, has_waited: bool
    ) -> list[list[Any]]:
        core = self._core
        messages: list[list[Any]] = []
        while core.started:
            if not core.resumed.is_set():
                if not core.resumed.wait(deadline.left()):
                    raise refusals.nothing_came(core, timeout)
                continue
            core.receive(messages, limit)
            if messages:
                if core.state is State.DRAINING:
                    self._takers.add(getcurrent())
                # The first after a wait counts, too: greenlets that wait for each other are busy.
                more = len(messages) - 1
                if more:
                    core.socket.budget.spend_batch(more + has_waited)
                elif has_waited:
                    core.socket.budget.spend()
                return messages
            if deadline.left() == 0:
                raise refusals.nothing_came(core, timeout)
            core.lull.begin()
            core.socket.wait_readable(deadline.left(), again=has_waited)
            has_waited = True
        raise core.closed_error()
