"""Taking messages from a source without a handler, for any number of greenlets in FIFO order."""

from __future__ import annotations

from typing import Any

from gevent.queue import Empty

from gzmqsource.core import Core, State
from gzmqsource.deadline import Deadline


def pull(
    core: Core, limit: int, block: bool, timeout: float | None, woken: bool = False
) -> list[list[Any]]:
    """Receive from 1 to *limit* messages; see `gzmqsource.Source.recv`.

    Nothing is read ahead: what nobody pulls stays in libzmq. So a kill can lose nothing. Who is
    *woken* has waited for its turn already.
    """
    deadline = Deadline(timeout if block else 0)
    if block and not woken:
        core.take_turn()
        if core.readiness.readers:
            # Others were here first: they are woken before this greenlet.
            core.readiness.check()
            core.readiness.wait_readable(deadline.left())
    messages: list[list[Any]] = []
    while core.state is State.STARTED and not core.closed:
        if not core.resumed.is_set():
            if not core.resumed.wait(deadline.left()):
                raise Empty
            continue
        core.receive(messages, limit)
        if messages:
            return messages
        if deadline.left() == 0:
            raise Empty
        core.readiness.wait_readable(deadline.left())
        core.turn.renew()
    raise core.closed_error()
