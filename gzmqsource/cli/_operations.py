"""Operating a server: its pages over HTTP, a file with its process number, and systemd."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
import gevent
from gevent.event import Event

from gzmqsource.cli._log import log_requests
from gzmqsource.cli._notify import Notifier
from gzmqsource.cli._numbers import Address
from gzmqsource.cli._paths import here
from gzmqsource.cli._pidfile import PidFile
from gzmqsource.cli._reloads import failed


def _checked_name(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    if name == "":
        raise click.BadParameter("a file has a name.", context, option)
    return None if name is None else here(name)


_OPTIONS = (
    click.option(
        "--metrics",
        type=Address(),
        metavar="[HOST:]PORT",
        help="Serve /healthz, /readyz, and /metrics for Prometheus at this address. A port alone "
        "is on the loopback interface.",
    ),
    click.option(
        "--pid",
        type=click.Path(dir_okay=False),
        callback=_checked_name,
        metavar="FILE",
        help="Write the process ID to FILE while the server runs.",
    ),
)


def operating_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `Operations` to a verb, which is passed one, ``operations``.

    The log of such a verb says what it does, and the request that a record belongs to.
    """

    @functools.wraps(function)
    def call(metrics: tuple[str, int] | None, pid: str | None, **rest: Any) -> Any:
        log_requests()
        return function(operations=Operations(metrics, pid), **rest)

    decorated: Callable[..., Any] = call
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def rates(stats: Callable[[], Any], counted: str, interval: float) -> Iterator[tuple[Any, float]]:
    """Yield what *stats* returns, and how much one of its counters grows in a second.

    Parameters
    ----------
    stats : callable
        Returns the counters.
    counted : str
        The name of one.
    interval : float
        Seconds before each.
    """
    before = 0
    while True:
        gevent.sleep(interval)
        now = stats()
        count = getattr(now, counted)
        yield now, (count - before) / interval
        before = count


class Operations:
    """Reports the state of a server, over HTTP and to systemd.

    It is a context manager: within the block the pages are served, and the server is made. Then
    `serving`, `stopping` and the end of the block say what has become of it.

    Parameters
    ----------
    metrics : tuple of str and int, or None
        Where to serve the pages.
    pid : str or None
        The file for the number of this process.
    """

    #: Returns why the server is not ready although it serves, in a line; None if it is. To be set
    #: before the block.
    not_ready: Callable[[], str | None]

    #: Asks the workers for their numbers, if there are any: called with a number of seconds, it
    #: returns the exposition of each by its name, and None of one that has not answered by then. To
    #: be set before the block.
    workers: Callable[[float], Mapping[str, str | None]] | None = None

    #: Set once the server is ready for the first time; None if it is as soon as it serves. To be
    #: set before the block.
    began: Event | None = None

    def __init__(self, metrics: tuple[str, int] | None = None, pid: str | None = None) -> None:
        self._metrics, self._pid = metrics, pid
        self.not_ready = lambda: None
        self._reason: str | None = "it starts"
        #: Whether systemd knows that it was ready.
        self._was_ready = False
        self._notifier = Notifier()
        self._file: PidFile | None = None
        self._ends = contextlib.ExitStack()

    @property
    def has_pages(self) -> bool:
        """Whether there are pages to serve."""
        return self._metrics is not None

    def __enter__(self) -> Operations:
        """Serve the pages.

        Raises
        ------
        click.ClickException
            The address is in use, the file names another running process, or a package is
            missing.
        """
        with contextlib.ExitStack() as ends:
            ends.callback(self._notifier.close)
            if self._pid is not None:
                self._file = PidFile(self._pid)
                ends.callback(self._file.remove)
            if self._metrics is not None:
                self._serve_pages(self._metrics, ends)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.close()

    def serving(self, what: str) -> None:
        """Say that the server serves; call it once it has bound its endpoints.

        Parameters
        ----------
        what : str
            The source that it serves, in a line.
        """
        if self._file is not None:
            self._file.write()
        self._reason = None
        if self.began is None:
            self._tell(what)
        else:
            self._notifier.status(str(self.not_ready()))
            self._ends.callback(gevent.spawn(self._tell_once, self.began, what).kill)

    def status(self, line: str) -> None:
        """Say what it does now, in a line for people."""
        self._notifier.status(line)

    def reload(self, take_up: Callable[[], bool]) -> None:
        """Have the server take up new code, and report that.

        Parameters
        ----------
        take_up : callable
            Returns whether the new code is in use.
        """
        if self._reason is None and self._was_ready:
            self._notifier.reloading()
        has_failed = True
        try:
            has_failed = not take_up()
        finally:
            failed["code"] = has_failed  # not before: a roll may take minutes
            # It may stop by now; and before it serves for the first time it is not ready.
            if self._reason is None and self._was_ready:
                self._tell("the last reload failed" if has_failed else "reloaded")

    def stopping(self) -> None:
        """Report that the server finishes its requests and accepts no more."""
        self._reason = "it stops"
        self._notifier.stopping()

    def _tell(self, status: str) -> None:
        self._was_ready = True
        self._notifier.ready(status)

    def _tell_once(self, began: Event, status: str) -> None:
        began.wait()
        if self._reason is None:
            self._tell(status)

    def _why_not_ready(self) -> str | None:
        return self.not_ready() if self._reason is None else self._reason

    def _serve_pages(self, address: tuple[str, int], ends: contextlib.ExitStack) -> None:
        try:
            from gzmqsource.cli._exposition import Exposition
        except ImportError as error:
            raise click.ClickException(
                "--metrics needs a package: pip install 'gzmqsource[metrics]'"
            ) from error
        # It imports a server of HTTP, a tenth of a start.
        from gzmqsource.cli._http import Pages, PageServer

        exposition = Exposition(self._why_not_ready, self.workers)
        ends.callback(exposition.close)
        server = PageServer(address, Pages(self._why_not_ready, exposition))
        try:
            server.start()
        except OSError as error:
            # gevent has added the address.
            raise click.ClickException(f"--metrics: {error.strerror}") from error
        ends.callback(server.stop)
