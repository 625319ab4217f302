"""What a verb reports on the standard error: nothing in it is a command for a terminal."""

from __future__ import annotations

import functools
import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from gevent.hub import get_hub
from rich.console import Console

from gzmqsource.cli._text import printable

#: What a verb itself reports, also when all else is quiet.
log = logging.getLogger("gzmqsource.cli")

#: No line that has it is taken for a record, whatever a peer has put into an exception's text.
_INDENT = "    "


@functools.cache
def console() -> Console:
    """Return the console on the standard error."""
    return Console(stderr=True)


def log_to_stderr() -> None:
    """Log warnings, and what the verb itself reports; on a terminal, above the live line."""
    if console().is_terminal:
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=console(), show_path=False)
        handler.setFormatter(Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(Formatter("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    log.setLevel(logging.INFO)
    hub: Any = get_hub()
    hub.exception_stream = _Escaping()
    # What ends the main greenlet, or a thread, and what cannot be raised.
    sys.excepthook = _write_error
    threading.excepthook = _write_error_of_thread
    sys.unraisablehook = _write_unraisable


class Formatter(logging.Formatter):
    """One line for each record, and what is below it with an indent that no record has."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record, and those of a traceback that is in its text."""
        line, *below = super().formatMessage(record).split("\n")
        return "\n".join([printable(line), *(_indented(each) for each in below)])

    def formatException(self, *args: Any) -> str:
        """Return the lines of a traceback."""
        return _indented(super().formatException(*args))

    def formatStack(self, stack_info: str) -> str:
        """Return the lines of a stack."""
        return _indented(stack_info)


class _Escaping:
    """Where gevent writes what greenlets raise; the text of an exception may be a peer's."""

    def __init__(self) -> None:
        self._indent = _INDENT

    def write(self, text: str) -> None:
        for line in text.splitlines(keepends=True):
            end = "\n" if line.endswith("\n") else ""
            sys.stderr.write(self._indent + printable(line.removesuffix("\n")) + end)
            self._indent = _INDENT if end else ""

    def flush(self) -> None:
        sys.stderr.flush()


def _write_error(
    kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    _Escaping().write("".join(traceback.format_exception(kind, error, trace)))


def _write_error_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        _write_error(args.exc_type, args.exc_value, args.exc_traceback)


def _write_unraisable(args: sys.UnraisableHookArgs) -> None:
    _Escaping().write(f"{args.err_msg or 'Exception ignored in'}: {args.object!r}\n")
    _write_error(args.exc_type, args.exc_value, args.exc_traceback)


def _indented(text: str) -> str:
    return "\n".join(_INDENT + printable(line.removeprefix(_INDENT)) for line in text.split("\n"))
