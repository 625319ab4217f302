"""What a verb writes and reads: nothing that a terminal obeys, and no traceback for any input."""

import io
import json
import os
import pty

import pytest
import zmq
from command_under_test import run, running
from gevent import subprocess
from gevent.pywsgi import WSGIServer
from helpers import closing
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from texts import BAD, is_harmless

from gzmqsource import Source
from gzmqsource.cli._reading import Reading
from gzmqsource.cli._text import FORMATS, from_json, printable
from gzmqsource.cli._top import _table
from gzmqsource.workers import Responder

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@given(st.text(st.characters()))
def test_no_text_that_is_shown_has_a_control_character(text):
    assert is_harmless(printable(text))


def test_what_can_be_shown_is_shown_as_it_is():
    assert printable("käse 日本 \\x1b") == "käse 日本 \\x1b"
    assert printable(BAD + "\U000e0001") == (
        r"\x1b[31mred\x1b]0;title\x07\x9b2J\u202eevil\u2066\x0a2026-01-01 gzmqsource: all is well"
        r"\x0d\U000e0001"
    )


@given(st.lists(st.binary() | st.text().map(str.encode), min_size=1))
def test_no_message_as_a_line_has_a_control_character_and_json_is_exact(message):
    for name in ("text", "hex", "json"):
        line = b"".join(FORMATS[name](message)).decode()
        assert line.endswith("\n")
        assert is_harmless(line[:-1], but="\t")
    assert from_json(b"".join(FORMATS["json"](message))) == message


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("hex"), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_line_is_a_message_or_a_value_error(line):
    try:
        message = from_json(line)
    except ValueError:
        return
    assert message
    assert all(type(frame) is bytes for frame in message)


#: Lines of input that are no message.
NO_MESSAGES = {
    "huge integer": b"9" * 100_000,
    "deep list": b"[" * 100_000,
    "deep dict": b'{"a":' * 100_000,
    "deep and closed": b"[" * 900 + b"]" * 900,
    "not a number": b"NaN",
    "infinite": b"-Infinity",
    "lone surrogate": b'"\\ud800"',
    "not UTF-8": b'"\xff"',
    "empty": b"",
    "no frames": b"[]",
    "null": b"null",
    "hex of a number": b'{"hex": 5}',
    "hex of a list": b'{"hex": [[]]}',
    "hex of no digits": b'{"hex": "zz"}',
    "zero": b"\0",
    "escape": b'"\x1b[31m"',
}


