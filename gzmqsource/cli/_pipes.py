"""``send``, ``recv`` and ``request``: messages from and to a shell."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
import gevent
from gevent.fileobject import FileObjectThread
from gevent.queue import Empty, Full
from gevent.socket import wait_write

from gzmqsource.cli._numbers import Number, Seconds
from gzmqsource.cli._sockets import (
    RECEIVING,
    SENDING,
    open_source,
    socket_options,
    telling_errors,
)
from gzmqsource.cli._text import FORMATS, from_json
from gzmqsource.cli._work import Work
from gzmqsource.errors import PeerLost, RemoteError, RequestTimeout, SourceClosed
from gzmqsource.workers import Requester

#: The most seconds that `send` takes to send what it has read, once its input has ended.
LAST_WORDS = 30.0


def input_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the messages to send."""
    for option in (
        click.option(
            "--frame",
            "frames",
            multiple=True,
            help="A frame to put in front of each message. Repeatable.",
        ),
        click.option(
            "--json", "is_json", is_flag=True, help="Read each message as JSON: a list of frames."
        ),
        click.option(
            "--file",
            "files",
            multiple=True,
            type=click.Path(exists=True, dir_okay=False),
            help="A file to send as one message, instead of lines. Repeatable.",
        ),
        click.option("--count", type=click.IntRange(1), help="Stop after this many messages."),
        click.argument("messages", nargs=-1),
    ):
        function = option(function)
    return function


output_option = click.option(
    "--format",
    "write",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="The output format. text is a line for each message, with tabs between frames. A terminal "
    "gets text instead of raw.",
)


@click.command()
@socket_options("push", SENDING)
@input_options
@click.option("--rate", type=Number(0, min_open=True), help="Messages per second.")
def send(
    socket: dict[str, Any],
    kind: str,
    rate: float | None,
    **given: Any,
) -> None:
    """Send MESSAGES, files, or the lines of the standard input.

    It waits for peers, and exits once everything was sent to them.

    \b
    Example:
      seq 1000 | gzmqsource send \\
        --connect tcp://127.0.0.1:5555
    """
    if kind == "router":
        # Or libzmq would silently drop a message to an unknown peer.
        socket["router_mandatory"] = 1
    refused: list[BaseException] = []
    work = Work()
    source = open_source(kind, socket, on_error=lambda error, _message: refused.append(error))
    work.run(_send_all, source, _inputs(**given), rate)
    unsent = len(source.stop(LAST_WORDS)) + isinstance(work.error, Full)
    if unsent:
        raise click.ClickException(
            f"{unsent} messages found no peer with room within {LAST_WORDS:g} s"
        )
    work.tell()
    if refused:
        raise click.ClickException(f"{len(refused)} messages were refused: {refused[0]}")


@click.command()
@socket_options("pull", RECEIVING)
@output_option
@click.option("--count", type=click.IntRange(1), help="Stop after this many messages.")
@click.option("--timeout", type=Seconds(0), help="Stop after this many idle seconds.")
def recv(
    socket: dict[str, Any], kind: str, write: str, count: int | None, timeout: float | None
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
    work.run(_receive_all, source, _format(write), count, timeout, stop=source.stop)
    source.stop(drain=False)
    work.tell()
    if count is not None and work.result is False:
        raise click.exceptions.Exit(1)


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
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How often to repeat a request after its server was lost.",
)
def request(socket: dict[str, Any], write: str, timeout: float, retries: int, **given: Any) -> None:
    """Send each message as a request, and write the reply.

    \b
    Example:
      gzmqsource request "how late is it?" \\
        --connect tcp://127.0.0.1:5557
    """
    for mark in ("sndhwm", "rcvhwm"):
        socket.pop(mark, None)  # one request at a time is outstanding
    with telling_errors(socket):
        requester = Requester.open(**socket)
    work = Work().run(_ask_all, requester, _inputs(**given), _format(write), timeout, retries)
    requester.close()
    work.tell()


def _format(name: str) -> Callable[[Any], bytes]:
    """Return how messages are written; a terminal would obey the bytes of ``raw``."""
    return FORMATS["text" if name == "raw" and os.isatty(1) else name]


def _inputs(
    frames: tuple[str, ...],
    is_json: bool,
    files: tuple[str, ...],
    count: int | None,
    messages: tuple[str, ...],
) -> Iterator[list[bytes]]:
    """Yield the messages to send."""
    before = [frame.encode() for frame in frames]
    given: Iterable[bytes]
    if files:
        given = (_content(name) for name in files)
    elif messages:
        given = (message.encode() for message in messages)
    else:
        stdin: Any = FileObjectThread(sys.stdin.fileno(), "rb")
        given = (line.removesuffix(b"\n") for line in stdin)
    for number, each in enumerate(given):
        if number == count:
            break
        try:
            yield before + (from_json(each) if is_json else [each])
        except ValueError as error:
            raise click.ClickException(f"message {number + 1}: {error}") from error


def _content(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


def _send_all(source: Any, messages: Iterable[list[bytes]], rate: float | None) -> None:
    began = time.monotonic()
    for number, message in enumerate(messages):
        try:
            if rate is not None:
                gevent.sleep(max(0.0, began + number / rate - time.monotonic()))
            source.send(message)
        except gevent.GreenletExit:
            # A signal came while a message waits: send it, if there is room in time.
            source.send(message, timeout=LAST_WORDS)
            raise


def _receive_all(
    source: Any, write: Callable[[Any], bytes], count: int | None, timeout: float | None
) -> bool:
    """Write messages; return False if *timeout* ran out first."""
    written = 0
    try:
        while count is None or written < count:
            message = source.recv(timeout=timeout)
            _write(write(message))
            written += 1
    except (Empty, SourceClosed):
        return False
    return True


def _ask_all(
    requester: Requester,
    messages: Iterable[list[bytes]],
    write: Callable[[Any], bytes],
    timeout: float,
    retries: int,
) -> None:
    for message in messages:
        try:
            _write(write(requester.request(message, timeout, retries)))
        except RequestTimeout as error:
            raise click.ClickException(f"no reply within {timeout:g} s") from error
        except (RemoteError, PeerLost) as error:
            raise click.ClickException(str(error)) from error


def _write(data: bytes) -> None:
    """Write to the standard output; while that blocks, a signal still ends this."""
    try:
        while data:
            if not select.select([], [1], [], 0)[1]:
                wait_write(1)
            data = data[os.write(1, data[: select.PIPE_BUF]) :]
    except gevent.GreenletExit:
        raise click.ClickException("stopped in the middle of a message: nobody reads") from None
