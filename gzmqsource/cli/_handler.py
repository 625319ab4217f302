"""The function that ``serve`` calls, from a module that can be reloaded while it runs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from gzmqsource._base import fork
from gzmqsource._base.deadline import Deadline
from gzmqsource.cli._loading import WrongHandler, failed_import, function_of, load, parts_of
from gzmqsource.cli._log import log
from gzmqsource.cli._text import printable, text_of


class Handler:
    """The function to serve.

    Parameters
    ----------
    target : str
        ``module:function``.
    timeout : float or None
        The most seconds that a call may take, and all that it yields.

    Raises
    ------
    click.UsageError
        *target* has another form.
    WrongHandler
        There is no such function.
    """

    def __init__(self, target: str, timeout: float | None) -> None:
        self._name, self._attribute = parts_of(target)
        self.__qualname__ = f"{self._name}:{self._attribute}"
        self._timeout = timeout
        self._generation = fork.generation
        #: How many calls are left until that of `_enough`; 0 for no end.
        self._left = 0
        with contextlib.suppress(FileNotFoundError):  # it was removed; modules are installed, too
            sys.path.insert(0, os.getcwd())
        #: The function that is called.
        self.function = load(self._name, self._attribute)
        #: How the first call that has exited did so, as by `sys.exit`.
        self.exit: SystemExit | KeyboardInterrupt | None = None
        #: Called when a call has exited.
        self.exited: Callable[[], object]

    def limit(self, calls: int, enough: Callable[[], object]) -> None:
        """Call *enough* as the last of so many calls begins; further calls are still made."""
        self._left, self._enough = calls, enough

    def __call__(self, message: list[Any]) -> Any:
        """Call the function; a generator runs to its end here, in the same time.

        If it exits, only its own message is lost: the exception would end the process in the middle
        of all others.
        """
        if self._left > 0:
            self._left -= 1
            if self._left == 0:
                self._enough()
        try:
            return self._call(message)
        except (SystemExit, KeyboardInterrupt) as error:
            what = f"{self._name}:{self._attribute}"
            log.error("%s has raised %s: the process stops", what, printable(text_of(error, repr)))
            self.exit = self.exit or error
            self.exited()
            raise gevent.GreenletExit from None

    def _call(self, message: list[Any]) -> Any:
        try:
            return self._result(message)
        finally:
            self._check_parent()

    def _result(self, message: list[Any]) -> Any:
        if self._timeout is None:
            return self.function(message)
        deadline = Deadline(self._timeout)
        with gevent.Timeout(self._timeout) as timeout:
            result = self.function(message)
            if isinstance(result, Iterator):
                return list(_until(deadline, timeout, result))
            return result

    def _check_parent(self) -> None:
        """End a process that was forked in the function or its module, and has returned from it.

        It would live on with copies of all greenlets of the server, and keep its endpoint.
        """
        if fork.generation != self._generation:
            what = f"{self._name}:{self._attribute}"
            log.error("%s has forked, and its child returns: it ends. Use os._exit in it", what)
            os._exit(1)

    def reload(self) -> bool:
        """Load the module again; return whether it worked. If not, the old one stays in use."""
        try:
            self.function = self._reloaded()
        except BaseException as error:
            wrong = error if isinstance(error, WrongHandler) else failed_import(self._name, error)
            log.error("reloading failed, the old code stays in use: %s", wrong.format_message())
            return False
        log.info("%s:%s was reloaded", self._name, self._attribute)
        return True

    def _reloaded(self) -> Callable[[Any], Any]:
        """Execute the module's code in a module object of its own, unlike `importlib.reload`."""
        name = self._name
        importlib.invalidate_caches()
        old = sys.modules.pop(name)
        try:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.loader is None:
                raise WrongHandler(f"the module {name} is gone")
            new = importlib.util.module_from_spec(spec)
            _adopt_submodules(name, new)
            sys.modules[name] = new
            try:
                spec.loader.exec_module(new)
            finally:
                self._check_parent()
            function = function_of(new, self._attribute)
        except BaseException:
            sys.modules[name] = old
            raise
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, new)
        return function


def _until(deadline: Deadline, timeout: gevent.Timeout, frames: Iterator[Any]) -> Iterator[Any]:
    """Pass frames on; a generator that never waits is interrupted between two of them."""
    for frame in frames:
        if deadline.left() == 0:
            raise timeout
        yield frame


def _adopt_submodules(name: str, package: types.ModuleType) -> None:
    """Set the submodules of a package, as their import would; they are not loaded again."""
    for each, module in list(sys.modules.items()):
        parent, _, child = each.rpartition(".")
        if parent == name:
            setattr(package, child, module)
