"""Run a command in a terminal, and draw what it shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from xml.sax.saxutils import escape

import pyte

from drawing.canvas import TARGET

#: Units of the picture: of a character, of a line, and around them.
CHARACTER, LINE, MARGIN, BAR = 8.4, 18.5, 14, 30

PAPER, FRAME, INK, DIM = "#161b22", "#30363d", "#e6edf3", "#9da7b3"

#: The colours of the terminal, in the palette's hues.
COLORS = {
    "default": INK,
    "black": "#484f58",
    "brightblack": "#586069",
    "red": "#f0803c",
    "brightred": "#f0803c",
    "green": "#33c399",
    "brightgreen": "#33c399",
    "brown": "#f2b84b",
    "brightbrown": "#f2b84b",
    "blue": "#4ba3e0",
    "brightblue": "#4ba3e0",
    "magenta": "#dd8fba",
    "brightmagenta": "#dd8fba",
    "cyan": "#8fd0f7",
    "brightcyan": "#8fd0f7",
    "white": INK,
    "brightwhite": INK,
}

FAMILY = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class Terminal:
    """A command in a pseudo-terminal, whose screen is read by pyte."""

    def __init__(self, command: list[str], columns: int, rows: int, folder: str) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment,
        )
        os.close(slave)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def wait(self, is_there: Callable[[list[str]], bool], seconds: float = 120) -> None:
        """Read until the screen shows something; fail after so many seconds, or if it ends."""
        ends = time.monotonic() + seconds
        while not is_there(self.lines()):
            if time.monotonic() > ends:
                raise SystemExit("\n".join(["the screen never showed it:", *self.lines()]))
            if not self._read(0.1) and self.process.poll() is not None:
                if is_there(self.lines()):
                    return
                raise SystemExit("\n".join(["the command has ended:", *self.lines()]))

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self._stream.feed(data)
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        while self.process.poll() is None:
            self._read(0.1)
        os.close(self._master)


@contextlib.contextmanager
def running(command: list[str], columns: int, rows: int, folder: str) -> Iterator[Terminal]:
    terminal = Terminal(command, columns, rows, folder)
    try:
        yield terminal
    finally:
        terminal.close()


def _pieces(screen: pyte.Screen, row: int) -> Iterator[tuple[int, str, pyte.screens.Char]]:
    """Yield the pieces of a line that look the same: where each begins, and what it says."""
    begin, text, look = 0, "", screen.default_char
    for column in range(screen.columns):
        char = screen.buffer[row][column]
        same = (char.fg, char.bold, char.reverse) == (look.fg, look.bold, look.reverse)
        # A word of its own for each gap, so that columns stay where they are in any font.
        if text and not (same and not text.endswith("  ")):
            yield begin, text, look
            text = ""
        if not text:
            begin, look = column, char
        text += char.data
    if text:
        yield begin, text, look


def draw(name: str, prompt: str, screen: pyte.Screen, rows: int) -> None:
    """Write a screen's first rows, below a bar with the command, as a picture."""
    width = 2 * MARGIN + CHARACTER * screen.columns
    height = BAR + MARGIN + LINE * rows + MARGIN / 2
    elements = [
        f'<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8"'
        f' fill="{PAPER}" stroke="{FRAME}"/>',
        f'<path d="M1,{BAR} H{width - 1:g}" stroke="{FRAME}"/>',
        *(
            f'<circle cx="{MARGIN + 5 + 17 * number}" cy="{BAR / 2:g}" r="5" fill="{color}"/>'
            for number, color in enumerate(("#f0803c", "#f2b84b", "#33c399"))
        ),
        f'<text x="{MARGIN + 60}" y="{BAR / 2 + 4.5:g}" fill="{DIM}">$ {escape(prompt)}</text>',
    ]
    for row in range(rows):
        y = BAR + MARGIN / 2 + LINE * (row + 1)
        for begin, text, look in _pieces(screen, row):
            shown = text.rstrip()
            if not shown.strip():
                continue
            left = len(shown) - len(shown.lstrip())
            shown = shown.strip()
            x = MARGIN + CHARACTER * (begin + left)
            color = COLORS.get(look.fg) or f"#{look.fg}"
            bold = ' font-weight="bold"' if look.bold else ""
            elements.append(
                f'<text x="{x:g}" y="{y:g}" fill="{color}"{bold} xml:space="preserve"'
                f' textLength="{CHARACTER * len(shown):g}" lengthAdjust="spacingAndGlyphs">'
                f"{escape(shown)}</text>"
            )
    TARGET.mkdir(exist_ok=True)
    (TARGET / f"{name}.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}"'
        f' height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
        f' font-family="{FAMILY}" font-size="14">\n' + "\n".join(elements) + "\n</svg>\n"
    )


def last_row(screen: pyte.Screen) -> int:
    """Return how many rows the screen has up to the last that shows something."""
    return max(index + 1 for index, line in enumerate(screen.display) if line.strip())
