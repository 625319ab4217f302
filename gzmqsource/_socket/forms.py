"""Errors in the form of an endpoint, and their fixes: libzmq only has *Invalid argument*."""

from __future__ import annotations

import re

#: The transports of libzmq, of which a build may lack some.
_TRANSPORTS = [
    "tcp",
    "ipc",
    "inproc",
    "udp",
    "ws",
    "wss",
    "pgm",
    "epgm",
    "norm",
    "tipc",
    "vmci",
    "vsock",
    "hyperv",
]

#: A transport with a slash too few, such as ``tcp:/host:1`` and ``tcp:host:1``.
_NEARLY = re.compile(rf"({'|'.join(_TRANSPORTS)})(?::/?|//)(?!/)(.+)")

#: A port, after a host or alone.
_PORT = re.compile(r"(?:(.*):)?(\d+|\*)")

#: The rule that is quoted.
_RULE = "an endpoint is tcp://HOST:PORT, ipc://PATH or inproc://NAME"


def fault_of(endpoint: str, is_bound: bool) -> str | None:
    """Return what is wrong with an endpoint that was refused, and the fix; None if nothing is."""
    transport, has_transport, address = endpoint.partition("://")
    if not has_transport:
        meant = _meant(endpoint, is_bound)
        fix = f": use {meant}" if meant else ""
        return f"it has no transport, and {_RULE}{fix}"
    if transport not in _TRANSPORTS:
        return f"{transport} is not a transport of ZeroMQ: {_RULE}"
    return _fault_of_tcp(address, is_bound) if transport == "tcp" else None


def _fault_of_tcp(address: str, is_bound: bool) -> str | None:
    # One that is connected may begin with the address to connect from.
    host, has_port, port = address.rpartition(";")[2].rpartition(":")
    if not has_port or "]" in port:
        return f"it has no port: use tcp://{address or 'HOST'}:PORT"
    if not (port.isdecimal() and int(port) <= 65535) and (port != "*" or not is_bound):
        any_port = ", or * for any that is free" if is_bound else ""
        return f"{port!r} is not a port: it is a number up to 65535{any_port}"
    if not host:
        return f"it has no host: use {_tcp(host, port, is_bound)}"
    if host == "*" and not is_bound:
        return f"* is all interfaces, and only for bind: use {_tcp(host, port, is_bound)}"
    if is_bound and _is_name(host):
        fix = _tcp(host, port, is_bound)
        return f"{host} is a name, and bind takes an address or an interface: use {fix}"
    return None


def _meant(endpoint: str, is_bound: bool) -> str | None:
    """Return what an endpoint without a transport was most likely meant to be."""
    if nearly := _NEARLY.fullmatch(endpoint):
        return f"{nearly[1]}://{nearly[2]}"
    if parts := _PORT.fullmatch(endpoint):
        return _tcp(parts[1] or "", parts[2], is_bound)
    return f"ipc://{endpoint}" if "/" in endpoint else None


def _tcp(host: str, port: str, is_bound: bool) -> str:
    """Return an endpoint with a host that libzmq takes: all interfaces are for bind alone."""
    if host in ("", "*"):
        host = "*" if is_bound else "127.0.0.1"
    elif is_bound and _is_name(host):
        host = "127.0.0.1" if host == "localhost" else "*"
    return f"tcp://{host}:{port}"


def _is_name(host: str) -> bool:
    return re.fullmatch(r"\*|[0-9.]+|\[.*\]", host) is None
