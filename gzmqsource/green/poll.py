"""`Poller`, `zmq_poll` and `select`: waiting for any of several sockets and descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zmq
from gevent.hub import Waiter, get_hub
from zmq.backend import zmq_poll as plain_poll
from zmq.sugar.poll import Poller as PlainPoller
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource.deadline import Deadline
from gzmqsource.green.waits import Waits, check_waits, waits_for

Events = list[tuple[Any, int]]

_POLLIN, _POLLOUT, _POLLERR = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.POLLERR)


def zmq_poll(sockets: Sequence[tuple[Any, int]], timeout: int | float | None = -1) -> Events:
    """Wait until one of the sockets has one of its events; see `zmq.zmq_poll`.

    Parameters
    ----------
    sockets : sequence of (socket, mask)
        zmq sockets, plain or green, descriptors, or what has a ``fileno``.
    timeout : int
        Milliseconds; -1 for ever.

    Returns
    -------
    list of (socket, mask)
        Those that are ready, with what they are ready for.
    """
    timeout = -1 if timeout is None or timeout < 0 else int(timeout)
    deadline = Deadline(None if timeout < 0 else timeout / 1000)
    while True:
        events: Events = plain_poll(sockets, 0)
        for socket, _ in sockets:
            if isinstance(socket, PlainSocket):
                check_waits(socket)
        if events or timeout == 0:
            _take_turn(sockets)
            return events
        if deadline.left() == 0:
            return []
        _wait(sockets, deadline.left())


def select(
    rlist: Sequence[Any], wlist: Sequence[Any], xlist: Sequence[Any], timeout: float | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Wait as `select.select` does, *timeout* in seconds, for zmq sockets too."""
    masks: dict[Any, int] = {}
    for sockets, mask in ((rlist, _POLLIN), (wlist, _POLLOUT), (xlist, _POLLERR)):
        for socket in sockets:
            masks[socket] = masks.get(socket, 0) | mask
    events = zmq_poll(list(masks.items()), None if timeout is None else timeout * 1000)
    readable, writable, failed = (
        [socket for socket, ready in events if ready & mask]
        for mask in (_POLLIN, _POLLOUT, _POLLERR)
    )
    return readable, writable, failed


class Poller(PlainPoller):
    """A `zmq.Poller` whose `poll` lets other greenlets run; several may poll at a time."""

    def poll(self, timeout: int | float | None = None) -> Events:
        """Wait *timeout* milliseconds, or for ever; see `zmq.Poller.poll`."""
        return zmq_poll(self.sockets, timeout)


def _wait(sockets: Sequence[tuple[Any, int]], timeout: float | None) -> None:
    """Wait until a look at the sockets is worth while."""
    hub = get_hub()
    waiter: Waiter[object] = Waiter(hub)
    watched: list[Waits] = []
    watchers: list[Any] = []
    try:
        for socket, mask in sockets:
            if isinstance(socket, PlainSocket):
                waits = waits_for(socket)
                waits.readiness.watch(waiter, mask)
                watched.append(waits)
            else:
                fd = socket if isinstance(socket, int) else socket.fileno()
                # libev's READ is 1 and its WRITE 2, as gevent passes them to any loop.
                kind = (1 if mask & (_POLLIN | _POLLERR) else 0) | (2 if mask & _POLLOUT else 0)
                watchers.append(hub.loop.io(fd, kind or 1))
        if timeout is not None:
            watchers.append(hub.loop.timer(timeout))
        for watcher in watchers:
            watcher.start(waiter.switch, None)
        waiter.get()
    finally:
        for waits in watched:
            waits.readiness.unwatch(waiter)
        for watcher in watchers:
            watcher.stop()
            watcher.close()


def _take_turn(sockets: Sequence[tuple[Any, int]]) -> None:
    """Let other I/O in when a greenlet polls all the time and need not wait."""
    for socket, _ in sockets:
        if isinstance(socket, PlainSocket):
            waits = waits_for(socket)
            waits.take_turn(waits.is_between_messages)
            return
