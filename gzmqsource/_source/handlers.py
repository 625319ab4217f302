"""Checks of handlers: whether they can be called, and whether a call does anything."""

from __future__ import annotations

import functools
from collections.abc import Coroutine
from types import FunctionType, MethodType, WrapperDescriptorType
from typing import Any

from gzmqsource._base.reports import Reports

#: By the flags of a code object, as in `inspect`, which takes as long to import as gevent's hub.
_GENERATOR = 0x20
_KINDS = {
    _GENERATOR: "a generator function",
    0x80: "a coroutine function",
    0x200: "an asynchronous generator function",
}

#: Likewise: a function that takes any number of arguments.
_ANY_NUMBER = 0x04

_report = Reports("gzmqsource.source")


def check_handler(handle: object, may_yield: bool = False) -> None:
    """Check that calling a handler runs it.

    Parameters
    ----------
    handle : object
        The handler.
    may_yield : bool
        Whether it may be a generator function that yields frames.

    Raises
    ------
    TypeError
        A call would only make a coroutine or a generator, or fail with one argument.
    """
    if not callable(handle):
        raise TypeError(
            f"the handler {handle!r} cannot be called, and is with each message: "
            "pass a function of one argument"
        )
    check_runs(handle, "the handler", may_yield)
    _check_takes_one(handle)


def check_runs(function: object, what: str, may_yield: bool = False) -> None:
    """Raise a `TypeError` for a function whose call would only make a coroutine or a generator."""
    code = getattr(_function_of(function), "__code__", None)
    for flag, kind in _KINDS.items():
        if getattr(code, "co_flags", 0) & flag and not (may_yield and flag == _GENERATOR):
            raise TypeError(
                f"{what} {name_of(function)} is {kind}, which does nothing when it is "
                "called: use a plain function, which may wait as a greenlet does"
            )


def check_callable(name: str, value: object) -> None:
    """Check a value that is None, or else is called; a `TypeError` has its *name*."""
    if value is not None and not callable(value):
        raise TypeError(f"{name}={value!r}: a function, or None")


def name_of(handle: object) -> str:
    """Return the name of a handler in a text."""
    name = _own_attributes(handle).get("__qualname__")  # of an object that wraps a function
    name = name or getattr(_function_of(handle), "__qualname__", None)  # an `AsyncMock` has none
    return name or repr(handle)


def _check_takes_one(handle: object) -> None:
    """Raise a `TypeError` for a plain function that cannot be called with one argument."""
    bound = 0
    function: Any = handle
    while type(function) in (MethodType, functools.partial):
        if isinstance(function, MethodType):
            bound += 1
            function = function.__func__
        elif function.keywords:
            return
        else:
            bound += len(function.args)
            function = function.func
    if type(function) is not FunctionType:
        return
    code = function.__code__
    most = code.co_argcount - bound
    least = most - len(function.__defaults__ or ())
    keywords = code.co_kwonlyargcount - len(function.__kwdefaults__ or ())
    takes_one = least <= 1 <= most or (least <= 1 and code.co_flags & _ANY_NUMBER)
    if takes_one and keywords <= 0:
        return
    raise TypeError(
        f"the handler {name_of(handle)} takes {max(0, most)} arguments, and is called with one: "
        "the list of the frames"
        if not takes_one
        else f"the handler {name_of(handle)} needs arguments by their names, and gets none"
    )


def _function_of(handle: Any) -> Any:
    """Return the function that a call runs, behind partials, methods and callable objects.

    Like a call, this looks at the types: an object may have any attribute that is looked up, such
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
    # A built-in function has no code.
    return handle if isinstance(call, WrapperDescriptorType) else _function_of(call)


def _own_attributes(handle: object) -> dict[str, Any]:
    """Return the attributes of the object itself, where an `AsyncMock` has its code."""
    own = getattr(handle, "__dict__", None)
    return own if type(own) is dict else {}


class Returning:
    """Reports, once, that a handler has returned a value.

    Parameters
    ----------
    source : object
        The object whose ``repr`` is logged.
    handle : callable
        The handler.
    """

    def __init__(self, source: object, handle: object) -> None:
        self._source = source
        self._handle = handle
        self._is_reported = False

    def __call__(self, value: object) -> None:
        if not self._is_reported:
            self._is_reported = True
            fix = "a handler sends its answers itself; a Responder sends its handler's return value"
            if isinstance(value, Coroutine):
                fix = "no loop runs it: use a plain function, which may wait as a greenlet does"
            _report(
                lambda: (
                    f"{self._source!r}: its handler {name_of(self._handle)} has returned "
                    f"{a_type(value)}, which is dropped: {fix}"
                )
            )


def a_type(value: object) -> str:
    """Return the type of a value with an article; ``"None"`` for None."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
