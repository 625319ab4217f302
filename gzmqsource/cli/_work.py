"""The work of a verb, until its end or until a signal to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import click
import gevent
import zmq

from gzmqsource.cli._signals import Told


class Work:
    """A function that runs in a greenlet, to its end or until a signal.

    Signals count from the creation of this object. Make it before a socket is bound: until then, a
    signal ends the process, and the messages that the socket has received would be lost.

    Parameters
    ----------
    *repeated : int
        As for `Told`.
    """

    def __init__(self, *repeated: int) -> None:
        #: The result of the function; None if it raised, or a signal ended it.
        self.result: Any = None
        #: The exception that the function raised.
        self.error: Exception | None = None
        #: The signal that ended the function; None if it came to its end.
        self.signal: int | None = None
        #: The signals that have come and are not handled yet.
        self.told = Told(*repeated)
        self.told.listen()

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        stop: Callable[[], object] = lambda: None,
    ) -> Work:
        """Run a function, and return once it has ended.

        Parameters
        ----------
        function : callable
            Called with *arguments*.
        *arguments
            Its arguments.
        stop : callable, optional
            Called after a signal, before the greenlet is killed.
        """
        greenlet = gevent.spawn(self._run, function, arguments)
        gevent.wait(cast(Any, [self.told, greenlet]), count=1)
        if not greenlet.ready():
            self.told.acquire()
            self.signal = self.told.number
            stop()
            greenlet.kill()
        return self

    def tell(self) -> None:
        """Raise the exception of the function, as an error of the command."""
        error = self.error
        if isinstance(error, zmq.ZMQError):
            raise click.ClickException(str(error.strerror)) from error
        elif isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
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
