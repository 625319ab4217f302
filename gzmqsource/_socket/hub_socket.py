"""`HubSocket`: everything that one libzmq socket needs in one hub."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import zmq
from gevent._hub_local import get_hub_if_exists
from gevent.hub import get_hub

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.fork import abandon_in_child
from gzmqsource._base.hubs import call_in_hub
from gzmqsource._socket.budget import Budget
from gzmqsource._socket.readiness import Readiness
from gzmqsource.transfer import shortcuts_for, transfer_for
from gzmqsource.transfer.interface import Backlog, Shortcuts
from gzmqsource.transfer.message import UNLIMITED, Message
from gzmqsource.transfer.pure_shortcuts import NoShortcuts

_NEVER = Deadline(None)


class HubSocket:
    """A socket with its transfer, its readiness and its budget, from takeover to release.

    No other class knows how these are made, used for a wait, and released.

    Parameters
    ----------
    socket : zmq.Socket
        Any Python object that stands for the socket; its owner closes it.
    copy : bool
        Whether received frames are bytes; if not they are `zmq.Frame` objects.
    ref : bool
        Whether a greenlet that waits keeps the hub's loop running.
    max_messages : int
        The most messages of one slice of the budget.
    max_seconds : float
        Its longest time in seconds.
    """

    def __init__(
        self,
        socket: zmq.Socket[Any],
        *,
        copy: bool = True,
        ref: bool = True,
        max_messages: int = 5000,
        max_seconds: float = 0.001,
    ) -> None:
        self.hub = get_hub()
        self.transfer = transfer_for(socket)
        self._copies = copy
        self.budget = Budget(self.hub, min(max_messages, UNLIMITED), max_seconds)
        self.readiness = Readiness(socket, self.transfer, ref, self.budget)
        self.shortcuts: Shortcuts = NoShortcuts(self.budget)
        abandon_in_child(self)

    def allow_shortcuts(self, backlog: Backlog) -> None:
        """Serve a busy socket by shortcuts, which respect *backlog* and the greenlets that wait."""
        self.shortcuts = shortcuts_for(
            self.transfer, self.budget, backlog, self.readiness, self._copies
        )

    @property
    def is_here(self) -> bool:
        """Whether this is the hub of the current thread, and the socket is not released."""
        return get_hub_if_exists() is self.hub and not self.readiness.closed

    def wait_readable(self, timeout: float | None = None, again: bool = False) -> bool:
        """Wait until a receive should be tried; see `Readiness.wait_readable`."""
        is_readable = self.readiness.wait_readable(timeout, again)
        self.budget.restart()
        return is_readable

    def wait_behind_readers(self, timeout: float | None) -> bool:
        """Wait behind the greenlets that already wait, if any: they are woken first.

        They have their turn also if the time was over before this, in the queue of busy sockets.

        Returns
        -------
        bool
            False if *timeout*, in seconds, ran out.
        """
        if not self.readiness.readers:
            return True
        self.readiness.recheck()
        return self.wait_readable(None if timeout is None else max(timeout, Deadline.resolution))

    def receive(self, into: list[list[Any]], max_messages: int, max_bytes: int) -> None:
        """Receive without waiting; see `Transfer.receive`."""
        self.readiness.recheck()
        self.transfer.receive(into, max_messages, max_bytes, self._copies)

    def receive_ahead(self) -> None:
        """Receive a message of which libzmq may have read a part; call `recheck` after it."""
        with contextlib.suppress(zmq.ZMQError):  # the call that follows reports what is wrong
            self.transfer.receive_ahead(self._copies)

    def send(self, message: Message) -> bool:
        """Send one message without waiting; return False if libzmq does not take it now."""
        self.readiness.recheck()
        return self.transfer.send_one(message)

    def is_readable(self) -> bool:
        """Return whether there is a message; False if the socket is gone, as a receive reports."""
        self.readiness.recheck()
        try:
            return bool(self.transfer.events() & zmq.POLLIN)
        except zmq.ZMQError:
            return False

    def is_writable(self) -> bool:
        """Return whether libzmq reports that it takes a message now."""
        self.readiness.recheck()
        return bool(self.transfer.events() & zmq.POLLOUT)

    def deadline(self, option: int) -> Deadline:
        """Return the deadline that ``RCVTIMEO`` or ``SNDTIMEO`` sets for a call that begins now."""
        timeout = self.transfer.option(option)
        return _NEVER if timeout < 0 else Deadline(timeout / 1000)

    def release(self, close: Callable[[], object]) -> None:
        """Release in order: stop the watcher, wake the waiting greenlets, close the socket.

        In another thread, while greenlets wait, all of it is left to their hub, which does it soon:
        they must not use a socket that is being closed, and libev aborts if a descriptor is closed
        under its watcher.

        Parameters
        ----------
        close : callable
            Closes the socket.
        """
        self.shortcuts.close()
        if get_hub_if_exists() is self.hub:
            self._stop_and(close)
        elif not (self.readiness.waiting and call_in_hub(self.hub, self._stop_and, close)):
            try:
                close()
            finally:
                call_in_hub(self.hub, self._stop)

    def abandon(self) -> None:
        """Leave the socket to the parent process, in a forked child."""
        self.shortcuts.close()
        self.readiness.abandon()

    def _stop_and(self, close: Callable[[], object]) -> None:
        self._stop()
        close()

    def _stop(self) -> None:
        self.budget.close()
        self.readiness.close()
