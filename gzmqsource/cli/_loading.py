"""Importing the function that ``serve`` calls, and explaining why there is none."""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
import sysconfig
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import click

from gzmqsource._source.handlers import check_handler
from gzmqsource.cli._text import printable, text_of

#: The code that imports a module, and its callers: none of it is of interest to the author.
_MACHINERY = ("<frozen ", importlib.__file__, f"{Path(__file__).parents[1]}{os.sep}")

#: Where modules are that were installed, which their users have not written.
_INSTALLED = tuple(
    f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)

#: The most names that an error lists, and the most characters of an exception's text in its line.
_MOST_NAMES, _MOST_TEXT = 8, 500

#: The first line of a traceback.
_TITLE = "Traceback (most recent call last):"


class WrongHandler(click.ClickException):
    """There is no function to serve.

    Parameters
    ----------
    message : str
        The reason, in a line.
    cause : BaseException, optional
        The exception that the module raised. Its traceback, without the frames that are not the
        user's, is shown below the line.
    """

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(printable(message))
        self._below = [] if cause is None else _traceback_of(cause)

    def format_message(self) -> str:
        """Return the line, and the traceback below it, indented as in a record of the log."""
        return "\n".join([self.message, *(f"    {line}" for line in self._below)])


def failed_import(name: str, error: BaseException) -> WrongHandler:
    """Return the error for a module that raised another one while it was imported."""
    if isinstance(error, SystemExit):
        # Such as a program without `if __name__ == "__main__"`: its status is not that of a server.
        text = f"{name} exits while it is imported: {text_of(error, repr)}"
        return WrongHandler(text[:_MOST_TEXT], error)
    text = f"importing {name} failed: {type(error).__name__}: {text_of(error)}"
    return WrongHandler(text[:_MOST_TEXT], error)


def parts_of(target: str) -> tuple[str, str]:
    """Return the module and the function that ``module:function`` names.

    Raises
    ------
    click.UsageError
        It names none.
    """
    name, _, attribute = target.partition(":")
    rule = f"{target!r}: the handler is MODULE:FUNCTION"
    if os.sep in name or name.endswith(".py"):
        path = PurePath(name.removesuffix(".py"))
        parts = path.parts[-1:] if path.is_absolute() else path.parts
        module = ".".join(part for part in parts if part != "..")
        raise click.UsageError(f"{rule}, not a file: use {module}:{attribute or 'FUNCTION'}")
    if not (attribute and all(name.split("."))):
        module, _, function = target.rpartition(".")
        is_dotted = ":" not in target and all(module.split("."))
        raise click.UsageError(f"{rule}: use {module}:{function}" if is_dotted else rule)
    return name, attribute


def load(name: str, attribute: str) -> Callable[[Any], Any]:
    """Import a module, and return the function in it.

    Raises
    ------
    WrongHandler
        There is no such module or function, or the import failed.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The error may be about a parent, or about a module that this one imports.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise failed_import(name, error) from error
        raise WrongHandler(_no_module(name, attribute)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failed_import(name, error) from error
    return function_of(module, attribute)


def function_of(module: types.ModuleType, attribute: str) -> Callable[[Any], Any]:
    """Return a function of a module.

    Raises
    ------
    WrongHandler
        There is none, or it cannot be a handler.
    """
    function: Any = module
    for part in attribute.split("."):
        try:
            function = getattr(function, part)
        except AttributeError as error:
            raise WrongHandler(_no_attribute(module, attribute)) from error
        except Exception as error:  # of the module's own `__getattr__`
            raise failed_import(module.__name__, error) from error
    if not callable(function):
        kind = type(function).__name__
        raise WrongHandler(
            f"{module.__name__}:{attribute} cannot be called: it is of the type {kind}, "
            "and the handler is a function"
        )
    try:
        check_handler(function, may_yield=True)
    except TypeError as error:
        raise WrongHandler(str(error)) from None
    called: Callable[[Any], Any] = function
    return called


def _no_module(name: str, attribute: str) -> str:
    parent, _, child = name.rpartition(".")
    if parent in sys.modules and not hasattr(sys.modules[parent], "__path__"):
        fix = f": use {parent}:{child}.{attribute}" if hasattr(sys.modules[parent], child) else ""
        return f"there is no module {name}, and {parent} is not a package{fix}"
    try:
        here = os.getcwd()
        known = [found.name for found in pkgutil.iter_modules([here])]
        os.listdir(here)  # which says why, where `iter_modules` finds nothing
    except FileNotFoundError:
        return f"there is no module {name!r}, and the current directory was removed: change to it"
    except OSError as error:
        return f"there is no module {name!r}, and {here} cannot be read: {error.strerror}"
    return f"there is no module {name!r} in {here}, and none is installed{_near(name, known)}"


def _no_attribute(module: types.ModuleType, attribute: str) -> str:
    name = module.__name__
    paths = getattr(module, "__path__", None)
    if paths is not None:
        kind = "package" if module.__file__ else "directory"
        found = [f"{name}.{each.name}:{attribute}" for each in pkgutil.iter_modules(paths)]
        return f"the {kind} {name} has no {attribute}{_one_of(found)}"
    functions = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and _is_made_in(name, value)
    ]
    return f"{name} has no {attribute}{_near(attribute, functions) or _one_of(functions)}"


def _is_made_in(name: str, value: Any) -> bool:
    try:
        return callable(value) and bool(value.__module__ == name)
    except Exception:  # it has none, as a weak reference, or is a proxy of nothing
        return False


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f": did you mean {near[0]}?" if near else ""


def _one_of(names: list[str]) -> str:
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return f": there is {', '.join(names[:_MOST_NAMES])}{more}" if names else ""


def _traceback_of(error: BaseException) -> list[str]:
    """Return the lines of a traceback, with the user's own frames."""
    trace = traceback.TracebackException.from_exception(error)
    for each in _chain(trace):
        inner = [frame for frame in each.stack if not frame.filename.startswith(_MACHINERY)]
        own = [frame for frame in inner if not frame.filename.startswith(_INSTALLED)]
        # All may be installed, the handler too.
        each.stack = traceback.StackSummary.from_list(own or inner)
    if not trace.stack and not isinstance(error, SyntaxError):
        return []  # the module could not be read
    lines = [printable(line) for part in trace.format() for line in part.splitlines()]
    # Without a frame, as of a syntax error in the module itself, some versions leave out the title.
    return lines if lines[0].startswith("Traceback") else [_TITLE, *lines]


def _chain(
    trace: traceback.TracebackException | None,
) -> Iterator[traceback.TracebackException]:
    while trace is not None:
        yield trace
        trace = trace.__cause__ or trace.__context__
