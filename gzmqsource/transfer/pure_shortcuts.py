"""One call for each message of a busy socket, in Python."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, Literal

import zmq
from gevent.monkey import get_original

from gzmqsource.transfer.interface import Backlog, Waiting
from gzmqsource.transfer.pure import PureAllowance, PureTransfer

#: Returns the identity of a native thread, also where threads are patched.
_get_ident: Callable[[], int] = get_original("_thread", "get_ident")


class NoShortcuts:
    """A `gzmqsource.transfer.interface.Shortcuts` that declines each call."""

    __slots__ = ("_allowance", "may_pull")

    def __init__(self, allowance: PureAllowance) -> None:
        self._allowance = allowance
        self.may_pull = False

    def send(self, message: object) -> bool:
        """Decline; see `Shortcuts.send`."""
        return False

    def send_now(self, message: object) -> bool:
        """Decline; see `Shortcuts.send_now`."""
        return False

    def send_frames(self, frames: object, flags: int) -> bool:
        """Decline; see `Shortcuts.send_frames`."""
        return False

    def receive(self) -> list[Any] | Literal[False] | None:
        """Decline; see `Shortcuts.receive`."""
        return None

    def receive_frame(self) -> None:
        """Decline; see `Shortcuts.receive_frame`."""

    def receive_uncopied(self, track: bool) -> None:
        """Decline; see `Shortcuts.receive_uncopied`."""

    def dispatch(
        self,
        messages: list[list[Any]],
        handle: Callable[[list[Any]], object],
        failed: Callable[[BaseException, list[Any]], object],
        base: Context,
        returned: Callable[[object], object] | None = None,
    ) -> None:
        """See `Shortcuts.dispatch`."""

        def handle_next() -> None:
            message = messages[-1]
            try:
                messages.pop()  # in here, because a signal handler may raise when it returns
                value = handle(message)
                if value is not None and returned is not None:
                    returned(value)
            except BaseException as error:
                failed(error, message)

        spend = self._allowance.spend
        while messages and spend():
            base.copy().run(handle_next)

    def close(self) -> None:
        """See `Shortcuts.close`."""
        self.may_pull = False


class PureShortcuts(NoShortcuts):
    """A `gzmqsource.transfer.interface.Shortcuts` for whole messages in Python.

    Single frames, and messages that have to wait behind others, take the slow path.
    """

    __slots__ = (
        "_arrivals",
        "_copies",
        "_lanes",
        "_least_frames",
        "_partial",
        "_pollers",
        "_readers",
        "_recheck",
        "_thread",
        "_transfer",
        "_writers",
    )

    def __init__(
        self,
        transfer: PureTransfer,
        allowance: PureAllowance,
        backlog: Backlog,
        waiting: Waiting,
        copies: bool,
    ) -> None:
        super().__init__(allowance)
        self._transfer = transfer
        self._lanes = backlog.lanes
        self._arrivals = backlog.arrivals
        self._partial = backlog.partial
        self._least_frames = backlog.least_frames
        self._readers = waiting.readers
        self._writers = waiting.writers
        self._pollers = waiting.pollers
        self._recheck = waiting.recheck
        self._copies = copies
        #: The thread that may use the socket; None once that is closed.
        self._thread: int | None = _get_ident()

    def send(self, message: Any) -> bool:
        """See `Shortcuts.send`."""
        return self._allowance.left > 0 and self.send_now(message)

    def send_now(self, message: Any) -> bool:
        """See `Shortcuts.send_now`."""
        if self._thread != _get_ident() or self._arrivals:
            return False
        least = self._least_frames
        if type(message) is list:
            message = message[:]  # a signal handler, or another thread, may change the caller's
            if len(message) < least or self._partial:
                return False
            for frame in message:
                if type(frame) is not bytes:
                    return False
            if self._lanes and (least < 2 or message[0] in self._lanes):
                return False
        elif type(message) is not bytes or least > 1 or self._lanes or self._partial:
            return False
        if self._readers or self._writers or self._pollers:
            self._recheck()
        try:
            if not self._transfer.send_one(message):
                return False
        except zmq.ZMQError:
            return False  # the slow path meets it again, and handles it
        self._allowance.spend()
        return True

    def receive(self) -> list[Any] | Literal[False] | None:
        """See `Shortcuts.receive`."""
        if (
            not self.may_pull
            or self._thread != _get_ident()
            or self._readers
            or not self._allowance.spend()
        ):
            return None
        if self._writers or self._pollers:
            self._recheck()
        messages: list[list[Any]] = []
        try:
            is_empty = self._transfer.receive(messages, 1, 1, self._copies)
        except zmq.ZMQError:
            return None  # the slow path meets it again
        if not messages:  # the slow path reports what was discarded, and EFSM
            self._allowance.left += 1
            return False if is_empty and not self._transfer.must_send_first else None
        return messages[0]

    def close(self) -> None:
        """See `Shortcuts.close`."""
        super().close()
        self._thread = None
