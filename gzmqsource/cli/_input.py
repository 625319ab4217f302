"""The messages to send: arguments, files, or the lines of the standard input."""

from __future__ import annotations

import functools
import os
import select
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
from gevent.hub import get_hub

from gzmqsource._base.threads import call_in_pool
from gzmqsource._socket.budget import yield_to_io
from gzmqsource.cli._numbers import Whole
from gzmqsource.cli._text import from_json

#: The bytes of a block of lines. A signal drops the lines of it that are not sent yet.
_BLOCK = 1 << 13

_OPTIONS = (
    click.option(
        "--frame",
        "frames",
        multiple=True,
        help="A frame to put in front of each message. Repeatable.",
    ),
    click.option(
        "--json", "is_json", is_flag=True, help="Read each message as JSON: a list of frames."
    ),
    click.option(
        "--file",
        "files",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False),
        help="A file to send as one message, instead of lines. Repeatable.",
    ),
    click.option("--count", type=Whole(1), help="Stop after this many messages."),
    click.argument("messages", nargs=-1),
)


def input_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the messages to send to a verb, which is passed an `Input`, ``given``."""

    @functools.wraps(function)
    def call(
        frames: tuple[str, ...],
        is_json: bool,
        files: tuple[str, ...],
        count: int | None,
        messages: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        return function(given=Input(frames, is_json, files, count, messages), **rest)

    decorated: Callable[..., Any] = call
    for option in _OPTIONS:
        decorated = option(decorated)
    return decorated


class Input:
    """The messages to send, each as it was given.

    Parameters
    ----------
    frames : sequence of str
        The frames that are put before those of each message.
    is_json : bool
        Whether each is a list of frames in JSON.
    files, messages : sequence of str
        The names of files, or the messages; without either they are lines of the standard input.
    count : int or None
        The most messages.
    """

    def __init__(
        self,
        frames: tuple[str, ...],
        is_json: bool,
        files: tuple[str, ...],
        count: int | None,
        messages: tuple[str, ...],
    ) -> None:
        self._before = [os.fsencode(frame) for frame in frames]
        self._is_json = is_json
        self._files, self._messages = files, messages
        self._count = count
        #: Whether there is one message, and no other can come.
        self.is_single = len(files or messages) == 1 or count == 1

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the messages; a pipe without input does not block other greenlets.

        Raises
        ------
        click.ClickException
            A file cannot be read.
        """
        return islice(self._all(), self._count)

    def frames_of(self, message: bytes) -> list[bytes]:
        """Return the frames to send.

        Raises
        ------
        ValueError
            It is not a message in JSON.
        """
        return self._before + (from_json(message) if self._is_json else [message])

    def _all(self) -> Iterable[bytes]:
        if self._files:
            return (_content(name) for name in self._files)
        if self._messages:
            return map(os.fsencode, self._messages)
        return _lines()


def _content(name: str) -> bytes:
    """Read a file, which may be a pipe, on a native thread."""
    try:
        return call_in_pool(Path(name).read_bytes)
    except OSError as error:
        raise click.ClickException(f"{name}: {error.strerror}") from error
    except MemoryError as error:
        raise click.ClickException(f"{name}: it is too large for the memory") from error


def _lines() -> Iterator[bytes]:
    """Read blocks on a native thread: a switch to it for each line would take 110 us of the CPU."""
    begun: list[bytes] = []
    try:
        while block := call_in_pool(_read_block):
            first, *others = block.split(b"\n")
            begun.append(first)
            for other in others:
                yield b"".join(begun)
                begun = [other]
                yield_to_io(get_hub())
    except OSError as error:
        raise click.ClickException(f"the standard input: {error.strerror}") from error
    if any(begun):
        yield b"".join(begun)


def _read_block() -> bytes:
    """Return what can be read of the standard input, once there is something; none at its end."""
    while True:
        try:
            return os.read(0, _BLOCK)
        except BlockingIOError:  # another process has made it so
            select.select([0], [], [])
