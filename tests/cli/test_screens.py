"""What a user of each verb sees: in a terminal of 80 columns, in one of 50, and in a pipe."""

import os
import re
import sys

import pytest
from command_under_test import COMMAND, popen, run
from gevent import subprocess
from terminals import ESCAPE, Terminal

from gzmqsource.cli._command import _VERBS

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]

SIZES = pytest.mark.parametrize("columns", [80, 50])

#: Verbs that serve or wait until Ctrl-C, and what they show first.
WAITING = {
    "serve": (("serve", "json:dumps", "--bind", "{}"), "started>: pid"),
    "serve with workers": (
        ("serve", "json:dumps", "--workers", "1", "--bind", "{}"),
        "is ready",
    ),
    "broker": (("broker", "{}", "tcp://127.0.0.1:*"), "pid"),
    "proxy": (("proxy", "{}", "tcp://127.0.0.1:*"), "served"),
}

#: Verbs that end, and their exit status.
ENDING = {
    "doctor": (("doctor",), 0),
    "doctor for programs": (("doctor", "--json"), 0),
    "keygen": (("keygen", "keys"), 0),
    "completion": (("completion", "bash"), 0),
    "version": (("--version",), 0),
    "no verb": ((), 2),
    "a wrong verb": (("sevre",), 2),
    "recv that gets nothing": (("recv", "--bind", "{}", "--timeout", "0.1", "--count", "1"), 1),
    "request that gets nothing": (("request", "--connect", "{}", "--timeout", "0.5", "x"), 1),
    "top without a server": (("top", "1"), 1),
    "doctor without a server": (("doctor", "1"), 1),
    "serve without a module": (("serve", "nowhere:answer", "--bind", "{}"), 1),
    "serve of a file": (("serve", "served.py:answer", "--bind", "{}"), 2),
    "an endpoint without a transport": (("recv", "--bind", "127.0.0.1:5555"), 2),
}


@pytest.fixture
def here(tmp_path, address):
    """Put the endpoint into a command line; run the verb in a folder for files."""

    def words(line):
        return [*COMMAND, *(word.format(address) for word in line)]

    return words


def without_breaks(text):
    """Return a text without blanks and ends of lines, wherever these are put."""
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("verb", ["", *_VERBS])
@SIZES
def test_a_help_text_fits(verb, columns):
    words = [verb] if verb else []
    with Terminal(*COMMAND, *words, "--help", columns=columns, lines=500) as terminal:
        assert terminal.wait() == 0
    shown = terminal.written.decode().replace("\r\n", "\n")
    assert max(map(len, shown.splitlines())) <= columns
    assert "..." not in shown.replace("[ARGS]...", "").replace("[MESSAGES]...", "")
    assert terminal.text == shown.rstrip().replace(" \n", "\n")
    # A name that is broken at the end of a line cannot be searched for, nor copied.
    wide = run(*words, "--help", env=os.environ | {"COLUMNS": "200"}).stdout.decode()
    names = r"GZMQSOURCE_\w+|--[a-z-]+"
    assert set(re.findall(names, shown)) == set(re.findall(names, wide))


@SIZES
def test_the_list_of_verbs_has_whole_sentences(columns):
    finished = run("--help", env=os.environ | {"COLUMNS": str(columns)})
    verbs = finished.stdout.decode().partition("Verbs:")[2]
    assert len(re.findall(r"\.$", verbs, re.MULTILINE)) == len(_VERBS)


@pytest.mark.parametrize(("line", "text"), WAITING.values(), ids=WAITING)
@SIZES
def test_a_verb_that_serves_shows_its_address_whole_and_leaves_the_terminal_in_order(
    here, address, line, text, columns
):
    with Terminal(*here(line), columns=columns) as terminal:
        terminal.until(text)
        terminal.type("\x03")
        assert terminal.wait() == 0
    assert address in terminal.text.replace("\n", " ")
    assert not terminal.screen.cursor.hidden
    assert "Traceback" not in terminal.text
    assert "\ufffd" not in terminal.text


