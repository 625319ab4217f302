"""``recv`` and ``request``: messages into a shell, and out of it and back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import click
import gevent
from gevent.queue import Empty

from gzmqsource.cli._input import Input, input_options
from gzmqsource.cli._log import is_json, log
from gzmqsource.cli._numbers import Seconds, Whole
from gzmqsource.cli._output import Output, output_option
from gzmqsource.cli._signals import Interrupted
from gzmqsource.cli._sockets import RECEIVING, open_source, socket_options, telling_errors
from gzmqsource.cli._text import printable
from gzmqsource.cli._work import Work
from gzmqsource.errors import PeerLost, RemoteError, RequestTimeout, SendError, SourceClosed
from gzmqsource.workers import Requester


@click.command()
@socket_options("pull", RECEIVING)
@output_option
@click.option("--count", type=Whole(1), help="Stop after this many messages.")
@click.option("--timeout", type=Seconds(0), help="Stop after this many idle seconds.")
def recv(
    socket: dict[str, Any], kind: str, form: str, count: int | None, timeout: float | None
) -> None:
    """Receive messages, and write each of them to the standard output.

    It receives no more messages while it cannot write. After SIGTERM or SIGINT it writes the
    messages that are on their way, for a second at most, and exits. The exit status is 1 if
    --timeout ends it before --count messages.

    \b
    Example:
      gzmqsource recv --type sub \\
        --connect tcp://127.0.0.1:5556 \\
        --subscribe weather
    """
    work = Work()
    source = open_source(kind, socket)
    work.run(_receive_all, source, Output(form), count, timeout, stop=source.stop)
    source.stop(drain=False)
    work.tell()
    if count is not None and work.signal is None and work.result < count:
        messages = f"{count} message{'s' * (count > 1)}"
        raise click.ClickException(f"{work.result} of {messages} came: none for {timeout:g} s")


@click.command()
@socket_options(None)
@input_options
@output_option
@click.option(
    "--timeout",
    type=Seconds(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait for a reply, all retries included.",
)
@click.option(
    "--retries",
    type=Whole(0),
    default=0,
    show_default=True,
    help="How often to repeat a request after its server was lost.",
)
def request(socket: dict[str, Any], given: Input, form: str, timeout: float, retries: int) -> None:
    """Send each message as a request, and write the reply.

    After an error it continues with the next message. At the end it reports how many had no reply,
    and the exit status is 1. If it is interrupted while it waits for a reply, the status is 1, or
    130 after Ctrl-C.

    \b
    Example:
      gzmqsource request "how late is it?" \\
        --connect tcp://127.0.0.1:5557
    """
    for mark in ("sndhwm", "rcvhwm"):
        socket.pop(mark, None)  # one request at a time is outstanding
    with telling_errors():
        requester = Requester.open(**socket)
    asking = Asking(
        requester, [*socket["bind"], *socket["connect"]], Output(form), timeout, retries
    )
    work = Work().run(asking.ask_all, given)
    requester.close()
    work.tell()
    asking.tell(work.signal, given.is_single)


class Asking:
    """Makes requests, one after another, and counts those without a reply."""

    def __init__(
        self,
        requester: Requester,
        endpoints: Sequence[str],
        output: Output,
        timeout: float,
        retries: int,
    ) -> None:
        self._requester, self._endpoints, self._output = requester, endpoints, output
        self._timeout, self._retries = timeout, retries
        self._total = 0
        self._errors = 0
        self._last_error = ""
        #: Whether it was ended while it waited for a reply.
        self._is_broken_off = False

    def ask_all(self, given: Input) -> None:
        """Make each request, and write its reply, or report why there is none."""
        for each in given:
            self._total += 1
            try:
                reply = self._ask(given.frames_of(each))
            except gevent.GreenletExit:
                self._is_broken_off = True
                raise
            except RequestTimeout:
                self._note(given, f"no reply within {self._timeout:g} s{self._where()}")
            except SendError as error:
                self._note(given, str(error.strerror))
            except (RemoteError, PeerLost, ValueError) as error:
                self._note(given, str(error))
            else:
                self._output.write(reply)

    def tell(self, number: int | None, is_single: bool) -> None:
        """Raise an error of the command unless all requests were answered."""
        if self._is_broken_off:
            unanswered = self._errors + 1
            raise Interrupted(number, f"interrupted: {unanswered} of {_requests(self._total)}")
        if self._errors:
            if is_single:
                raise click.ClickException(self._last_error)
            raise click.ClickException(f"{self._errors} of {_requests(self._total)}")

    def _ask(self, message: list[bytes]) -> list[Any]:
        return self._requester.request(message, self._timeout, self._retries)

    def _note(self, given: Input, error: str) -> None:
        self._errors += 1
        self._last_error = error
        if given.is_single:
            return
        text = f"message {self._total}: {error}"
        if is_json():
            log.error("%s", text)
        else:
            with contextlib.suppress(OSError):  # on a full disk, or to a reader that has gone
                click.echo(printable(text), err=True)

    def _where(self) -> str:
        """Return which endpoints have no server, if none has one."""
        # Names that are not resolved have no connections.
        if any(each.state != "connecting" for each in self._requester.endpoints()):
            return ""
        return f": no server at {', '.join(self._endpoints)}"


def _requests(total: int) -> str:
    return f"{total} request{'s' * (total > 1)} had no reply"


def _receive_all(source: Any, output: Output, count: int | None, timeout: float | None) -> int:
    """Write messages; return how many came before *timeout* ran out."""
    written = 0
    with contextlib.suppress(Empty, SourceClosed):
        while count is None or written < count:
            output.write(source.recv(timeout=timeout))
            written += 1
    return written
