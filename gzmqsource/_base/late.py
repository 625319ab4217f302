"""Texts of exceptions that are often caught, and seldom read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class LateText:
    """The text of an exception, made when it is read.

    The repr of a source takes 3 us, and a ``recv(block=False)`` that finds nothing 5.

    Parameters
    ----------
    make : callable
        ``make(*arguments)`` returns the text.
    """

    __slots__ = ("_arguments", "_make")

    def __init__(self, make: Callable[..., str], *arguments: Any) -> None:
        self._make = make
        self._arguments = arguments

    def __str__(self) -> str:
        return self._make(*self._arguments)

    def __repr__(self) -> str:
        return repr(str(self))

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)
