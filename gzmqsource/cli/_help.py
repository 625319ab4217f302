"""Help texts and errors that fit into a narrow terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable

import click

#: The columns below which an option and its text are not side by side.
_NARROW = 70

#: The hyphen at which no line is broken. It takes the place of others while a text is folded, so
#: that the names of options stay whole.
_HYPHEN = "\u2011"


class Formatter(click.HelpFormatter):
    """A formatter that writes the text of an option below it where there is little room."""

    def write(self, string: str) -> None:
        """Write a text as it is."""
        super().write(string.replace(_HYPHEN, "-"))

    def write_text(self, text: str) -> None:
        """Write a paragraph."""
        super().write_text(text.replace("-", _HYPHEN))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write names and their texts."""
        if self.width >= _NARROW:
            whole = [(name, text.replace("-", _HYPHEN)) for name, text in rows]
            super().write_dl(whole, col_max, col_spacing)
            return
        for name, text in rows:
            self.write(f"{'':>{self.current_indent}}{name}\n")
            with self.indentation(), self.indentation():
                self.write_text(text)


class Context(click.Context):
    """The context of a verb, and of the command itself."""

    formatter_class = Formatter


def folded(message: str) -> str:
    """Return the text of an error, on a terminal with breaks between words where lines end."""
    if not sys.stderr.isatty():
        return message
    # No address and no path is broken by this.
    columns, name = shutil.get_terminal_size().columns, "Error: "
    lines = textwrap.wrap(name + message, columns, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).removeprefix(name)
