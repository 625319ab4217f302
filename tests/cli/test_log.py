"""The log of a verb: one record a line, as text or as JSON, and nothing that a terminal obeys."""

import io
import json
import logging
import re
import sys
from datetime import datetime, timezone

import pytest
import zmq
from command_under_test import run, running
from gevent import subprocess
from helpers import closing
from hypothesis import example, given
from hypothesis import strategies as st
from texts import BAD, is_harmless

from gzmqsource import Source
from gzmqsource.cli import _log
from gzmqsource.cli._text import printable

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

#: ISO 8601, in UTC, with milliseconds.
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def record_of(text, raised=None, stack=None):
    """Return a record with a text, and with an exception that has one."""
    info = None
    if raised is not None:
        try:
            raise ValueError(raised)
        except ValueError:
            info = sys.exc_info()
    return logging.LogRecord("x", 30, "", 1, "%s", (text,), info, sinfo=stack)


def written(formatter, *records):
    """Return what a handler writes of records."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    for record in records:
        handler.emit(record)
    return out.getvalue()


@given(st.text(st.characters()), st.text(st.characters()))
def test_no_line_of_a_log_has_a_control_character_or_looks_like_another(text, raised):
    first, *others = written(_log.Formatter(), record_of(text, raised, text)).split("\n")
    assert first.endswith(": " + printable(text.rstrip("\n").split("\n")[0]))
    assert is_harmless(first)
    assert all(is_harmless(line) and line.startswith("    ") for line in others if line)


@example("\x7f", "\x7f")
@given(st.text(st.characters()), st.text(st.characters()))
def test_a_record_of_json_is_one_line_of_printable_ascii_that_has_all_of_it(text, raised):
    record = record_of(text, raised, text)
    (line,) = written(_log.JsonFormatter(), record).splitlines()
    assert line.isascii()
    assert line.isprintable()
    fields = json.loads(line)
    assert fields["message"] == text
    assert fields["exception"] == _log.JsonFormatter().formatException(record.exc_info)
    assert (fields["level"], fields["logger"], fields["stack"]) == ("WARNING", "x", text)
    assert fields["pid"] == record.process


def test_a_traceback_in_the_text_of_a_record_stays_below_its_line():
    text = "an error\n    Traceback (most recent call last):\n      File"
    record = record_of(text)
    assert _log.Formatter().format(record).endswith(f" x[{record.process}]: {text}")
    fields = json.loads(_log.JsonFormatter().format(record))
    assert fields["message"] == "an error"
    assert fields["exception"] == "Traceback (most recent call last):\n  File"


@pytest.mark.parametrize("has_error", [True, False], ids=["here", "of another process"])
def test_a_traceback_that_another_formatter_has_left_is_written_as_others(has_error):
    record = record_of("text", BAD)
    logging.Formatter().format(record)
    kept = record.exc_text
    assert kept is not None
    assert BAD in kept
    if not has_error:
        record.exc_info = None  # as when it was pickled
    _, *others = written(_log.Formatter(), record).split("\n")
    assert others[0] == "    Traceback (most recent call last):"
    assert all(is_harmless(line) and line.startswith("    ") for line in others if line)
    assert json.loads(_log.JsonFormatter().format(record))["exception"] == kept
    assert record.exc_text == kept


def test_both_forms_have_the_same_time():
    record = record_of("text")
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert re.fullmatch(TIME, time)
    assert _log.Formatter().format(record).startswith(f"{time} WARNING x[")
    assert json.loads(_log.JsonFormatter().format(record))["time"] == time


#: What goes wrong in a handler, in ways that `logging` by itself does not see.
WRONG = """
import gc, logging, threading, warnings
import gevent
BAD = {bad!r}
class Text:
    def __del__(self):
        raise OSError(BAD)
    def __repr__(self):
        raise OSError(BAD)
def fail():
    raise OSError(BAD)
def run():
    gevent.spawn(fail).join()
    gevent.get_hub().loop.run_callback(fail)
    gevent.sleep(0)
def wrong(x):
    logging.getLogger("served").info("inside of %s", BAD)
    logging.info("%d", BAD)
    run()
    gevent.get_hub().threadpool.apply(run)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Text()
    gc.collect()
    warnings.warn(BAD)
    raise KeyError(BAD)
