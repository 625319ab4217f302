"""``keygen`` and ``doctor``."""

from __future__ import annotations

import os
import platform
import re
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import gevent
import zmq
from gevent.monkey import is_module_patched
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from gzmqsource import __version__, transfer
from gzmqsource.cli._reading import ServerAddress
from gzmqsource.cli._text import printable
from gzmqsource.monkey._status import packages_of, patches_of

#: Descriptors that a busy server may need, three for each socket and one for each peer.
_ENOUGH_DESCRIPTORS = 4096

#: What a file of keys begins with, for those who find it.
_PUBLIC = "# A public key of ZeroMQ CURVE, made by `gzmqsource keygen`. Everybody may have it.\n"
_SECRET = "# The SECRET key of ZeroMQ CURVE, made by `gzmqsource keygen`. Show it to nobody.\n"


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
    if not zmq.has("curve"):
        raise click.ClickException("this libzmq was built without CURVE")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    keys = f'    public-key = "{public}"\n'
    files = {
        directory / f"{name}.key": f"{_PUBLIC}metadata\ncurve\n{keys}",
        directory / f"{name}.key_secret": f"{_SECRET}metadata\ncurve\n{keys}"
        f'    secret-key = "{secret}"\n',
    }
    made: list[Path] = []
    try:
        _make(directory)
        for file, text in files.items():
            _write_new(file, text)
            made.append(file)
    except OSError as error:
        for file in made:
            file.unlink()
        if isinstance(error, FileExistsError):
            reason = f"{error.filename} exists already: choose another --name"
        else:
            reason = f"{error.filename or directory}: {error.strerror}"
        raise click.ClickException(reason) from error
    for file in files:
        click.echo(str(file))


def _make(directory: Path) -> None:
    """Make a directory, and its parents, that no other user may enter."""
    mask = os.umask(0o077)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    finally:
        os.umask(mask)


def _write_new(file: Path, text: str) -> None:
    """Make a file that no other user may read, and follow no link that is there instead."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags, 0o600)
    try:
        with open(descriptor, "w") as opened:
            opened.write(text)
    except OSError:
        file.unlink()
        raise


@click.command()
@click.argument("url", metavar="[PORT|URL]", required=False, type=ServerAddress())
@click.option("--pid", type=click.IntRange(min=1), help="Report on a running process (Linux).")
@click.pass_context
def doctor(context: click.Context, url: str | None, pid: int | None) -> None:
    """Report what is installed, what is in use, and known problems.

    With a PORT of this machine or a URL, ask the server that has its --metrics there what it runs,
    and what is wrong with it; if anything is, the exit status is 1.

    With --pid, report whether a running process is patched, and what the patch did not reach. The
    process is not disturbed, and may be blocked.

    \b
    Example:
        gzmqsource doctor 9100
        gzmqsource doctor --pid 4242
    """
    if url is not None:
        if pid is not None:
            raise click.UsageError("--pid is for a process of this machine: without a URL")
        context.exit(_check(url))
    if pid is None:
        _report(_facts(), list(_warnings()))
        return
    try:
        packages, patches = packages_of(pid), patches_of(pid)
    except FileNotFoundError as error:
        raise click.ClickException(f"there is no process {pid}, or no /proc") from error
    except PermissionError as error:
        raise click.ClickException(f"process {pid} is another user's") from error
    _report(_facts_of(packages, patches), list(_warnings_of(packages, patches)))


def _check(url: str) -> int:
    """Report on a server, and return the exit status."""
    from gzmqsource.cli._checkup import Checkup

    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            "doctor URL needs more: pip install 'gzmqsource[metrics]'"
        ) from error
    checkup = Checkup(url)
    warnings = list(checkup.warnings())
    _report(checkup.facts(), warnings)
    return 1 if warnings else 0


def _report(facts: Iterable[tuple[str, str]], warnings: list[str]) -> None:
    console = Console()
    table = Table("", Column(overflow="fold"), show_header=False, box=None)
    for name, value in facts:
        table.add_row(name, escape(printable(value)))
    console.print(table)
    for warning in warnings:
        console.print(f"[bold]![/bold] {escape(printable(warning))}")
    if not warnings:
        console.print("no known problems")


def _facts() -> Iterator[tuple[str, str]]:
    # Of what runs: another copy may be installed, or none.
    yield "gzmqsource", f"{__version__}, in {Path(transfer.__file__).parents[1]}"
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "gevent", gevent.__version__
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
    if zmq.zmq_version_info() < (4, 3, 4):
        yield "libzmq before 4.3.4 is not tested"
    # Its `version_info` is that of another release.
    if [int(part) for part in re.findall(r"\d+", gevent.__version__)[:3]] < [24, 2, 1]:
        yield "gevent before 24.2.1 is not tested"
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _ENOUGH_DESCRIPTORS:
        yield f"{soft} file descriptors are few for a server: ulimit -n {_ENOUGH_DESCRIPTORS}"
    if "libuv" in type(gevent.get_hub().loop).__module__:
        yield "over libuv ref=False of a source has no effect"


def _facts_of(packages: list[str], patches: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    yield "loaded", ", ".join(packages) or "neither gevent nor pyzmq"
    yield "zmq", "patched" if "zmq" in patches else "not patched"
    yield "zmq.green", "the drop-in" if patches else "not patched"


def _warnings_of(packages: list[str], patches: dict[str, list[str]]) -> Iterator[str]:
    if "zmq" not in patches and packages == ["gevent", "pyzmq"]:
        yield "a call that waits on a socket of zmq blocks the whole hub"
    for left in patches.values():
        yield from left
