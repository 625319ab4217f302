"""The function that ``serve`` calls, from a module that can be loaded anew while it runs."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import click
import gevent

from gzmqsource._base.deadline import Deadline
from gzmqsource._source.handlers import check_handler
from gzmqsource.cli._log import log


class Handler:
    """The function to serve.

    Parameters
    ----------
    target : str
        ``module:function``.
    timeout : float or None
        The most seconds that a call may take, and all that it yields.
    """

    def __init__(self, target: str, timeout: float | None) -> None:
        self._name, self._attribute = parts_of(target)
        self._timeout = timeout
        #: How many calls are left until that of `_enough`; 0 for no end.
        self._left = 0
        sys.path.insert(0, os.getcwd())
        try:
            module = importlib.import_module(self._name)
        except ModuleNotFoundError as error:
            if error.name != self._name:
                raise
            raise click.ClickException(f"there is no module {self._name!r} here") from error
        #: What is called.
        self.function = self._function_of(module)

    def limit(self, calls: int, enough: Callable[[], object]) -> None:
        """Call *enough* as the last of so many calls begins; more may come, and are made."""
        self._left, self._enough = calls, enough

    def __call__(self, message: list[Any]) -> Any:
        """Call the function; what it yields is taken here, in the same time."""
        if self._left > 0:
            self._left -= 1
            if self._left == 0:
                self._enough()
        if self._timeout is None:
            return self.function(message)
        deadline = Deadline(self._timeout)
        with gevent.Timeout(self._timeout) as timeout:
            result = self.function(message)
            if isinstance(result, Iterator):
                return list(_until(deadline, timeout, result))
            return result

    def reload(self) -> None:
        """Load the module anew; if that fails, all of the old one stays as it is."""
        try:
            self.function = self._loaded_anew()
        except BaseException as error:
            log.error("reloading failed, the old code goes on: %s: %s", type(error).__name__, error)
        else:
            log.info("%s:%s was loaded anew", self._name, self._attribute)

    def _loaded_anew(self) -> Callable[[Any], Any]:
        """Execute the module's code in a module object of its own, unlike `importlib.reload`."""
        name = self._name
        importlib.invalidate_caches()
        old = sys.modules.pop(name)
        try:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.loader is None:
                raise click.ClickException(f"there is no module {name!r} here any more")
            new = importlib.util.module_from_spec(spec)
            _adopt_submodules(name, new)
            sys.modules[name] = new
            spec.loader.exec_module(new)
            function = self._function_of(new)
        except BaseException:
            sys.modules[name] = old
            raise
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, new)
        return function

    def _function_of(self, module: types.ModuleType) -> Callable[[Any], Any]:
        function: Any = module
        for part in self._attribute.split("."):
            if not hasattr(function, part):
                raise click.ClickException(f"{self._name} has no {self._attribute}")
            function = getattr(function, part)
        if not callable(function):
            raise click.ClickException(f"{self._name}:{self._attribute} cannot be called")
        try:
            check_handler(function, may_yield=True)
        except TypeError as error:
            raise click.ClickException(str(error)) from None
        called: Callable[[Any], Any] = function
        return called


def parts_of(target: str) -> tuple[str, str]:
    """Return the module and the function that ``module:function`` names."""
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise click.UsageError(f"{target!r}: the handler is module:function")
    return name, attribute


def _until(deadline: Deadline, timeout: gevent.Timeout, frames: Iterator[Any]) -> Iterator[Any]:
    """Pass frames on; a generator that never waits is interrupted between two of them."""
    for frame in frames:
        if deadline.left() == 0:
            raise timeout
        yield frame


def _adopt_submodules(name: str, package: types.ModuleType) -> None:
    """Give a package what an import of its submodules, which are not loaded again, would."""
    for each, module in list(sys.modules.items()):
        parent, _, child = each.rpartition(".")
        if parent == name:
            setattr(package, child, module)
