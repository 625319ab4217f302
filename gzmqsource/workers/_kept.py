"""Replies that are kept for a while, for requests that may be sent again."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, NamedTuple

from gzmqsource.transfer.message import FRAME_OVERHEAD
from gzmqsource.workers._bounds import Bounds


class Reply(NamedTuple):
    """A reply that is kept."""

    kind: int
    payload: list[Any]
    size: int
    #: The time until which it is kept, by `time.monotonic`.
    until: float


class Kept:
    """Replies by the keys of their requests, oldest first.

    Parameters
    ----------
    seconds : float
        How long each is kept.
    bounds : Bounds
        The most replies, and the most bytes of them; the oldest make room.
    """

    def __init__(self, seconds: float, bounds: Bounds) -> None:
        self._seconds = seconds
        self._bounds = bounds
        #: The replies, by their keys.
        self.replies: OrderedDict[bytes, Reply] = OrderedDict()
        self._bytes = 0

    def add(self, key: bytes, kind: int, payload: list[Any]) -> None:
        """Keep a reply, unless it alone would be too large."""
        size = sum(map(len, payload)) + FRAME_OVERHEAD * (2 + len(payload))
        if size > self._bounds.max_kept_bytes:
            return
        before = self.replies.pop(key, None)  # its time is over
        if before is not None:
            self._bytes -= before.size
        until = time.monotonic() + self._seconds
        self.replies[key] = Reply(kind, payload, size, until)
        self._bytes += size
        self.forget(until - self._seconds)

    def get(self, key: bytes) -> Reply | None:
        """Return the reply to a request that has come before."""
        reply = self.replies.get(key)
        return reply if reply is not None and time.monotonic() < reply.until else None

    def forget(self, now: float) -> None:
        """Forget replies that were kept long enough, or are more than may be kept."""
        replies, bounds = self.replies, self._bounds
        while replies:
            first = next(iter(replies.values()))
            has_room = len(replies) <= bounds.max_kept and self._bytes <= bounds.max_kept_bytes
            if has_room and now < first.until:
                return
            replies.popitem(last=False)
            self._bytes -= first.size
