"""A terminal: a display that changes in its place, and the log above it."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text


class LiveConsole(Console):
    """A console that never hides the cursor: a process that is stopped or killed cannot show it."""

    def show_cursor(self, _show: bool = True) -> bool:
        """Do nothing."""
        return False


@functools.cache
def console() -> LiveConsole:
    """Return the console on the standard error."""
    return LiveConsole(stderr=True)


def has_foreground(console: Console) -> bool:
    """Return whether a console is the terminal of this process, and no other job has it now.

    A server that a shell has started with ``&``, or has sent there with ``bg``, shares the terminal
    with the prompt, and with the job in the foreground.
    """
    try:
        return os.tcgetpgrp(console.file.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # not a terminal, that of another session, or closed
        return False


class ForegroundLive(Live):
    """A `rich.live.Live` that is seen only in the foreground.

    It may begin in the background and come to the front, and go back, as often as the shell says.
    In the background other output is written as it is, and nothing else.

    Parameters
    ----------
    console : LiveConsole
        The console, on which other output goes above the display.
    **options
        As for `rich.live.Live`.
    """

    def __init__(self, console: LiveConsole, **options: Any) -> None:
        # The output of a handler into a file or a pipe belongs there.
        redirects = os.isatty(1)
        super().__init__(console=console, auto_refresh=False, redirect_stdout=redirects, **options)

    def show(self, display: RenderableType) -> None:
        """Show this from now on; a line of text is cut to the width of the terminal."""
        if isinstance(display, str):
            display = Text(display, no_wrap=True, overflow="ellipsis")
        self.update(display, refresh=True)

    def process_renderables(self, renderables: Any) -> Any:
        """Put the display below other output, if there is any."""
        if has_foreground(self.console):
            return super().process_renderables(renderables)
        return renderables

    def stop(self) -> None:
        """End it."""
        quiet = self.console.quiet
        self.console.quiet = quiet or not has_foreground(self.console)
        try:
            super().stop()
        finally:
            self.console.quiet = quiet


class TerminalHandler(logging.Handler):
    """Writes records above the live line, folded between words as wide as the terminal is."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            text = Text(self.format(record))
            begin = text.plain.index(" ")  # behind the time
            end = begin + 1 + len(record.levelname)
            text.stylize("log.time", 0, begin)
            text.stylize(f"logging.level.{record.levelname.lower()}", begin, end)
            console().print(text)
        except Exception:
            self.handleError(record)
