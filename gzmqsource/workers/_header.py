"""The header in a request's correlation frame, as docs/protocol.rst specifies it."""

from __future__ import annotations

import enum
import functools
import itertools
import os
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

#: The beginning of a header; the last byte is the version.
MAGIC = b"\xa7gq\x01"

#: The bytes of a header.
SIZE = 32

#: The bytes of a key, and where they are.
KEY_SIZE = 16
KEY = slice(8, 8 + KEY_SIZE)

#: The key of a control that is not about a request.
NO_KEY = bytes(KEY_SIZE)

#: Where the kind, the attempt and the detail are.
KIND = 4
ATTEMPT = 6
DETAIL = 7

#: The most milliseconds that a header can contain as the remaining time.
MOST_LEFT = 0xFFFF_FFFF

_LAYOUT = struct.Struct(f">4sBBBB{KEY_SIZE}sII")

#: Returns the fields of 32 bytes: the magic, then the others in their order.
unpack = _LAYOUT.unpack

#: Makes a header in one step, from the magic, kind, flags, attempt, detail, key, and the last eight
#: bytes.
pack = struct.Struct(f">4sBBBB{KEY_SIZE}s8s").pack

#: How many keys are made from the result of one system call.
_KEYS = 256


def milliseconds(seconds: float) -> int:
    """Return the milliseconds of a remaining time in a header; 0 would mean no deadline."""
    return min(max(1, int(seconds * 1000)), MOST_LEFT)


class Kind(enum.IntEnum):
    """The kind of a frame with a header. Below 16 an asker sends it, up to 31 a responder."""

    ASK = 1
    CANCEL = 2
    PING = 3
    NOMORE = 4
    REPLY = 16
    ERROR = 17
    REFUSED = 18
    LOST = 19
    PONG = 20
    LEAVING = 21
    JOIN = 32
    BYE = 33
    ITEM = 48
    END = 49
    CREDIT = 50


class Flag(enum.IntFlag):
    """The flags of a header."""

    #: The request came through a ROUTER in between, behind which there may be several responders.
    ROUTED = 1
    #: The same request may be sent again: the reply is kept.
    KEEP = 2


class Detail(enum.IntEnum):
    """Why a request was refused, or lost."""

    NONE = 0
    #: The responder is about to stop.
    LEAVING = 1
    #: The most requests that may wait already do.
    FULL = 2
    #: It could not be finished in the rest of its time.
    EXPIRED = 3
    #: The handler was ended before it had a reply.
    KILLED = 4


class Header(NamedTuple):
    """A header, decoded."""

    kind: int
    key: bytes
    flags: int = 0
    attempt: int = 0
    #: A `Detail`; of an `ASK`, its priority.
    detail: int = 0
    #: Milliseconds, whose meaning depends on the kind. 0 means none.
    left: int = 0
    #: The session of a responder, also in the answer to its `LEAVING`, or the credit of a worker.
    session: int = 0

    def encode(self) -> bytes:
        """Return the 32 bytes."""
        return _LAYOUT.pack(
            MAGIC,
            self.kind,
            self.flags,
            self.attempt,
            self.detail,
            self.key,
            self.left,
            self.session,
        )


def has_header(frame: Any) -> bool:
    """Return whether a frame, bytes or a `zmq.Frame`, is a header of this version."""
    return len(frame) == SIZE and bytes(frame).startswith(MAGIC)


def decode(frame: bytes) -> Header:
    """Decode a frame that `has_header`."""
    _, kind, flags, attempt, detail, key, left, session = unpack(frame)
    return Header(kind, key, flags, attempt, detail, left, session)


class Keys:
    """Makes keys that cannot be guessed and are unique among all processes."""

    def __init__(self) -> None:
        # All in C: a method in Python takes 0.1 us more for each.
        blocks = iter(functools.partial(os.urandom, KEY_SIZE * _KEYS), b"")
        unpack = struct.Struct(f"{KEY_SIZE}s" * _KEYS).unpack
        #: Returns a new key.
        self.next: Callable[[], bytes] = itertools.chain.from_iterable(map(unpack, blocks)).__next__
