"""Handlers that are called in vain."""

from __future__ import annotations

import functools
from types import WrapperDescriptorType
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
            name = getattr(function, "__qualname__", None)  # an `AsyncMock` has none
            raise TypeError(
                f"the handler {name or repr(handle)} is {kind}, which does nothing when it is "
                "called: use a plain function, which may wait as a greenlet does"
            )


def _function_of(handle: Any) -> Any:
    """Return the function that a call runs, behind partials, methods and callable objects.

    As a call does, this looks at the types: an object may have every attribute that is asked for,
    as the methods of an `xmlrpc.client.ServerProxy`.
    """
    if isinstance(handle, (functools.partial, functools.partialmethod)):
        return _function_of(handle.func)
    kind = type(handle)
    if hasattr(kind, "__func__"):
        return _function_of(handle.__func__)
    if hasattr(kind, "__code__") or "__code__" in _own_attributes(handle):
        return handle
    call = next(vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base))
    # What is built in has no code.
    return handle if isinstance(call, WrapperDescriptorType) else _function_of(call)


def _own_attributes(handle: object) -> dict[str, Any]:
    """Return the attributes of the object itself, among which an `AsyncMock` has its code."""
    own = getattr(handle, "__dict__", None)
    return own if type(own) is dict else {}


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
