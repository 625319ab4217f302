"""The work of a verb, until its end or until a signal to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import click
import gevent
import zmq

from gzmqsource.cli._signals import on_signals


class Work:
    """A function that has run in a greenlet, to its end or until a signal.

    Parameters
    ----------
    function : callable
        Called with *arguments*; the constructor returns once it has ended.
    *arguments
        Its arguments.
    stop : callable, optional
        Called on a signal, before the greenlet is killed.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        stop: Callable[[], object] = lambda: None,
    ) -> None:
        #: What the function returned; None if it raised, or a signal ended it.
        self.result: Any = None
        #: What the function raised.
        self.error: Exception | None = None
        greenlet = gevent.spawn(self._run, function, arguments)

        def end() -> None:
            stop()
            greenlet.kill()

        on_signals(lambda: gevent.spawn(end), signal.SIGINT, signal.SIGTERM)
        greenlet.join()

    def tell(self) -> None:
        """Raise what the function raised, as an error of the command."""
        error = self.error
        if isinstance(error, BrokenPipeError):
            # The reader has closed the pipe, as in `recv | head`. Python must not flush into it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        elif isinstance(error, zmq.ZMQError):
            raise click.ClickException(str(error.strerror)) from error
        elif isinstance(error, OSError):
            raise click.ClickException(f"cannot write: {error.strerror}") from error
        elif isinstance(error, ValueError):
            raise click.ClickException(str(error)) from error
        elif error is not None:
            raise error

    def _run(self, function: Callable[..., Any], arguments: Any) -> None:
        try:
            self.result = function(*arguments)
        except Exception as error:
            self.error = error
