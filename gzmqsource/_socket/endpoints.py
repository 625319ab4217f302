"""The endpoints of a socket, bound and connected; libzmq itself reports only the last one."""

from __future__ import annotations

import weakref
from typing import Any

import zmq
from zmq.sugar.socket import Socket as PlainSocket


class Endpoints:
    """The endpoints of one socket."""

    def __init__(self) -> None:
        #: Those that are bound, those that are connected, and those that may be either.
        self.bound: dict[str, None] = {}
        self.connected: dict[str, None] = {}
        self.others: dict[str, None] = {}
        #: Whether there was ever an endpoint that leads out of this process.
        self.is_remote = False

    @classmethod
    def of(cls, socket: zmq.Socket[Any]) -> Endpoints:
        """Return those of a socket; of endpoints that were not noted, only the last."""
        found = _all.get(socket)
        if found is None:
            found = _all[socket] = cls()
        last = last_endpoint(socket)
        if last not in found.bound and last not in found.connected:
            found._note(last, found.others)
        return found

    @property
    def holds_names(self) -> bool:
        """Whether an endpoint may be bound that is free only some time after a close."""
        return any(is_remote(endpoint) for endpoint in (*self.bound, *self.others))

    @property
    def has_local(self) -> bool:
        """Whether an endpoint is within this process, where an idle peer keeps a closed socket."""
        return not all(is_remote(endpoint) for endpoint in (*self.bound, *self.others))

    def note_bound(self, socket: zmq.Socket[Any]) -> None:
        """Note the last endpoint as bound."""
        self._note(last_endpoint(socket), self.bound)

    def note_connected(self, endpoint: str | bytes) -> None:
        """Note an endpoint as connected; libzmq spells it as it was passed."""
        self._note(as_text(endpoint), self.connected)

    def forget(self, endpoint: str | bytes) -> None:
        """Note that an endpoint is neither bound nor connected any more."""
        for among in (self.bound, self.connected, self.others):
            among.pop(as_text(endpoint), None)

    def unbind(self, socket: zmq.Socket[Any]) -> int:
        """Unbind all that is bound; messages that were received and not read can still be read.

        Returns
        -------
        int
            How many endpoints that lead out of this process were bound until now.
        """
        return sum(_unbind(socket, each) and is_remote(each) for each in list(self.bound))

    def unbind_names(self, socket: zmq.Socket[Any]) -> None:
        """Unbind names within this process, which a close would free only some time later."""
        for endpoint in (*self.bound, *self.others):
            if not is_remote(endpoint):
                _unbind(socket, endpoint)

    def _note(self, endpoint: str, among: dict[str, None]) -> None:
        if endpoint:
            among[endpoint] = None
            self.is_remote = self.is_remote or is_remote(endpoint)


#: By the Python object that owns the socket.
_all: weakref.WeakKeyDictionary[zmq.Socket[Any], Endpoints] = weakref.WeakKeyDictionary()


def kind_of(socket: zmq.Socket[Any]) -> str:
    """Return the name of a socket's type, such as ``"PULL"``."""
    if socket.closed:
        return "closed socket"
    kind: Any = PlainSocket.get(socket, zmq.TYPE)
    return str(zmq.SocketType(kind).name)


def holder(socket: zmq.Socket[Any], endpoint: str) -> str | None:
    """Return the type of the open socket of this process that is bound to an endpoint, or None.

    Names within the process belong to a context, and a tcp port is taken for all addresses.
    """
    port = _port(endpoint) if endpoint.startswith("tcp:") else None
    for other, endpoints in list(_all.items()):
        if other.closed or (not is_remote(endpoint) and other.context != socket.context):
            continue
        for bound in endpoints.bound:
            if bound == endpoint or (port and bound.startswith("tcp:") and _port(bound) == port):
                return kind_of(other)
    return None


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]


def is_remote(endpoint: str) -> bool:
    """Return whether an endpoint leads out of this process."""
    return not endpoint.startswith("inproc:")


def last_endpoint(socket: zmq.Socket[Any]) -> str:
    """Return the endpoint that was bound or connected last, as libzmq spells it."""
    try:
        found: Any = PlainSocket.get(socket, zmq.LAST_ENDPOINT)
    except zmq.ZMQError:  # the context has ended
        return ""
    return as_text(found.rstrip(b"\0"))


def as_text(endpoint: str | bytes) -> str:
    """Return an endpoint, which pyzmq takes in either form, as a text."""
    return endpoint if isinstance(endpoint, str) else endpoint.decode(errors="replace")


def _unbind(socket: zmq.Socket[Any], endpoint: str) -> bool:
    """Unbind an endpoint; return False if it was unbound before."""
    try:
        PlainSocket.unbind(socket, endpoint)
    except zmq.ZMQError:
        return False
    return True
