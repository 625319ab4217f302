"""A file that has the number of the process that serves."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import gevent

from gzmqsource._base.deadline import Deadline

#: The most bytes of a number.
_MOST = 20

#: The most seconds to wait for others, and those between two looks.
_PATIENCE, _LOOK = 1.0, 0.01


class PidFile:
    """A file that names this process, from its `write` to its `remove`.

    A complete file that was written beside it takes its place, so no reader finds half of it, and
    nothing is written through a link that is there.

    Parameters
    ----------
    path : str
        The path of the file.

    Raises
    ------
    click.ClickException
        It names another process that is running, has other content, or cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        with self._telling_errors():
            self._check()
            descriptor, self._new = tempfile.mkstemp(dir=self._path.parent, prefix=".pid-")
            try:
                with open(descriptor, "w") as file:
                    file.write(f"{os.getpid()}\n")
                    os.fchmod(descriptor, 0o644)
            except OSError:
                os.unlink(self._new)
                raise

    def write(self) -> None:
        """Put it into its place.

        Raises
        ------
        click.ClickException
            It cannot be written, or another process has written it meanwhile.
        """
        with self._telling_errors(), _locked(self._path.parent):
            self._check()
            os.rename(self._new, self._path)

    def remove(self) -> None:
        """Remove it, unless it is another process's by now."""
        with contextlib.suppress(OSError):
            os.unlink(self._new)
        with contextlib.suppress(OSError, ValueError):
            if _number_in(self._path) == os.getpid():
                self._path.unlink()

    def _check(self) -> None:
        number = _number_in(self._path)
        if number is not None and number != os.getpid() and _lives(number):
            raise ValueError(f"process {number} is running")

    @contextlib.contextmanager
    def _telling_errors(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise click.ClickException(f"--pid {self._path}: {error}") from error
        except OSError as error:
            raise click.ClickException(f"--pid {self._path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep others that do the same waiting, for a moment, where that is possible.

    Anyone who may read the folder may lock it for as long as they like, so this waits no longer.
    """
    with contextlib.ExitStack() as ends:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            ends.callback(os.close, descriptor)
            deadline = Deadline(_PATIENCE)
            while not _is_locked(descriptor) and deadline.left():
                gevent.sleep(_LOOK)
        yield


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _number_in(path: Path) -> int | None:
    """Return the number in a file, None if there is no such file or nothing in it.

    Raises
    ------
    ValueError
        It has other content, or is not a file.
    OSError
        It cannot be read.
    """
    try:
        # A named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("this is a symbolic link") from error
        raise
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("this is not a file")
        text = file.read(_MOST + 1).strip()
    if not text:
        return None
    if not (text.isdigit() and len(text) < _MOST and int(text) > 0):
        raise ValueError("this is another file: it does not have a process number")
    return int(text)


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True
