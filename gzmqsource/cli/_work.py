"""What a verb does until its end, or until the process is told to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import click
import gevent
import zmq

from gzmqsource.cli._sockets import on_signals


class Work:
    """A function in a greenlet, done when this is made: at its end, or when the process is told.

    Parameters
    ----------
    function, *arguments
        What is called.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        #: What it gave; None if it was ended, or raised.
        self.result: Any = None
        #: What it raised.
        self.error: Exception | None = None
        greenlet = gevent.spawn(self._run, function, arguments)
        on_signals(greenlet.kill, signal.SIGINT, signal.SIGTERM)
        greenlet.join()

    def tell(self) -> None:
        """Raise what it has raised, as an error of the command."""
        error = self.error
        if isinstance(error, BrokenPipeError):
            # Who read has enough: `recv | head`. Python must not flush into it at exit.
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
