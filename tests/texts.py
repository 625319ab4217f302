"""Texts that a peer could send, and what is harmless of them on a terminal."""

import unicodedata

#: A colour, a title of the window, a C1 control, a text from right to left, a line of a log.
BAD = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202eevil\u2066\n2026-01-01 gzmqsource: all is well\r"

#: The categories of what a terminal obeys: controls, formats, lone surrogates, separators of lines.
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def is_harmless(text, but=""):
    return not any(unicodedata.category(each) in OBEYED for each in text if each not in but)
