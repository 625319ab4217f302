"""The reports of a verb on the standard error: nothing in them is a command for a terminal."""

from __future__ import annotations

import functools
import json
import logging
import reprlib
import sys
import textwrap
import threading
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from gevent.hub import Hub

from gzmqsource.cli._stderr import unblock_stderr
from gzmqsource.cli._text import printable

#: The logger of a verb itself, which also reports when all others are quiet.
log = logging.getLogger("gzmqsource.cli")

#: How records are written: lines for people, or an object of JSON a line for programs.
FORMATS = ("text", "json")

#: The names of the levels of `logging`.
LEVELS = ("debug", "info", "warning", "error", "critical")

#: No line that has it is taken for a record, whatever a peer has put into an exception's text.
_INDENT = "    "

#: How the traceback begins that is in the text of a record, below its line.
_TRACEBACK = f"\n{_INDENT}Traceback (most recent call last):"

#: The line in place of a record that cannot be written.
_UNWRITABLE = "a record of %s, made at %s:%d, cannot be written"


def is_live() -> bool:
    """Return whether there may be a line that changes: on a terminal, below records of text."""
    return _is_on_terminal() and not is_json()


def is_json() -> bool:
    """Return whether the records are JSON."""
    return any(isinstance(each.formatter, JsonFormatter) for each in logging.getLogger().handlers)


def log_to_stderr(form: str = "text", level: str | None = None) -> None:
    """Log warnings, and what the verb itself reports; on a terminal, above the live line.

    Parameters
    ----------
    form : str
        One of `FORMATS`.
    level : str or None
        One of `LEVELS`, for all loggers; None for the levels that the verb finds useful.
    """
    root = logging.getLogger()
    logging.basicConfig(handlers=[_handler(form)])
    if level is None:
        log.setLevel(logging.INFO)
    else:
        root.setLevel(level.upper())
    logging.captureWarnings(True)
    # Exceptions of greenlets, and of callbacks of a hub, in every thread.
    hubs: Any = Hub
    hubs.print_exception = _log_error_of_hub
    # Exceptions that end the main greenlet or a thread, and those that cannot be raised.
    sys.excepthook = _log_error
    threading.excepthook = _log_error_of_thread
    sys.unraisablehook = _log_unraisable


def log_requests() -> None:
    """Log what a server does, unless another level was asked for, each record with its request.

    From now on no write to the standard error waits for a reader.
    """
    # It costs 0.1 s of a start, and other verbs have no handlers of requests.
    from gzmqsource.workers.logs import RequestIdFilter

    root = logging.getLogger()
    if log.level:  # no other was asked for
        root.setLevel(logging.INFO)
    before = sys.stderr
    unblock_stderr()
    for handler in root.handlers:
        handler.addFilter(RequestIdFilter())
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(sys.stderr)


class Formatter(logging.Formatter):
    """One line for each record; further lines have an indent that no record has."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s[%(process)d]%(_request)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record.

        A formatter keeps its text of a traceback in the record, for all that come after it: one of
        the handler's module may have left it there as it is.
        """
        kept, record.exc_text = record.exc_text, None
        if kept and not record.exc_info:  # nor has a record of another process more
            record.exc_text = _indented(kept)
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatTime(self, record: logging.LogRecord, _format: str | None = None) -> str:
        """Return when a record was made."""
        return time_of(datetime.fromtimestamp(record.created, timezone.utc))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record, and those of a traceback that is in its text."""
        request = _request_of(record)
        # Not a name that a program's own records may have.
        record._request = f" {request}" if request else ""
        line, *lines = super().formatMessage(record).rstrip("\n").split("\n")
        # Most have the indent already.
        below = [_indented(each.removeprefix(_INDENT)) for each in lines]
        return "\n".join([printable(line), *below])

    def formatException(self, *args: Any) -> str:
        """Return the lines of a traceback."""
        return _indented(super().formatException(*args))

    def formatStack(self, stack_info: str) -> str:
        """Return the lines of a stack."""
        return _indented(stack_info)


class JsonFormatter(logging.Formatter):
    """An object of JSON for each record, on one line, in ASCII without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, without the fields that it does not have."""
        message, is_below, below = record.getMessage().partition(_TRACEBACK)
        trace = textwrap.dedent(_TRACEBACK[1:] + below) if is_below else record.exc_text
        if record.exc_info:
            trace = self.formatException(record.exc_info)
        fields = {
            "time": time_of(datetime.fromtimestamp(record.created, timezone.utc)),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
            "pid": record.process,
            "request": _request_of(record),
            "exception": trace,
            "stack": record.stack_info,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None})


def time_of(moment: datetime) -> str:
    """Return a time as all logs write it: in UTC, in ISO 8601, with milliseconds."""
    return f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _handler(form: str) -> logging.Handler:
    handler: logging.Handler
    if form == "json" or not _is_on_terminal():
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter() if form == "json" else Formatter())
    else:
        # It imports rich, a quarter of a start that needs it nowhere else.
        from gzmqsource.cli._live import TerminalHandler

        handler = TerminalHandler()
        handler.setFormatter(Formatter())
    # Their own writes a traceback as it is.
    handler.handleError = functools.partial(_log_unwritable, handler)  # type: ignore[method-assign]
    return handler


def _is_on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _log_unwritable(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Write, in place of a record, why it cannot be written."""
    if record.msg is _UNWRITABLE:  # nor can this: there is no standard error any more
        return
    arguments = (record.name, record.pathname, record.lineno)
    why = sys.exc_info()
    level = logging.ERROR
    handler.emit(log.makeRecord(log.name, level, __file__, 0, _UNWRITABLE, arguments, why))


def _request_of(record: logging.LogRecord) -> str | None:
    request: str | None = getattr(record, "request_id", None)
    return None if request == "-" else request


def _log_error_of_hub(
    hub: Any, context: Any, kind: Any, error: Any, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return  # the hub passes it on to the main greenlet
    where = context if isinstance(context, str | None) else hub.format_context(context)
    _log_failure(f"{where} failed" if where else "failed", kind, error, trace)


def _log_error(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    _log_failure("failed", kind, error, trace)


def _log_error_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread is not None else "a thread"
        _log_failure(f"{name} failed", args.exc_type, args.exc_value, args.exc_traceback)


def _log_unraisable(args: sys.UnraisableHookArgs) -> None:
    # An object's own repr may raise.
    text = f"{args.err_msg or 'Exception ignored in'}: {reprlib.repr(args.object)}"
    _log_failure(text, args.exc_type, args.exc_value, args.exc_traceback)


def _log_failure(text: str, kind: Any, error: Any, trace: TracebackType | None) -> None:
    """Log an exception that nothing has caught; of some there is no more than the class."""
    if isinstance(error, BaseException):
        log.error("%s", text, exc_info=(kind, error, trace))
    else:
        log.error("%s: %s", text, kind.__name__)


def _indented(text: str) -> str:
    return "\n".join(_INDENT + printable(line) for line in text.split("\n"))
