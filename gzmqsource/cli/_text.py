"""Messages as lines of text, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

Frames = Sequence[bytes]


def as_text(message: Frames) -> bytes:
    r"""Return a line with tabs between frames; what cannot be printed is escaped as ``\xNN``."""
    return b"\t".join(map(_escaped, message)) + b"\n"


def as_hex(message: Frames) -> bytes:
    """Return a line of frames in hexadecimal, with spaces between them."""
    return b" ".join(bytes(frame).hex().encode() or b"-" for frame in message) + b"\n"


def as_json(message: Frames) -> bytes:
    """Return a line with a JSON list; a frame is a string, or ``{"hex": ...}`` if not UTF-8."""
    return json.dumps([_jsonable(bytes(frame)) for frame in message]).encode() + b"\n"


def as_raw(message: Frames) -> bytes:
    """Return the bytes as they are."""
    return b"".join(message)


#: How messages are written.
FORMATS: dict[str, Callable[[Frames], bytes]] = {
    "text": as_text,
    "hex": as_hex,
    "json": as_json,
    "raw": as_raw,
}


def from_json(line: bytes) -> list[bytes]:
    """Parse what `as_json` returns; a lone string is a message of one frame.

    Raises
    ------
    ValueError
        It is something else.
    """
    value = json.loads(line)
    return [_frame(each) for each in (value if isinstance(value, list) else [value])]


def _escaped(frame: Any) -> bytes:
    try:
        text = bytes(frame).decode()
    except UnicodeDecodeError:
        pieces = [chr(each) if 32 <= each < 127 else f"\\x{each:02x}" for each in bytes(frame)]
    else:
        pieces = [each if each.isprintable() else f"\\x{ord(each):02x}" for each in text]
    return "".join(pieces).encode()


def _jsonable(frame: bytes) -> object:
    try:
        return frame.decode()
    except UnicodeDecodeError:
        return {"hex": frame.hex()}


def _frame(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"hex"}:
        return bytes.fromhex(value["hex"])
    raise ValueError(f'a frame is a string or {{"hex": "..."}}, not {value!r:.60}')
