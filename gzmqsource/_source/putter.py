"""A message that waits for room, with a sender that may be a greenlet or a native thread."""

from __future__ import annotations

from gevent.queue import Full

from gzmqsource._base.oneshot import OneShot
from gzmqsource.errors import SourceClosed
from gzmqsource.transfer.message import Message


class Putter(OneShot):
    """One message on its way into a lane, and the sender that may be waiting with it."""

    __slots__ = ("awaited", "message")

    def __init__(self, message: Message, awaited: bool) -> None:
        super().__init__()
        self.message = message
        #: Whether a sender waits for the outcome.
        self.awaited = awaited

    def take(self) -> bool:
        """Accept the message; return False if its sender has withdrawn it."""
        return self.set("taken")

    def refuse(self) -> bool:
        """Refuse the message because the outbox closes; return False if it was withdrawn."""
        return self.set("refused")

    def wait(self, timeout: float | None) -> None:
        """Wait until the message is taken.

        Raises
        ------
        gevent.queue.Full
            *timeout*, in seconds, ran out; the message is withdrawn.
        SourceClosed
            The outbox was closed first.
        """
        try:
            super().wait(timeout)
        finally:
            timed_out = self.set("withdrawn")
        if timed_out:
            raise Full
        if self.value == "refused":
            raise SourceClosed("the source was closed while this message waited for room")

    @property
    def withdrawn(self) -> bool:
        """Whether the sender has given up."""
        return bool(self.value == "withdrawn")
