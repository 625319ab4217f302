"""A terminal of a given size with a program in it, and the screen that its user sees."""

import contextlib
import errno
import fcntl
import os
import pty
import struct
import termios
from typing import Any

import gevent
import pyte
from command_under_test import popen
from gevent.os import make_nonblocking, nb_read, nb_write

from gzmqsource.testing import wait_until

#: Escape sequences begin with it.
ESCAPE = b"\x1b"


class Terminal:
    """A program that runs in a terminal, which is emulated.

    Parameters
    ----------
    *words
        Its command line.
    columns, lines
        The size of the terminal.
    term
        What the terminal says that it is.
    cwd
        The working directory.
    **environment
        More variables.
    """

    def __init__(
        self, *words, columns=80, lines=24, term="xterm-256color", cwd=None, **environment
    ):
        self._master, slave = pty.openpty()
        make_nonblocking(self._master)
        self.screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=1)
        self._stream = pyte.ByteStream(self.screen)
        #: All that the program has written.
        self.written = b""
        self._drawn, self._lines = None, []
        self._set_size(columns, lines)
        without = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
        kept = {name: value for name, value in os.environ.items() if name not in without}
        self.process: Any = popen(
            [*map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=kept | {"TERM": term} | environment,
            takes_terminal=True,
        )
        os.close(slave)
        self._reading = gevent.spawn(self._read)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reading.kill()
        os.close(self._master)

    @property
    def lines(self):
        """What has scrolled out at the top and what is on the screen, without trailing blanks.

        A test that waits looks each millisecond, and mostly nothing was written meanwhile.
        """
        drawn = len(self.written), self.screen.columns, self.screen.lines
        if drawn != self._drawn:
            self._drawn, self._lines = drawn, self._look()
        return self._lines

    def _look(self):
        above = [
            "".join(line[column].data for column in range(self.screen.columns))
            for line in self.screen.history.top
        ]
        return [line.rstrip() for line in (*above, *self.screen.display)]

    @property
    def text(self):
        """The lines as one text."""
        return "\n".join(self.lines).rstrip()

    def until(self, text):
        """Wait until a text is shown."""
        wait_until(lambda: text in self.text, timeout=30)

    def resize(self, columns, lines):
        """Change the size, of which the program is told by SIGWINCH."""
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)

    def type(self, text):
        """Type a text."""
        nb_write(self._master, text.encode())

    def wait(self):
        """Wait until the program has ended and all is shown that it has written; its status."""
        status = self.process.wait(timeout=60)
        self._reading.join()
        return status

    def _set_size(self, columns, lines):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self):
        while True:
            try:
                data = nb_read(self._master, 1 << 16)
            except OSError as error:
                if error.errno == errno.EIO:  # the last program has ended
                    return
                raise
            self.written += data
            self._stream.feed(data)
