"""Why a socket cannot use an endpoint, in words: libzmq has one number for many mistakes."""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Callable
from typing import Any

import zmq

from gzmqsource._socket.endpoints import as_text, holder, kind_of
from gzmqsource._socket.forms import fault_of

#: How libzmq answers to an endpoint that it cannot use as it is written.
_OF_THE_FORM = {errno.EINVAL, errno.ENODEV, int(zmq.EPROTONOSUPPORT)}

#: A port of which libzmq uses the number that it begins with, or that number modulo 65536.
_NEARLY_A_PORT = re.compile(r"\s*[+-]?\d[^\].]*")

#: The largest port.
_LAST_PORT = 65535


class WrongEndpoint(zmq.ZMQError):
    """An endpoint cannot be used as it is written; the text has the rule and the fix."""


def check_endpoint(endpoint: object, verb: str) -> None:
    """Check what libzmq does not: it takes the port 80000 for 14464, and connects to port 0.

    It also takes an ``ipc`` path from the process that is bound to it, whose peers then come here.
    When that process ends, it removes the path of the new one.

    Parameters
    ----------
    endpoint : object
        The endpoint.
    verb : str
        ``"bind"`` or ``"connect"``.

    Raises
    ------
    TypeError
        It is neither a str nor bytes.
    zmq.ZMQError
        Its port does not exist, or a process is bound to its path, or another file is there, which
        libzmq would remove.
    """
    if isinstance(endpoint, bytes):
        endpoint = endpoint.decode(errors="replace")
    if not isinstance(endpoint, str):
        raise TypeError(f"{verb}={endpoint!r}: an endpoint is a str, as 'tcp://127.0.0.1:5555'")
    transport, port = _parts(endpoint)
    if transport == "ipc" and verb == "bind":
        _check_path(endpoint, endpoint.removeprefix("ipc://"))
    if transport == "tcp" and not port.isdecimal() and _NEARLY_A_PORT.fullmatch(port):
        fault = fault_of(endpoint, verb == "bind")
        raise WrongEndpoint(zmq.EINVAL, f"cannot {verb} to {endpoint}: {fault}")
    if transport in ("", "ipc", "inproc") or not port.isdecimal():
        return
    if len(port.lstrip("0")) > 5 or int(port) > _LAST_PORT:
        rule = f"a port is at most {_LAST_PORT}"
    elif verb == "connect" and not int(port):
        rule = "port 0 is for bind, which chooses one: connect to the one that it has chosen"
    else:
        return
    raise WrongEndpoint(zmq.EINVAL, f"cannot {verb} to {endpoint}: {rule}")


def explained(
    error: zmq.ZMQError, socket: zmq.Socket[Any], verb: str, endpoint: str | bytes
) -> zmq.ZMQError:
    """Return libzmq's error with the socket, the endpoint, and what to do.

    Parameters
    ----------
    error : zmq.ZMQError
        The error that the call raised.
    socket : zmq.Socket
        The socket.
    verb : str
        The name of the call.
    endpoint : str or bytes
        The endpoint that was passed to the call.
    """
    if error.errno is None or type(error) is not zmq.ZMQError:
        return error  # the context has ended
    name = as_text(endpoint)
    where = "from" if verb in ("unbind", "disconnect") else "to"
    what = f"cannot {verb} a {kind_of(socket)} {where} {name or repr(name)}"
    if error.errno in _OF_THE_FORM and verb in ("bind", "connect"):
        fault = fault_of(name, verb == "bind")
        if fault is not None:
            return WrongEndpoint(error.errno, f"{what}: {fault}")
    hint_of = _HINTS.get(error.errno)
    hint = "" if hint_of is None else hint_of(socket, verb, name)
    text = f"{what}: {zmq.strerror(error.errno)}"
    return zmq.ZMQError(error.errno, f"{text}: {hint}" if hint else text)


def _parts(endpoint: str) -> tuple[str, str]:
    """Return the transport of an endpoint, or an empty text, and the part after its last colon."""
    transport, separator, rest = endpoint.partition("://")
    return (transport if separator else "", rest.rpartition(":")[2])


def _check_path(endpoint: str, path: str) -> None:
    """Raise the error of a path that is in use; a socket that has ended leaves a file there."""
    if path.startswith("@"):
        return  # the kernel refuses a name that is in use
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):  # nothing is there, or libzmq reports what is wrong
        return
    if not stat.S_ISSOCK(mode):
        why = "another file is there, and it would be removed: choose another path"
    elif _is_bound(path):
        why = "a socket is bound to this path: stop that one first, or choose another path"
    else:
        return
    raise zmq.ZMQError(zmq.EADDRINUSE, f"cannot bind to {endpoint}: {why}")


def _is_bound(path: str) -> bool:
    # gevent's own would wait where the queue of connections is full.
    with contextlib.closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def _in_use(socket: Any, _verb: str, endpoint: str) -> str:
    kind = holder(socket, endpoint)
    if kind is not None:
        return f"a {kind} of this process is bound to it: stop or close that one first"
    if endpoint.startswith("inproc:"):
        return "another socket of this context has it, or one that is just being closed"
    port = _parts(endpoint)[1]
    shows = f"ss -ltnp 'sport = :{port}'" if sys.platform == "linux" else f"lsof -iTCP:{port}"
    return f"another process has it, or one has just ended; `{shows}` shows which"


def _missing(_socket: object, verb: str, endpoint: str) -> str:
    if verb in ("unbind", "disconnect"):
        return "it was not bound or connected there: pass the endpoint as last_endpoint spells it"
    return "make the folder of the path first" if endpoint.startswith("ipc:") else ""


def _not_allowed(_socket: object, _verb: str, endpoint: str) -> str:
    if endpoint.startswith("ipc:"):
        return "the folder is not writable for this process: choose another one"
    return "a port below 1024 needs privileges: choose a higher one"


#: By libzmq's errno, what to say about ``(socket, verb, endpoint)``.
_HINTS: dict[int, Callable[[Any, str, str], str]] = {
    int(zmq.EADDRINUSE): _in_use,
    errno.ENOENT: _missing,
    errno.EACCES: _not_allowed,
    errno.EROFS: _not_allowed,
    errno.ENOTDIR: _missing,
    errno.ENODEV: lambda *_: (
        "no interface and no address of this machine has that name: bind to an address, "
        "or to tcp://*:PORT for all of them"
    ),
    int(zmq.EADDRNOTAVAIL): lambda *_: (
        "this machine does not have that address: bind to one that it has, "
        "or to tcp://*:PORT for all of them"
    ),
    int(zmq.EPROTONOSUPPORT): lambda *_: (
        "libzmq does not have that transport: use tcp, ipc or inproc"
    ),
    int(zmq.ENOCOMPATPROTO): lambda *_: "this type of socket does not use that transport",
    errno.ENAMETOOLONG: lambda *_: (
        f"a path has at most {zmq.IPC_PATH_MAX_LEN} bytes: choose a shorter one"
    ),
    errno.EMFILE: lambda *_: "the process has too many open files: raise `ulimit -n`",
}
