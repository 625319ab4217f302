"""The format of a request and a reply on the wire.

The *envelope* is all frames before the first empty one, the *delimiter*: the routing ids that
ROUTER sockets on the way prepend, and the header of a peer that speaks the protocol, or the frames
by which another peer correlates its replies. The *payload* follows the delimiter. A reply may
report an exception: the name of its class, its text and, optionally, its traceback, in UTF-8. For a
plain peer, the frame `ERROR` comes before these.
"""

from __future__ import annotations

import traceback
from typing import Any

import zmq

from gzmqsource._base.reports import str_of
from gzmqsource._source.source import Source
from gzmqsource.errors import RemoteError
from gzmqsource.transfer.message import AnyMessage, as_frames, as_message
from gzmqsource.workers._header import KIND, MAGIC, SIZE, Kind

#: The first frame of a payload that is an error. It begins with NAK.
ERROR = b"\x15gzmqsource.error"

#: The most ROUTER sockets that a message may have passed, and the most bytes of a routing id.
MOST_HOPS, MOST_ID = 16, 255

#: The most frames of an envelope: the routing ids, the header and the delimiter.
MOST_BEFORE = MOST_HOPS + 2

#: The most bytes of an exception's text, and of a traceback, that go over the wire.
MAX_TEXT = 1 << 16


def delimiter_of(message: list[Any]) -> int:
    """Return the index of the delimiter of a message, or its length if it has none."""
    if type(message[0]) is bytes:
        try:
            return message.index(b"")
        except ValueError:
            return len(message)
    return next((index for index, frame in enumerate(message) if not len(frame)), len(message))


def header_of(message: list[Any], delimiter: int, at_router: bool) -> bytes | None:
    """Return the header before the delimiter, or None if it comes from a plain peer.

    At a ROUTER the first frame is a routing id, whatever its content. The frames before the header
    are remembered for long, so they have to be frames that ROUTER sockets can have put there.
    """
    if delimiter > at_router:
        frame = message[delimiter - 1]
        if len(frame) == SIZE:
            header = frame if type(frame) is bytes else bytes(frame)
            if header.startswith(MAGIC) and (
                delimiter <= 1 + at_router or _is_route(message[: delimiter - 1])
            ):
                return header
    return None


def _is_route(frames: list[Any]) -> bool:
    """Return whether frames may be the routing ids of ROUTER sockets on the way."""
    return len(frames) <= MOST_HOPS and max(map(len, frames)) <= MOST_ID


def payload_of(message: AnyMessage) -> list[bytes | zmq.Frame]:
    """Check a payload, and return its frames.

    Raises
    ------
    TypeError, ValueError
        As for `gzmqsource.Source.send`, or it has too many frames: its receiver would discard it,
        and the caller would wait forever.
    """
    frames = as_frames(as_message(message))
    # The bound of the receiver is not known here, nor how many proxies are on the way. It is the
    # same, unless a program sets it; without a proxy, 15 more frames would fit.
    most = Source.max_frames - MOST_BEFORE
    if len(frames) > most:
        raise ValueError(
            f"a payload has at most {most} frames, got {len(frames)}: a message has at most "
            f"{Source.max_frames}, up to {MOST_BEFORE} of them before the payload. Join some, or "
            "raise Source.max_frames at both ends"
        )
    return frames


def error_payload(error: BaseException, with_traceback: bool) -> list[bytes]:
    """Return the payload of a reply that reports an exception."""
    parts = [type(error).__name__, str_of(error)]
    if with_traceback:
        parts.append("".join(traceback.format_exception(error)))
    return [ERROR, *(part.encode(errors="replace")[:MAX_TEXT] for part in parts)]


def has_payload(message: list[Any]) -> bool:
    """Return whether a message is more than a control."""
    return delimiter_of(message) < len(message)


def counted(header: bytes) -> zmq.Frame:
    """Return the header of a reply whose request was counted, which `is_reply` recognizes."""
    return zmq.Frame(header)


def is_reply(message: list[Any], at_router: bool) -> bool:
    """Return whether a message that a responder has sent counts as a reply.

    A reply that reports an exception does not count, nor does one whose request was counted before:
    its reply is sent again, or it was cancelled.
    """
    delimiter = delimiter_of(message)
    if delimiter == len(message):
        return False
    header = header_of(message, delimiter, at_router)
    if header is None:
        return bool(message[delimiter + 1] != ERROR)
    return header[KIND] == Kind.REPLY and type(message[delimiter - 1]) is bytes


def error_in(payload: list[Any]) -> RemoteError | None:
    """Return the exception that a reply reports, or None."""
    if len(payload) < 3 or payload[0] != ERROR:
        return None
    return _error(payload[1:4])


def error_of(kind: int, payload: list[Any]) -> RemoteError | None:
    """Return the exception that the reply of a peer reports, plain or not, or None."""
    if kind != Kind.ERROR:
        return error_in(payload)
    return _error(payload[:3] if len(payload) > 1 else [*payload, b""])


def _error(frames: list[Any]) -> RemoteError:
    """Return the exception with this name, this text and, if there is one, this traceback."""
    name, text, *rest = (bytes(frame).decode(errors="replace") for frame in frames)
    return RemoteError(name, text, rest[0] if rest else None)
