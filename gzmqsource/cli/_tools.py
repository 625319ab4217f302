"""``keygen`` and ``doctor``."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import gevent
import zmq
import zmq.auth
from gevent.monkey import is_module_patched
from rich.console import Console
from rich.table import Table

from gzmqsource import transfer

#: Descriptors that a busy server may need, three for each socket and one for each peer.
_ENOUGH_DESCRIPTORS = 4096


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--name",
    default="gzmqsource",
    show_default=True,
    help="The name of the files, without their suffix.",
)
def keygen(directory: Path, name: str) -> None:
    """Make a pair of CURVE keys in DIRECTORY.

    NAME.key is public, and NAME.key_secret must be kept secret.

    \b
    Example:
      gzmqsource keygen keys --name server
    """
    files = [directory / f"{name}.key", directory / f"{name}.key_secret"]
    for file in files:
        if file.exists():
            raise click.ClickException(f"{file} exists already: choose another --name")
    if not zmq.has("curve"):
        raise click.ClickException("this libzmq was built without CURVE")
    # From its first byte on, no other user may read the secret.
    mask = os.umask(0o077)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        zmq.auth.create_certificates(directory, name)
    except OSError as error:
        raise click.ClickException(f"{directory}: {error.strerror}") from error
    finally:
        os.umask(mask)
    for file in files:
        click.echo(str(file))


@click.command()
def doctor() -> None:
    """Report what is installed, what is in use, and known problems.

    \b
    Example:
      gzmqsource doctor
    """
    console = Console()
    table = Table(show_header=False, box=None)
    for name, value in _facts():
        table.add_row(name, value)
    console.print(table)
    warnings = list(_warnings())
    for warning in warnings:
        console.print(f"[bold]![/bold] {warning}")
    if not warnings:
        console.print("no known problems")


def _facts() -> Iterator[tuple[str, str]]:
    yield "gzmqsource", metadata.version("gzmqsource")
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "gevent", metadata.version("gevent")
    yield "pyzmq", f"{zmq.pyzmq_version()}, backend {zmq.backend.Socket.__module__}"
    possible = ("curve", "gssapi", "ipc", "norm", "pgm", "draft")
    features = [each for each in possible if zmq.has(each)]
    yield "libzmq", f"{zmq.zmq_version()}, with {', '.join(features)}"
    loop = type(gevent.get_hub().loop)
    yield "event loop", f"{loop.__module__}.{loop.__name__}, {gevent.get_hub().loop.backend}"
    yield "transfer", f"{transfer.backend}: {transfer.reason}"
    patched = [each for each in ("socket", "thread", "ssl") if is_module_patched(each)]
    yield "patched", ", ".join(patched) or "nothing"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield "file descriptors", f"{soft}, may be raised to {hard}"


def _warnings() -> Iterator[str]:
    if transfer.backend == "pure":
        yield f"the transfer in Python is slower: {transfer.reason}"
    if zmq.zmq_version_info() < (4, 3, 2):
        yield "libzmq before 4.3.2 is not tested"
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _ENOUGH_DESCRIPTORS:
        yield f"{soft} file descriptors are few for a server: ulimit -n {_ENOUGH_DESCRIPTORS}"
    if "libuv" in type(gevent.get_hub().loop).__module__:
        yield "over libuv ref=False of a source has no effect"
