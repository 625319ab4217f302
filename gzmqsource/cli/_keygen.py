"""``keygen``: a pair of CURVE keys, in two files."""

from __future__ import annotations

import os
from pathlib import Path

import click
import zmq

#: The first line of a file of keys, for people who find the file.
_PUBLIC = "# A public key of ZeroMQ CURVE, made by `gzmqsource keygen`. It may be shared.\n"
_SECRET = "# The SECRET key of ZeroMQ CURVE, made by `gzmqsource keygen`. Keep it secret.\n"


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--name",
    default="gzmqsource",
    show_default=True,
    help="The name of the files, without the suffix.",
)
def keygen(directory: Path, name: str) -> None:
    """Make a pair of CURVE keys in DIRECTORY.

    NAME.key has the public key. NAME.key_secret has the secret key, and must be kept secret.

    \b
    Example:
      gzmqsource keygen keys --name server
    """
    if not zmq.has("curve"):
        raise click.ClickException("this libzmq was built without CURVE")
    if "/" in name or not name:
        raise click.UsageError(f"--name {name!r}: this is not the name of a file in DIRECTORY")
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
