"""Setting the options of a socket, with errors that name the option.

The values of some options are secrets, so error texts contain no values.
"""

from __future__ import annotations

from typing import Any

import zmq

from gzmqsource._socket.endpoints import kind_of

#: The value that an option takes, by the name of its type in pyzmq.
_KINDS = {"int": "an int", "int64": "an int", "bytes": "bytes"}


def set_option(socket: zmq.Socket[Any], name: str, value: object) -> None:
    """Set an option.

    Parameters
    ----------
    socket : zmq.Socket
        The socket.
    name : str
        pyzmq's name of the option, in lower case.
    value : object
        The value.

    Raises
    ------
    AttributeError
        There is no such option.
    TypeError
        *value* does not have the type of the option.
    zmq.ZMQError
        libzmq refuses it.
    """
    try:
        setattr(socket, name, value)
    except AttributeError:
        raise AttributeError(f"{name}=...: a socket has no such option{_similar(name)}") from None
    except TypeError:
        kind = _kind(name)
        text = f"{name}=...: the value is {kind}, got {type(value).__name__}"
        is_text = isinstance(value, str) and kind == "bytes"
        raise TypeError(f"{text}: encode it" if is_text else text) from None
    except zmq.ZMQError as error:
        if type(error) is not zmq.ZMQError or error.errno is None:
            raise
        raise zmq.ZMQError(
            error.errno,
            f"{name}=...: libzmq refuses this option or its value for a {kind_of(socket)}: "
            f"{zmq.strerror(error.errno)}; see zmq_setsockopt(3)",
        ) from None


def _kind(name: str) -> str:
    option = zmq.SocketOption.__members__.get(name.upper())
    kind = getattr(getattr(option, "_opt_type", None), "name", "")
    return _KINDS.get(kind, "an int or bytes")


def _similar(name: str) -> str:
    import difflib  # takes 3 ms, and only a mistake needs it

    names = [each.lower() for each in zmq.SocketOption.__members__]
    found = difflib.get_close_matches(name, names, 1, 0.75)
    return f": is it {found[0]}?" if found else "; parameters of Source.open have other names"
