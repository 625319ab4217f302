"""Handlers that are called in vain."""

from __future__ import annotations

import functools
from typing import Any

from gzmqsource._base.reports import Reports

#: By `inspect`'s flags of a code object; that module takes as long to import as gevent's hub.
_GENERATOR = 0x20
_KINDS = {
    _GENERATOR: "a generator function",
    0x80: "a coroutine function",
    0x200: "an asynchronous generator function",
}

_report = Reports("gzmqsource.source")


def check_handler(handle: object, may_yield: bool = False) -> None:
    """Check that a call of a handler runs it.

    Parameters
    ----------
    handle : object
        The handler.
    may_yield : bool
        Whether it may be a generator function, whose frames are iterated over.

    Raises
    ------
    TypeError
        It would only make a coroutine or a generator, or it cannot be called.
    """
    if not callable(handle):
        raise TypeError(f"the handler {handle!r} cannot be called, and is with each message")
    function: Any = _function_of(handle)
    code = getattr(function, "__code__", None)
    for flag, kind in _KINDS.items():
        if getattr(code, "co_flags", 0) & flag and not (may_yield and flag == _GENERATOR):
            raise TypeError(
                f"the handler {function.__qualname__} is {kind}, which does nothing when it is "
                "called: use a plain function, which may wait as a greenlet does"
            )


def _function_of(handle: Any) -> Any:
    """Return the function that a call runs, behind partials, methods and callable objects."""
    if isinstance(handle, functools.partial):
        return _function_of(handle.func)
    if hasattr(handle, "__func__"):
        return _function_of(handle.__func__)
    if hasattr(handle, "__code__") or isinstance(handle, type):
        return handle
    return type(handle).__call__  # of a built-in object it has no code


class Returning:
    """Reports, once, that a handler has returned something.

    Parameters
    ----------
    source : object
        What its ``repr`` is logged of.
    """

    def __init__(self, source: object) -> None:
        self._source = source
        self._is_reported = False

    def __call__(self) -> None:
        if not self._is_reported:
            self._is_reported = True
            _report(
                lambda: (
                    f"{self._source!r}: its handler has returned something, which is dropped: "
                    "a handler sends what it answers"
                )
            )
