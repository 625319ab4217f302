"""Receiving messages within their limits."""

from __future__ import annotations

import logging
import weakref
from typing import Any

from gzmqsource._base.warning import LimitedWarning
from gzmqsource._socket import HubSocket
from gzmqsource._socket.budget import call_after_io
from gzmqsource._source.limits import Limits
from gzmqsource.transfer.message import UNLIMITED

_log = logging.getLogger("gzmqsource.source")


class Reader:
    """Receives from a socket, and reports messages that exceed the limits.

    Parameters
    ----------
    socket : HubSocket
        The socket.
    limits : Limits
        The limits of a message, and of a call.
    owner : object
        The socket's owner, whose repr is logged.
    """

    def __init__(self, socket: HubSocket, limits: Limits, owner: object) -> None:
        self._socket = socket
        self._transfer = socket.transfer
        self._max_bytes = min(limits.max_bytes, UNLIMITED)
        self._owner = weakref.ref(owner)
        self._oversized = LimitedWarning(
            _log,
            "%s: a message was too large, and discarded: max_frames and max_message_bytes bound it",
        )
        self._transfer.max_frames = _bound("max_frames", limits.max_frames)
        self._transfer.max_message_bytes = _bound("max_message_bytes", limits.max_message_bytes)

    def receive(self, into: list[list[Any]], limit: int) -> None:
        """Receive without waiting.

        If all messages that were there were too large, none is appended, and there may be more: the
        socket is looked at again once other I/O has had its turn.
        """
        before = len(into)
        try:
            self._socket.receive(into, limit, self._max_bytes)
        finally:
            if self._oversized.count < self._transfer.oversized or self._transfer.discarding:
                self._note_oversized(len(into) > before)

    def _note_oversized(self, has_received: bool) -> None:
        # Shortcuts may have discarded messages, too.
        while self._oversized.count < self._transfer.oversized:
            self._oversized(self._owner())
        if not has_received:
            # To discard a million frames takes longer than other greenlets can wait.
            call_after_io(self._socket.hub, self._socket.readiness.recheck)


def _bound(name: str, value: int | None) -> int:
    if value is None:
        return UNLIMITED
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r}: the bound is an int of at least 1, or None")
    return min(value, UNLIMITED)