@pytest.mark.parametrize("line", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_a_line_that_is_no_message_is_an_error_of_one_line(line, address):
    finished = run("send", "--json", "--bind", address, input=line + b"\n")
    error = finished.stderr.decode()
    assert finished.returncode == 1
    assert error.startswith("Error: message 1: ")
    assert is_harmless(error, but="\n")
    assert error.count("\n") == 1
    assert len(error) < 1000


def test_what_a_server_answers_reaches_no_terminal_as_it_is(context, address):
    def answer(payload):
        if payload == [b"fail"]:
            raise ValueError(BAD)
        return [BAD.encode(), BAD.encode("utf-16"), b"\x7f\x1b"]

    with Responder.open(answer, bind=address, context=context, on_error=lambda *_: None) as server:
        server.start()
        for name in ("text", "hex", "json"):
            written = run("request", "--connect", address, "--format", name, "x").stdout.decode()
            assert is_harmless(written, but="\t\n")
            assert written.count("\n") == 1
        exact = run("request", "--connect", address, "--format", "raw", "x").stdout
        assert exact == b"".join(answer([b"x"]))
        error = run("request", "--connect", address, "fail").stderr.decode()
    assert error == f"Error: ValueError: {printable(BAD)}\n"


def test_raw_bytes_go_to_no_terminal(context, address):
    terminal, end = pty.openpty()
    with closing(Source.open(zmq.PUSH, bind=address, context=context, linger=0)) as (source,):
        source.send([BAD.encode(), b"x"])
        options = ("--format", "raw", "--count", 1)
        # The terminal's buffer takes it all before it is read.
        assert run("recv", "--connect", address, *options, stdout=end)
        shown = os.read(terminal, 10_000).decode()
    os.close(end)
    os.close(terminal)
    assert shown.split() == [*printable(BAD).split(), "x"]


def test_a_server_whose_handler_raises_what_a_peer_says_logs_no_line_of_it(
    serving, address, tmp_path
):
    (tmp_path / "echo.py").write_text("def fail(x):\n    raise ValueError(x[0].decode())\n")
    process = serving(target="echo:fail")
    error = run("request", "--connect", address, BAD).stderr.decode()
    assert error == f"Error: ValueError: {printable(BAD)}\n"
    process.terminate()
    lines = process.stderr.read().split("\n")
    assert any(printable("\x1b[31mred") in line for line in lines)
    assert all(is_harmless(line) for line in lines)
    assert not any(line.startswith("2026-01-01") for line in lines)


#: What a handler does with the text of a peer, and what of it ends the server.
ENDS = {
    "exits": "raise SystemExit(text)",
    "exits with a list": "raise SystemExit([text])",
    "raises for the hub": "raise SystemError(text)",
    "raises in a thread": "import threading, os\n    def run():\n        raise OSError(text)\n"
    "    thread = threading.Thread(target=run)\n    thread.start()\n    thread.join()\n"
    "    raise SystemExit(0)",
    "raises where nobody catches": "class Text:\n        def __del__(self):\n"
    "            raise OSError(text)\n    Text()\n    raise SystemExit(0)",
}


@pytest.mark.parametrize("patch", ["--patch", "--no-patch"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_server_that_a_handler_ends_writes_nothing_that_a_terminal_obeys(
    serving, address, tmp_path, context, end, patch
):
    (tmp_path / "ending.py").write_text(f"def end(x):\n    text = x[0].decode()\n    {end}\n")
    process = serving(patch, target="ending:end")
    with closing(Source.open(zmq.DEALER, connect=address, context=context, linger=0)) as (client,):
        client.send([b"", BAD.encode()])
        lines = process.stderr.read().split("\n")
    assert any(printable("\x1b[31mred") in line for line in lines)
    assert all(is_harmless(line) for line in lines)
    assert not any(line.startswith("2026-01-01") for line in lines)


METRICS = """
# TYPE gzmqsource_received_messages counter
gzmqsource_received_messages_total{source="Source",type="PULL",endpoint="ENDPOINT"} 1
"""


def shown(text):
    """Return the table of a server's numbers as it goes to a terminal."""
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system="truecolor")
    console.print(_table(Reading(0.0), Reading.of(text)))
    return out.getvalue()


@pytest.mark.parametrize("endpoint", ["tcp://[red]x[/red]", "tcp://[/nothing]", "[link=http://x]y"])
def test_an_endpoint_is_no_markup(endpoint):
    assert endpoint in shown(METRICS.replace("ENDPOINT", endpoint))


def test_an_endpoint_is_shown_without_what_a_terminal_obeys():
    bad = "\x1b]0;title\x07\u202e"
    assert bad not in shown(METRICS.replace("ENDPOINT", bad))
    assert printable(bad) in shown(METRICS.replace("ENDPOINT", bad))


@pytest.mark.parametrize(
    "answer",
    [
        b"\x1b[31m garbage {",
        b'gzmqsource_x_total{endpoint="y"} 1\n',
        b'gzmqsource_hub_lateness_seconds_bucket{le="x"} 1\n',
        b'gzmqsource_x_total{type="y",endpoint="y"} ' + b"9" * 400 + b"\n",
        b"gzmqsource_hub_lateness_seconds_bucket 1\n",
        b"\xff\xfe",
        b'# TYPE gzmqsource_x counter\ngzmqsource_x_total{endpoint="a',
    ],
)
def test_what_is_no_metrics_is_an_error_of_one_line(answer):
    def application(_environ, start_response):
        start_response("200 OK", [])
        return [answer]

    server = WSGIServer(("127.0.0.1", 0), application, log=None)
    server.start()
    finished = run("top", server.server_port, "--count", 1, "--interval", 0.05)
    server.stop()
    error = finished.stderr.decode()
    assert finished.returncode == 1
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert is_harmless(error, but="\n")


def test_a_histogram_of_one_bucket_has_no_quantile():
    text = 'gzmqsource_hub_lateness_seconds_bucket{le="+Inf"} 5\n'
    assert "no lateness" in str(_table(Reading(0.0), Reading.of(text)).caption)


def test_a_port_that_speaks_no_http_is_an_error_of_one_line(context):
    from gevent.server import StreamServer

    server = StreamServer(("127.0.0.1", 0), lambda peer, _: peer.sendall(b"\x1b[31m\r\n\r\n"))
    server.start()
    finished = run("top", server.server_port)
    server.stop()
    assert finished.returncode == 1
    assert finished.stderr.decode().count("\n") == 1
    assert b"\x1b" not in finished.stderr


def test_a_message_of_a_verb_is_escaped_by_the_process_that_has_it(address):
    with running("send", "--json", "--bind", address, stderr=subprocess.PIPE) as sends:
        sends.stdin.write('["x", "\x1b[31m"]\n')
        sends.stdin.close()
        assert "\x1b" not in sends.stderr.read()
