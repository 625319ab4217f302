"""Numbers on the command line: those that click accepts, without ``nan``; ports, and addresses."""

from __future__ import annotations

import math
from typing import Any

import click

from gzmqsource._base.deadline import LONGEST

#: The largest number of things, an ``int`` of libzmq, and of bytes, an ``int64_t``.
MOST, MOST_BYTES = (1 << 31) - 1, (1 << 63) - 1


def port_of(text: str) -> int | None:
    """Return the port that a text is; None if it is none."""
    # int() raises for thousands of digits, and takes those of all scripts, which libzmq does not.
    if not (text.isascii() and text.isdecimal() and len(text.lstrip("0")) <= 5):
        return None
    port = int(text)
    return port if 0 < port <= 65535 else None


class Whole(click.IntRange):
    """An integer from *least* up to one that libzmq, the transfer and all loops take."""

    def __init__(self, least: int, most: int = MOST) -> None:
        super().__init__(least, most)


class Number(click.FloatRange):
    """A `click.FloatRange` that refuses ``nan``, which no bound keeps out."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class Seconds(Number):
    """A time; one that is as good as endless is the longest that any timer takes."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        return min(super().convert(value, param, ctx), LONGEST)


class Address(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Where to listen: a port of the loopback interface, or a host and a port of it."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return the host and the port."""
        if isinstance(value, tuple):
            return value
        host, colon, text = value.rpartition(":")
        port = port_of(text)
        if port is None:
            self.fail(f"{value!r}: a port is a number from 1 to 65535.", param, ctx)
        if not colon:
            return "127.0.0.1", port
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            self.fail(f"{value!r}: put an IPv6 address in brackets: [::1]:9100.", param, ctx)
        if not host:
            self.fail(f"{value!r}: use 0.0.0.0 or [::] for all interfaces.", param, ctx)
        try:
            host.encode()
        except UnicodeEncodeError:  # as Python has the bytes of an argument that are none
            self.fail(f"{value!r}: a host is text in UTF-8.", param, ctx)
        return host, port
