"""Writing messages to the standard output."""

from __future__ import annotations

import os
import select
from typing import Any

import click
import gevent
from gevent.hub import get_hub
from gevent.socket import wait_write

from gzmqsource._socket.budget import yield_to_io
from gzmqsource.cli._text import FORMATS, gathered

output_option = click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="The output format. text is a line for each message, with tabs between frames. A terminal "
    "gets text instead of raw.",
)


class Output:
    """The standard output, for messages.

    It stays in the blocking mode, on which other processes that have it rely.

    Parameters
    ----------
    form : str
        One of `FORMATS`; a terminal would obey the bytes of ``raw``.
    """

    #: The most bytes of a write, all of which find room where one byte does.
    chunk = select.PIPE_BUF

    def __init__(self, form: str) -> None:
        self._pieces_of = FORMATS["text" if form == "raw" and os.isatty(1) else form]

    def write(self, message: Any) -> None:
        """Write a message; a signal ends this between two pieces, or where it has to wait.

        Raises
        ------
        click.ClickException
            The greenlet was killed in the middle of the message.
        """
        written = 0
        try:
            for number, piece in enumerate(gathered(self._pieces_of(message))):
                if number:
                    yield_to_io(get_hub())
                # A slice of bytes would copy the rest for each write.
                left = memoryview(piece)
                while left:
                    if not select.select([], [1], [], 0)[1]:
                        wait_write(1)
                    size = os.write(1, left[: self.chunk])
                    written, left = written + size, left[size:]
        except gevent.GreenletExit:
            if not written:
                raise
            raise click.ClickException(
                f"stopped in the middle of a message, of which {written} bytes are written: "
                "the output is not read fast enough"
            ) from None
