"""The messages that a caller may send, checked once and converted to the queued form."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any, TypeAlias

import zmq

from gzmqsource._base.lent import keep_lent_at_exit

if TYPE_CHECKING:
    from typing_extensions import Buffer, TypeVar

    # A default is what makes a bare `Source` a `Source[bytes]`.
    FrameT = TypeVar("FrameT", bound=bytes | zmq.Frame, default=bytes)
else:
    from typing import TypeVar

    # That of Python before 3.13 takes no default.
    FrameT = TypeVar("FrameT")

#: One frame as a caller may pass it. ``Buffer`` is anything ``memoryview`` takes.
AnyFrame: TypeAlias = "Buffer | zmq.Frame"

#: One message as a caller may pass it: a single frame, or an iterable of them.
AnyMessage: TypeAlias = "AnyFrame | Iterable[AnyFrame]"

#: One checked message: a lone frame, the common case, stays bare and costs no list.
Message: TypeAlias = "bytes | list[bytes | zmq.Frame]"

#: As many frames or bytes as there can be; two of them can be added in C.
UNLIMITED = sys.maxsize // 2

#: The bytes that a frame counts beside its content: about the memory of an empty one.
FRAME_OVERHEAD = 64

#: The types on which the first frame of a message names its peer; each peer has its own pipe.
PER_PEER = frozenset({zmq.ROUTER, zmq.STREAM})


def as_message(message: AnyMessage) -> Message:
    """Check a message and detach it from the caller.

    Parameters
    ----------
    message
        A bytes-like object, a `zmq.Frame`, or an iterable of them. Mutable buffers and lists are
        copied, because a queued message must not change.

    Raises
    ------
    TypeError
        It, or one of its frames, is something else; the text says how to fix it.
    ValueError
        It has no frames.
    """
    if type(message) is bytes:
        return message
    frames: Any
    if isinstance(message, (list, tuple)):
        frames = message
    elif isinstance(message, Iterable) and not _is_frame(message):
        if isinstance(message, (Mapping, Set)):
            raise TypeError(
                f"a message is a list of frames, got a {type(message).__name__}: serialise it first"
            )
        frames = list(message)
    else:
        frames = [message]
    for frame in frames:
        if type(frame) is not bytes:
            frames = [as_frame(frame) for frame in frames]
            break
    if len(frames) > 1:
        return list(frames)
    if not frames:
        raise ValueError("a message needs at least one frame, got an empty iterable")
    return frames[0] if type(frames[0]) is bytes else frames


def _is_frame(value: object) -> bool:
    """Return whether a value is meant as a frame, valid or not: frames are iterable, too."""
    if isinstance(value, (str, zmq.Frame)):
        return True
    try:
        memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def as_frame(frame: object) -> bytes | zmq.Frame:
    """Check one frame; raise a `TypeError` that says how to fix it."""
    if type(frame) is bytes:
        return frame
    if isinstance(frame, zmq.Frame):
        keep_lent_at_exit()
        return frame
    if isinstance(frame, str):
        raise TypeError(f"a frame is bytes, got the str {frame[:40]!r}: encode it first")
    try:
        return bytes(memoryview(frame))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"a frame is bytes-like or a zmq.Frame, got {type(frame).__name__}: serialise it first"
        ) from None


def as_frames(message: Message) -> list[bytes | zmq.Frame]:
    """Return a checked message as its list of frames."""
    return [message] if isinstance(message, bytes) else message


def weight_of(message: Message) -> int:
    """Return the bytes that a checked message counts while it is queued."""
    if isinstance(message, bytes):
        return len(message) + FRAME_OVERHEAD
    return sum(map(len, message)) + FRAME_OVERHEAD * len(message)
