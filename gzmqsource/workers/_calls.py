"""A request until its reply: of a greenlet that waits, with a result, or of another thread.

A call is in one place at a time, a dictionary of calls by their keys: it waits for room, or for a
live connection, or is outstanding over one. The code that takes it out of its place ends it.
"""

from __future__ import annotations

import struct
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

from gevent.event import AsyncResult
from gevent.hub import Waiter

from gzmqsource._base.event import Event
from gzmqsource._base.oneshot import OneShot
from gzmqsource.transfer.message import FrameT
from gzmqsource.workers import _header
from gzmqsource.workers._header import DETAIL, MAGIC, Flag, Kind

#: The beginning of a header of a first attempt, for a call that is sent once, or maybe again.
_ONCE = MAGIC + bytes([Kind.ASK, 0, 0, 0])
_AGAIN = MAGIC + bytes([Kind.ASK, Flag.KEEP, 0, 0])

#: The ends of headers, by the timeout. A program uses few, and to encode one takes 0.4 us.
_ENDS: dict[float | None, bytes] = {None: bytes(8)}

#: The fields of a call of any kind.
_FIELDS = ("deadline", "frames", "key", "past", "place", "retries", "size", "timeout")


class Place(OrderedDict[bytes, Any]):
    """The calls that no peer has, by their keys, in order."""

    connection = None


class Outstanding(dict[bytes, Any]):
    """The calls that the peer of a connection has, or had when it was lost, by their keys."""

    __slots__ = ("connection",)

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self.connection = connection


class Past:
    """The past attempts of a call that was sent more than once."""

    __slots__ = ("attempt", "refusals", "refused_by")

    def __init__(self) -> None:
        #: How often it was sent before.
        self.attempt = 0
        #: How often in a row it was refused because too many others wait.
        self.refusals = 0
        #: The connections over which it was refused since it was last held back.
        self.refused_by: set[Any] = set()


class AnyCall:
    """A request of any kind."""

    if not TYPE_CHECKING:  # the fields are among the slots of each kind
        __slots__ = ()

    #: 16 random bytes, and the message that is sent, with the header first.
    key: bytes
    frames: list[Any]
    #: The bytes of its payload.
    size: int
    #: Seconds for the whole request, and their end by `time.monotonic`, which the clock sets.
    timeout: float | None
    deadline: float | None
    #: How often it may be sent again.
    retries: int
    #: The place where it is, or was when it ended; None before it has begun.
    place: Place | Outstanding | None
    past: Past | None

    def settle(self, outcome: list[Any] | Exception) -> None:
        """End the request with its reply or its error."""
        raise NotImplementedError


_Call = TypeVar("_Call", bound=AnyCall)


class Call(Waiter, AnyCall):  # type: ignore[type-arg]
    """A request with a greenlet of the owner's hub that waits for the reply."""

    # An AsyncResult would take 1 us more, a fifth of a request; a constructor in Python, 0.1 us.
    __slots__ = _FIELDS

    def settle(self, outcome: list[Any] | Exception) -> None:
        """End the request with its reply or its error."""
        self.hub.loop.run_callback(self.switch, outcome)


class SubmittedCall(AsyncResult, AnyCall):  # type: ignore[type-arg]
    """A request that is the `gevent.event.AsyncResult` of its reply."""

    __slots__ = (*_FIELDS, "admitted", "on_end")

    def __init__(self) -> None:
        super().__init__()
        #: Set when it has room, or has ended without; made by the greenlet that waits for it.
        self.admitted: Event | None = None
        #: Called once with the outcome, before the result is set.
        self.on_end: Any = None

    def settle(self, outcome: list[Any] | Exception) -> None:
        """End the request with its reply or its error."""
        on_end, self.on_end = self.on_end, None  # after an exception this is called once more
        if on_end is not None:
            on_end(outcome)
        if self.admitted is not None:
            self.admitted.set()
        if isinstance(outcome, Exception):
            self.set_exception(outcome)
        else:
            self.set(outcome)


if TYPE_CHECKING:

    class Submitted(AsyncResult[list[FrameT]]):
        """A `SubmittedCall` as its caller sees it: gevent's types let every result be None."""

        def get(self, block: bool = True, timeout: float | None = None) -> list[FrameT]: ...

        def get_nowait(self) -> list[FrameT]: ...


class ForeignCall(OneShot, AnyCall):
    """A request from another thread."""

    __slots__ = (*_FIELDS, "adopted")

    def __init__(self) -> None:
        super().__init__()
        #: Whether the owner's hub has it.
        self.adopted = False

    def settle(self, outcome: list[Any] | Exception) -> None:
        """End the request with its reply or its error."""
        self.set(outcome)


def filled(
    call: _Call, key: bytes, frames: list[Any], timeout: float | None, retries: int
) -> _Call:
    """Set the fields of a new call, and return it; the first of its frames becomes the header."""
    call.key = key
    call.timeout = timeout
    call.retries = retries
    end = _ENDS.get(timeout) or _end(timeout)
    call.size = len(frames[2]) if len(frames) == 3 else sum(map(len, frames[2:]))
    frames[0] = (_AGAIN if retries else _ONCE) + key + end
    call.frames = frames
    call.place = call.deadline = call.past = None
    return call


def check_numbers(retries: int, priority: int) -> None:
    """Raise a `ValueError` unless a call may have these numbers."""
    if not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries={retries!r}: how often to send again, an int from 0 up")
    if not isinstance(priority, int) or not 0 <= priority <= 255:
        raise ValueError(f"priority={priority!r}: which requests go first, an int from 0 to 255")


def set_priority(call: AnyCall, priority: int) -> None:
    """Give a call that was not sent yet a priority."""
    if priority:
        head = call.frames[0]
        call.frames[0] = head[:DETAIL] + bytes((priority,)) + head[DETAIL + 1 :]


def send_again(call: AnyCall) -> Past:
    """Note that a call is about to be sent once more, and return its past attempts."""
    if call.past is None:
        call.past = Past()
    call.past.attempt += 1
    return call.past


def refresh(call: AnyCall) -> None:
    """Give a call that has waited, or was sent before, an up-to-date header."""
    attempt = 0 if call.past is None else min(call.past.attempt, 255)
    left = 0
    if call.deadline is not None:
        left = _header.milliseconds(call.deadline - time.monotonic())
    _, _, flags, _, priority, *_ = _header.unpack(call.frames[0])
    head = _header.Header(Kind.ASK, call.key, flags, attempt, priority, left).encode()
    call.frames = [head, *call.frames[1:]]


def _end(timeout: float | None) -> bytes:
    """Return the end of a header with a deadline, in milliseconds: 0 would mean none."""
    left = 0 if timeout is None else _header.milliseconds(timeout)
    if len(_ENDS) > 1000:
        _ENDS.clear()
    end = _ENDS[timeout] = struct.pack(">II", left, 0)
    return end
