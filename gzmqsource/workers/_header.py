"""The header that rides in a request's correlation frame, as docs/protocol.rst specifies it."""

from __future__ import annotations

import enum
import functools
import itertools
import os
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

#: What a header begins with; the last byte is the version.
MAGIC = b"\xa7gq\x01"

#: The bytes of a header.
SIZE = 32

#: The bytes of a key, and where they are.
KEY_SIZE = 16
KEY = slice(8, 8 + KEY_SIZE)

#: In place of a key where a control is about no request.
NO_KEY = bytes(KEY_SIZE)

#: Where the kind and the detail are.
KIND = 4
DETAIL = 7

#: The most milliseconds that a header can say are left.
MOST_LEFT = 0xFFFF_FFFF

_LAYOUT = struct.Struct(f">4sBBBB{KEY_SIZE}sII")

#: Returns the fields of 32 bytes: the magic, then as they are laid out.
unpack = _LAYOUT.unpack

#: Returns a header in one step, of the magic, kind, flags, attempt, detail, key, and the last eight
#: bytes.
pack = struct.Struct(f">4sBBBB{KEY_SIZE}s8s").pack

#: How many keys are made of what one call of the kernel returns.
_KEYS = 256


def milliseconds(seconds: float) -> int:
    """Return what a header says of a time that is left; 0 would be none."""
    return min(max(1, int(seconds * 1000)), MOST_LEFT)


class Kind(enum.IntEnum):
    """What a frame with a header is. Below 16 an asker sends it, up to 31 a responder."""

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
    #: The same key may be asked again: the reply is kept.
    KEEP = 2


class Detail(enum.IntEnum):
    """Why a request was refused, or lost."""

    NONE = 0
    #: The responder is about to stop.
    LEAVING = 1
    #: As many requests wait as may.
    FULL = 2
    #: It could not be finished in what is left of its time.
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
    #: Milliseconds; what of depends on the kind. 0 is none.
    left: int = 0
    #: The session of a responder, or the credit of a worker.
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
    """Makes keys that cannot be guessed, each once in all processes."""

    def __init__(self) -> None:
        # All in C: a method in Python takes 0.1 us more for each.
        blocks = iter(functools.partial(os.urandom, KEY_SIZE * _KEYS), b"")
        unpack = struct.Struct(f"{KEY_SIZE}s" * _KEYS).unpack
        #: Returns a new key.
        self.next: Callable[[], bytes] = itertools.chain.from_iterable(map(unpack, blocks)).__next__
