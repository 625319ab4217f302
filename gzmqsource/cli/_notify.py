"""The state of a service for systemd, by the protocol of sd_notify(3)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import gevent
from gevent import socket

from gzmqsource.cli._text import printable

_log = logging.getLogger("gzmqsource.cli")


class Notifier:
    """Notifies the service manager that started this process, if there is one, of its state.

    Parameters
    ----------
    environ : mapping of str to str
        The environment. Without ``NOTIFY_SOCKET`` in it nothing is ever sent.
    """

    #: The most seconds that a message may take; systemd reads all the time.
    patience = 1.0

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address_of(environ.get("NOTIFY_SOCKET", ""))
        self._interval: float | None = None
        self._dog: Any = None
        if self._address is not None:
            self._interval = _interval_of(environ)
            # Kept open: the watchdog must be notified at the limit of descriptors, too.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(self.patience)

    def ready(self, status: str) -> None:
        """Say that the service serves, and from now on that the hub runs."""
        self._send("READY=1", _status(status))
        if self._interval is not None and self._dog is None:
            self._dog = gevent.spawn(self._feed, self._interval)

    def reloading(self) -> None:
        """Say that the service loads a new configuration; `ready` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def status(self, status: str) -> None:
        """Say what it does, in a line for people."""
        self._send(_status(status))

    def stopping(self) -> None:
        """Say that it is about to end."""
        self._send("STOPPING=1", _status("stopping"))

    def close(self) -> None:
        """Send nothing more, not even that the hub runs."""
        if self._dog is not None:
            self._dog.kill()
        if self._address is not None:
            self._address = None
            self._socket.close()

    def _feed(self, interval: float) -> None:
        while True:
            self._send("WATCHDOG=1")
            gevent.sleep(interval)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _log.warning("systemd was not notified of %s: %s", lines[0], error)


def _address_of(name: str) -> str | None:
    """Return the address of a socket, which may be an abstract one; systemd has no other kinds."""
    if not name.startswith(("/", "@")):
        return None
    return "\0" + name[1:] if name.startswith("@") else name


def _interval_of(environ: Mapping[str, str]) -> float | None:
    """Return after how many seconds to say again that the hub runs: half of what is allowed."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return max(0.001, int(microseconds) / 2_000_000)


def _status(text: str) -> str:
    # A line end would begin another assignment.
    return f"STATUS={printable(text)}"
