"""The line that changes: where a shell lets it be seen, and where not. The shell is bash's own."""

import contextlib
import os
import pty
import shlex
import shutil
import signal

import gevent
import pyte
import pytest
from command_under_test import COMMAND
from gevent import subprocess
from gevent.os import make_nonblocking, nb_read

from gzmqsource.testing import wait_until
from gzmqsource.workers import Requester

pytestmark = [
    pytest.mark.once,
    pytest.mark.limit(120),
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control"),
]

#: Logs each request, and prints it.
HANDLER = """
import logging
def answer(payload):
    logging.getLogger("served").warning("handled %s", payload[0].decode())
    print("printed", payload[0].decode())
    return payload
"""

CTRL_C, CTRL_Z = "\x03", "\x1a"

#: Longer than two ticks of the line.
TWO_TICKS = "sleep 1.2"


class Shell:
    """An interactive shell in a terminal, of which there is a screen."""

    def __init__(self, folder, columns=80):
        self.screen = pyte.HistoryScreen(columns, 24, history=1000)
        #: All that was written to the terminal.
        self.written = ""
        self._terminal, end = pty.openpty()
        make_nonblocking(self._terminal)
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=end,
            stdout=end,
            stderr=end,
            cwd=folder,
            env=os.environ
            | {"PS1": "prompt> ", "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"},
            preexec_fn=_take_terminal,
        )
        os.close(end)
        self._reading = gevent.spawn(self._read, pyte.Stream(self.screen))
        self.until("prompt>")

    def _read(self, stream):
        with contextlib.suppress(OSError):  # there is no shell any more
            while data := nb_read(self._terminal, 65536).decode():
                self.written += data
                stream.feed(data)

    @property
    def lines(self):
        """The lines of the screen that are not empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def type(self, text, end="\n"):
        """Type a line, or a key."""
        os.write(self._terminal, (text + end).encode())

    def until(self, text):
        """Wait until there is a text on the screen."""
        looked_at = -1

        def is_shown():
            nonlocal looked_at
            before, looked_at = looked_at, len(self.written)
            return looked_at > before and any(text in line for line in self.lines)

        wait_until(is_shown)

    def run(self, command):
        """Run a command in the foreground, up to the next prompt; return what was written."""
        before = len(self.written)
        mark = f"end-{before}"
        self.type(f"{command}; echo {mark[:3]}''{mark[3:]}")
        wait_until(lambda: mark in self.written[before:])
        return self.written[before:]

    @property
    def children(self):
        """The numbers of the processes that it has started."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True)
        return [int(pid) for pid in found.stdout.split()]

    def close(self):
        for pid in (*self.children, self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reading.kill()
        os.close(self._terminal)


def _take_terminal():
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def shell(tmp_path):
    (tmp_path / "served.py").write_text(HANDLER)
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.fixture
def serve(address):
    words = (*COMMAND, "serve", "served:answer", "--bind", address)
    return shlex.join(words)


@pytest.fixture
def ask(context, address):
    """Make a request; the first one of a client is two messages, for a PING follows."""
    with Requester.open(address, context=context, linger=0) as requester:
        yield lambda text: requester.request(text.encode(), timeout=20)
        requester.close()


def test_in_the_foreground_it_is_below_what_is_logged_and_printed(shell, serve, ask):
    shell.type(serve)
    shell.until("pid")
    ask("one")
    shell.until("requests 1, ")
    assert "requests 1, " in shell.lines[-1]
    assert any("handled one" in line for line in shell.lines)
    assert "printed one" in shell.lines
    shell.type(CTRL_C, end="")
    shell.until("stopped")
    wait_until(lambda: shell.lines[-1] == "prompt>")
    assert not any("requests 1, " in line for line in shell.lines)


def test_a_server_in_the_background_leaves_the_prompt_and_the_cursor_alone(shell, serve, ask):
    shell.type(f"{serve} &")
    shell.until("pid")
    ask("one")
    shell.until("printed one")
    assert "requests 1, " not in shell.run(TWO_TICKS)
    # What is typed stays as it is while the server's time goes on.
    shell.type("echo half", end="")
    shell.until("prompt> echo half")
    assert "half\r\n" in shell.run("; " + TWO_TICKS)
    assert "\x1b[?25l" not in shell.written
    assert "\x1b[2K" not in shell.written
    assert not shell.screen.cursor.hidden


def test_it_comes_with_the_server_to_the_foreground_and_goes_with_it_too(shell, serve, ask):
    shell.type(f"{serve} &")
    shell.until("pid")
    ask("one")
    shell.type("fg")
    shell.until("requests 1, ")
    shell.type(CTRL_Z, end="")
    shell.until("Stopped")
    shell.type("bg")
    ask("two")
    shell.until("printed two")
    assert "requests 2, " not in shell.run(TWO_TICKS)
    shell.type("fg")
    shell.until("requests 2, ")
    assert "\x1b[?25l" not in shell.written


def test_a_terminal_that_stops_who_writes_in_the_background_does_not_stop_the_server(
    shell, serve, ask
):
    shell.run("stty tostop")
    shell.type(f"{serve} > printed &")
    shell.until("pid")
    ask("one")
    shell.until("handled one")
    shell.run(TWO_TICKS)
    assert "Running" in shell.run("jobs")
    assert "requests 1, " not in shell.written


def test_what_a_handler_prints_into_a_file_is_not_on_the_terminal(shell, serve, ask, tmp_path):
    shell.type(f"PYTHONUNBUFFERED=1 {serve} > printed")
    shell.until("requests 0, ")
    ask("one")
    shell.until("requests 1, ")
    assert (tmp_path / "printed").read_text() == "printed one\n"
    assert not any("printed one" in line for line in shell.lines)


def test_a_server_that_is_killed_leaves_a_cursor(shell, serve):
    shell.type(serve)
    shell.until("requests 0, ")
    (pid,) = shell.children
    os.kill(pid, signal.SIGKILL)
    shell.until("Killed")
    assert not shell.screen.cursor.hidden


def test_it_is_one_line_of_a_narrow_terminal_too(tmp_path, serve, ask):
    (tmp_path / "served.py").write_text(HANDLER)
    shell = Shell(tmp_path, columns=30)
    try:
        shell.run("stty cols 30")
        shell.type(serve)
        shell.until("requests 0, ")
        ask("one")
        shell.until("requests 1, ")
        assert shell.lines[-1].startswith("requests 1, ")
        assert shell.lines[-1].endswith("…")
        assert not any("requests 0, " in line for line in shell.lines)
        shell.type(CTRL_C, end="")
        wait_until(lambda: shell.lines[-1] == "prompt>")
    finally:
        shell.close()
