"""Replies that are kept for a while, for requests that may be sent again."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, NamedTuple

from gzmqsource.transfer.message import FRAME_OVERHEAD


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
    most, most_bytes : int
        The most replies, and the most bytes of them; the oldest make room.
    """

    def __init__(self, seconds: float, most: int, most_bytes: int) -> None:
        self._seconds = seconds
        self._most = most
        self._most_bytes = most_bytes
        #: The replies, by their keys.
        self.replies: OrderedDict[bytes, Reply] = OrderedDict()
        self._bytes = 0

    def add(self, key: bytes, kind: int, payload: list[Any]) -> None:
        """Keep a reply, unless it alone would be too large."""
        size = sum(map(len, payload)) + FRAME_OVERHEAD * (2 + len(payload))
        if size > self._most_bytes:
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
        replies = self.replies
        while replies:
            first = next(iter(replies.values()))
            if len(replies) <= self._most and self._bytes <= self._most_bytes and now < first.until:
                return
            replies.popitem(last=False)
            self._bytes -= first.size
