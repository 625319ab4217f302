"""`top` on the screen of its user: narrow, resized, dumb, and without its server."""

import re
import signal

import pytest
from command_under_test import COMMAND, run
from gevent import subprocess
from helpers import free_ports
from terminals import ESCAPE, Terminal

from gzmqsource.testing import wait_until

pytestmark = [pytest.mark.once, pytest.mark.limit(120)]


@pytest.fixture
def port(serving, address):
    """The port of the metrics of a server that has answered a request."""
    port = free_ports(1)[0]
    serving("--metrics", port)
    assert run("request", "--connect", address, "x").returncode == 0
    return port


def top(port, *words, **options):
    return Terminal(*COMMAND, "top", port, "--interval", "0.1", *words, **options)


NAMES = ("in/s", "out/s", "held", "queued", "oldest", "dropped", "errors", "ms")


def test_80_columns_have_a_table_with_every_value(port, address):
    with top(port, "--count", 2) as terminal:
        assert terminal.wait() == 0
    heading, row, late, *_ = terminal.lines
    assert heading.split() == ["type", "endpoint", *NAMES]
    assert row.split()[:2] == ["ROUTER", address]
    assert len(row.split()) == len(heading.split())
    assert "hub's ticks" in late
    assert not terminal.screen.cursor.hidden


def test_50_columns_have_a_paragraph_with_every_value(port, address):
    with top(port, "--count", 2, columns=50) as terminal:
        assert terminal.wait() == 0
    assert terminal.lines[0] == f"ROUTER {address}"
    values = re.findall(r"(\S+) +[-0-9.,]+s?(?: |\n)", "\n".join(terminal.lines[1:3]) + "\n")
    assert tuple(values) == NAMES
    assert "\u2026" not in terminal.text
    assert not terminal.screen.cursor.hidden


def test_workers_are_shown_whole_in_50_columns(serving):
    port = free_ports(1)[0]
    serving("--metrics", port, "--workers", 2)
    with top(port, columns=50) as terminal:
        wait_until(lambda: terminal.text.count("state ready") == 3, timeout=30)
        terminal.type("\x03")
        assert terminal.wait() == 0
    assert "\u2026" not in terminal.text
    for name in "master", "1", "2":
        assert name in terminal.lines
    assert re.search(r"state ready +in/s \d+ +out/s \d+", terminal.text)


def test_top_follows_the_size_of_the_terminal(port, address):
    with top(port) as terminal:
        terminal.until("type   endpoint")
        begin = len(terminal.written)
        terminal.resize(50, 24)
        wait_until(lambda: terminal.lines[0] == f"ROUTER {address}", timeout=30)
        assert "type   endpoint" not in "\n".join(terminal.screen.display)
        # Unlike the emulator, a terminal may have moved the lines of the old table.
        assert b"\x1b[2J" in terminal.written[begin:]
        terminal.resize(100, 10)
        wait_until(lambda: terminal.screen.display[0].startswith("type   endpoint"), timeout=30)
        assert sum(address in line for line in terminal.screen.display) == 1
        assert terminal.process.poll() is None
        terminal.type("\x03")
        assert terminal.wait() == 0
    assert not terminal.screen.cursor.hidden


@pytest.mark.parametrize("columns", [80, 50])
def test_a_dumb_terminal_gets_one_table_after_another(port, address, columns):
    with top(port, "--count", 3, columns=columns, term="dumb") as terminal:
        assert terminal.wait() == 0
    assert ESCAPE not in terminal.written
    assert terminal.text.count(address) == 3


def test_top_has_no_color_where_none_is_wanted(port):
    with top(port, "--count", 2, NO_COLOR="1") as terminal:
        assert terminal.wait() == 0
    assert not re.search(rb"\x1b\[([0-9]+;)*(3[0-9]|9[0-7])[;m]", terminal.written)


def test_a_server_that_ends_is_named_in_its_place(serving, address):
    port = free_ports(1)[0]
    server = serving("--metrics", port)
    with top(port, columns=50) as terminal:
        terminal.until(address)
        server.terminate()
        terminal.until("Connection refused")
        assert "\n".join(terminal.screen.display).count("http://127.0.0.1") == 1
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 0
    assert not terminal.screen.cursor.hidden


def test_a_pipe_has_each_source_on_one_line_and_no_escape_sequence(serving, tmp_path):
    port = free_ports(1)[0]
    endpoint = f"ipc://{tmp_path}/{'x' * 20}"
    serving("--metrics", port, "--bind", endpoint, binds=False)
    table = run("top", port, "--interval", "0.1", "--count", 1).stdout
    assert ESCAPE not in table
    (row,) = [line for line in table.decode().splitlines() if endpoint in line]
    assert len(row.split()) == 2 + len(NAMES)


def test_top_without_its_reader_ends_quietly(port):
    command = f"{' '.join(COMMAND)} top {port} --interval 0.05 | head -1; echo ${{PIPESTATUS[*]}}"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)
    assert finished.stdout.decode().splitlines()[1:] == ["141 0"]
    assert finished.stderr == b""


@pytest.mark.parametrize("how", ['set -m; "$@" & wait $!', 'setsid -w "$@"'])
def test_the_last_of_some_tables_is_shown_in_the_background_too(port, address, how):
    command = (*COMMAND, "top", port, "--interval", "0.1", "--count", "2")
    with Terminal("bash", "-c", how, "bash", *command) as terminal:
        assert terminal.wait() == 0
    assert terminal.text.count(address) == 1