@pytest.mark.parametrize(("line", "status"), ENDING.values(), ids=ENDING)
@SIZES
def test_a_verb_that_ends_shows_in_a_terminal_what_it_writes_into_a_pipe(
    here, address, tmp_path, line, status, columns
):
    shown, piped = tmp_path / "shown", tmp_path / "piped"
    shown.mkdir()
    piped.mkdir()
    with Terminal(*here(line), columns=columns, lines=200, cwd=shown) as terminal:
        assert terminal.wait() == status
    assert not terminal.screen.cursor.hidden
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    finished = run(*(word.format(address) for word in line), cwd=piped, env=environment)
    assert finished.returncode == status
    written = finished.stdout + finished.stderr
    assert ESCAPE not in written
    assert b"Traceback" not in written
    expected = without_breaks(written.decode()).replace(str(piped), str(shown))
    assert without_breaks(terminal.text) == expected


@SIZES
def test_an_error_is_folded_between_words(columns):
    words = ("recv", "--bind", "127.0.0.1:5555")
    with Terminal(*COMMAND, *words, columns=columns) as terminal:
        assert terminal.wait() == 2
    error = terminal.text.partition("Error: ")[2]
    assert "\n" in error
    assert error.replace("\n", " ") in run(*words).stderr.decode()


@SIZES
def test_a_benchmark_shows_every_value(columns):
    with Terminal(*COMMAND, "bench", "--count", "1000", "--runs", "1", columns=columns) as terminal:
        assert terminal.wait() == 0
    assert "1000 messages" in terminal.text.replace("\n", " ")
    assert "\u2026" not in terminal.text
    assert terminal.text.count("zmq.green") == 4
    assert not terminal.screen.cursor.hidden


@SIZES
def test_a_message_is_shown_whole(here, address, columns):
    long = " ".join(f"word{number}" for number in range(50))
    line = ("recv", "--bind", "{}", "--count", "1")
    with Terminal(*here(line), columns=columns) as terminal:
        assert run("send", "--connect", address, long).returncode == 0
        assert terminal.wait() == 0
    assert without_breaks(terminal.text) == without_breaks(long)


def test_without_color_no_color_is_set(here):
    line, text = WAITING["serve"]
    with Terminal(*here(line), NO_COLOR="1") as terminal:
        terminal.until(text)
        terminal.type("\x03")
        assert terminal.wait() == 0
    # 30 to 37 and 90 to 97 are colors, and 38 begins one.
    assert not re.search(rb"\x1b\[([0-9]+;)*(3[0-9]|9[0-7])[;m]", terminal.written)


def test_a_dumb_terminal_gets_no_escape_sequence(here):
    line, text = WAITING["serve"]
    with Terminal(*here(line), term="dumb") as terminal:
        terminal.until(text)
        terminal.type("\x03")
        assert terminal.wait() == 0
    assert ESCAPE not in terminal.written


#: Verbs that write more than one line, whose reader is gone after the first.
WRITING = {
    "recv": ("recv", "--bind", "{}"),
    "monitor": ("monitor", "--connect", "tcp://127.0.0.1:1"),
    "doctor": ("doctor",),
    "doctor for programs": ("doctor", "--json"),
    "completion": ("completion", "bash"),
    "help": ("--help",),
    "help of a verb": ("serve", "--help"),
}


@pytest.mark.parametrize("line", WRITING.values(), ids=WRITING)
def test_a_verb_without_its_reader_ends_quietly_as_by_a_signal(here, address, line):
    reading, writing = os.pipe()
    os.close(reading)
    process = popen(here(line), stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    if line[0] == "recv":
        run("send", "--connect", address, "x")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 141
    assert error == b""


def test_a_shell_sees_that_a_reader_was_enough():
    command = " ".join([*COMMAND, "monitor", "--connect", "tcp://127.0.0.1:1"])
    script = f"{command} | head -1; echo ${{PIPESTATUS[*]}}"
    finished = subprocess.run(["bash", "-c", script], capture_output=True, check=False, timeout=60)
    first, status = finished.stdout.decode().splitlines()
    assert "tcp://127.0.0.1:1" in first
    assert status == "141 0"
    assert finished.stderr == b""


def test_the_screen_of_a_test_is_that_of_a_terminal():
    """The other tests cannot fail if the terminal folds nothing, or hides nothing."""
    program = r"print('x' * 60 + '\x1b[?25l' + '\x1b[31mred', flush=True)"
    with Terminal(sys.executable, "-c", program, columns=50) as terminal:
        assert terminal.wait() == 0
    assert terminal.lines[:2] == ["x" * 50, "x" * 10 + "red"]
    assert terminal.screen.cursor.hidden