"""


@pytest.fixture
def lines(serving, tmp_path, context, address):
    """What a server of a handler writes until it is stopped, in either form."""

    def ask(*options):
        (tmp_path / "wrong.py").write_text(WRONG.format(bad=BAD))
        process = serving(target="wrong:wrong", common=options)
        assert run("request", "--connect", address, "x").returncode == 1
        process.terminate()
        return process.stderr.read().splitlines()

    return ask


def test_whatever_goes_wrong_is_a_record_of_json(lines):
    records = [json.loads(line) for line in lines("--log-format", "json")]
    errors = [each for each in records if "OSError" in each.get("exception", "")]
    # A greenlet and a callback of the hub, and those of another thread; a thread; a `__del__`.
    assert len(errors) == 6
    assert all(BAD.split("\n")[0] in each["exception"] for each in errors)
    (inside,) = [each for each in records if each["logger"] == "served"]
    assert inside["message"] == f"inside of {BAD}"
    (answer,) = [each for each in records if "KeyError" in each.get("exception", "")]
    assert answer["request"] == inside["request"]
    assert re.fullmatch("[0-9a-f]{32}", inside["request"])
    assert [each["message"] for each in records if "cannot be written" in each["message"]]
    assert [each for each in records if each["logger"] == "py.warnings"]
    assert records[-1]["message"] == "stopped"
    assert "request" not in records[-1]
    assert all(re.fullmatch(TIME, each["time"]) for each in records)


def test_whatever_goes_wrong_is_a_record_of_text(lines):
    written = lines()
    assert all(is_harmless(line) for line in written)
    record = re.compile(rf"{TIME} [A-Z]+ [\w.]+\[\d+\](?: [0-9a-f]{{32}})?: ")
    assert all(record.match(line) or line.startswith("    ") for line in written)
    (inside,) = [line for line in written if " served[" in line]
    assert inside.endswith(f": inside of {printable(BAD.split(chr(10))[0])}")
    assert sum("OSError: " in line for line in written) == 6


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["serve", "nothing", "--bind", "tcp://127.0.0.1:*"], 2),
        (["recv", "--connect", "nonsense"], 2),
        (["serve", "no_such_module:x", "--bind", "tcp://127.0.0.1:*"], 1),
        (["serve", "--no-such-option"], 2),
    ],
)
def test_an_error_of_the_command_is_a_record_of_json_too(options, code):
    finished = run("--log-format", "json", *options)
    assert finished.returncode == code
    (line,) = finished.stderr.splitlines()
    assert json.loads(line)["level"] == "ERROR"


def test_the_end_of_a_handler_is_a_record_of_json(serving, tmp_path, address, context):
    (tmp_path / "ending.py").write_text("def end(x):\n    raise SystemExit(x[0].decode())\n")
    process = serving(target="ending:end", common=("--log-format", "json"))
    with closing(Source.open(zmq.DEALER, connect=address, context=context, linger=0)) as (client,):
        client.send([b"", BAD.encode()])
        records = [json.loads(line) for line in process.stderr.read().splitlines()]
        assert process.wait(timeout=20) == 1
    assert printable(BAD) in [each["message"] for each in records]


NOTING = """
import logging
def note(x):
    for level in "debug", "info", "error":
        getattr(logging.getLogger("noting"), level)(level)
    return x
"""


@pytest.mark.parametrize(
    ("options", "levels"),
    [((), ["info", "error"]), (("debug",), ["debug", "info", "error"]), (("error",), ["error"])],
)
def test_a_level_is_that_of_all_loggers(tmp_path, address, options, levels):
    (tmp_path / "noting.py").write_text(NOTING)
    common = [word for level in options for word in ("--log-level", level)]
    server = (*common, "serve", "noting:note", "--bind", address)
    with running(*server, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert run("request", "--connect", address, "x").returncode == 0
        process.terminate()
        lines = process.stderr.read().splitlines()
        assert process.wait(timeout=20) == 0
    assert [line.split(": ")[1] for line in lines if " noting[" in line] == levels
    if levels == ["error"]:
        assert len(lines) == 1
