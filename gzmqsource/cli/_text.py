"""Messages as lines of text, and back."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Frames = Sequence[bytes]

_Whole = TypeVar("_Whole", bytes, str)

#: Bytes or characters that are formatted at a time. The hub waits for 10 ms at most while one is.
_PIECE = 1 << 16


def as_text(message: Frames) -> Iterator[bytes]:
    r"""Yield a line with tabs between frames; unprintable bytes are escaped as ``\xNN``."""
    for number, frame in enumerate(message):
        if number:
            yield b"\t"
        try:
            text = frame.decode()
        except UnicodeDecodeError:
            yield from (b"".join(map(_OF_BYTES.__getitem__, piece)) for piece in _pieces(frame))
        else:
            yield from (printable(piece).encode() for piece in _pieces(text))
    yield b"\n"


def as_hex(message: Frames) -> Iterator[bytes]:
    """Yield a line of frames in hexadecimal, with spaces between them."""
    for number, frame in enumerate(message):
        if number:
            yield b" "
        yield from _in_hex(frame) if frame else (b"-",)
    yield b"\n"


def as_json(message: Frames) -> Iterator[bytes]:
    """Yield a line with a JSON list; a frame is a string, or ``{"hex": ...}`` if not UTF-8."""
    for number, frame in enumerate(message):
        yield b", " if number else b"["
        try:
            text = frame.decode()
        except UnicodeDecodeError:
            yield b'{"hex": "'
            yield from _in_hex(frame)
            yield b'"}'
        else:
            yield b'"'
            yield from (json.dumps(piece)[1:-1].encode() for piece in _pieces(text))
            yield b'"'
    yield b"]\n"


def as_raw(message: Frames) -> Iterator[bytes]:
    """Yield the bytes as they are."""
    for frame in message:
        yield from _pieces(frame)


def gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces, so that a short line is one; each has some `_PIECE` bytes."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


#: How messages are written, in pieces.
FORMATS: dict[str, Callable[[Frames], Iterator[bytes]]] = {
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
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("this is nested too deeply for a message") from None
    frames = [_frame(each) for each in (value if isinstance(value, list) else [value])]
    if not frames:
        raise ValueError("a message needs at least one frame")
    return frames


def text_of(error: BaseException, form: Callable[[object], str] = str) -> str:
    """Return the text of an exception in some form, or a word about it if it has none."""
    try:
        return form(error)
    except Exception as another:
        return f"<its text raises {type(another).__name__}>"


def printable(text: str) -> str:
    r"""Return text as one line for a terminal, with unprintable characters as ``\xNN``, ``\uNNNN``.

    These are the characters that a terminal obeys (controls, and those that change the direction of
    the text), and all white space except a blank.
    """
    if text.isprintable():
        return text
    shown = {each: each if each.isprintable() else _escape(ord(each)) for each in set(text)}
    return "".join(map(shown.__getitem__, text))


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


#: The text for each byte of a frame that is not UTF-8.
_OF_BYTES = [bytes([each]) if 32 <= each < 127 else _escape(each).encode() for each in range(256)]


def _pieces(whole: _Whole) -> Iterator[_Whole]:
    for start in range(0, len(whole), _PIECE):
        yield whole[start : start + _PIECE]


def _in_hex(frame: bytes) -> Iterator[bytes]:
    return (piece.hex().encode() for piece in _pieces(frame))


def _frame(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"hex"} and isinstance(value["hex"], str):
        return bytes.fromhex(value["hex"])
    raise ValueError(f'a frame is a string or {{"hex": "..."}}, not {reprlib.repr(value):.60}')
