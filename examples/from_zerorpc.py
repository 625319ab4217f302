"""A zerorpc server whose clients move away from zerorpc one at a time: it serves both kinds.

The server, then a client as it was, and the same client after its move::

    python from_zerorpc.py server tcp://127.0.0.1:4242 tcp://127.0.0.1:5557
    python from_zerorpc.py old_client tcp://127.0.0.1:4242
    python from_zerorpc.py new_client tcp://127.0.0.1:5557

Both kinds call the methods of one object, in one process. When the last old client has moved, three
lines of the server can go.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any

import gevent

from gzmqsource.monkey import patch_zmq_green

# zerorpc uses zmq.green. With the drop-in in its place, a busy socket does not starve others.
patch_zmq_green()

from gzmqsource.workers import RemoteError, Requester, Responder  # noqa: E402


class Inventory:
    """The object whose methods are called."""

    def __init__(self) -> None:
        self._stock: dict[str, int] = {}

    def add(self, item: str, count: int) -> int:
        """Put items into stock, and return how many there are."""
        self._stock[item] = self._stock.get(item, 0) + count
        return self._stock[item]

    def take(self, item: str, count: int) -> int:
        """Take items out of stock, and return how many are left."""
        if self._stock.get(item, 0) < count:
            raise ValueError(f"fewer than {count} of {item}")
        self._stock[item] -= count
        return self._stock[item]


class Methods:
    """A handler that calls those methods of an object that are named; the arguments are JSON."""

    def __init__(self, target: object, *names: str) -> None:
        self._methods = {name.encode(): getattr(target, name) for name in names}

    def __call__(self, payload: list[bytes]) -> bytes:
        name, arguments = payload
        if name not in self._methods:
            raise AttributeError(f"no method {name.decode(errors='replace')}")
        return json.dumps(self._methods[name](*json.loads(arguments))).encode()


class Remote:
    """Calls methods over a requester as zerorpc's client does: ``remote.add("nut", 3)``."""

    def __init__(self, requester: Requester, timeout: float = 30) -> None:
        self._requester = requester
        self._timeout = timeout

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            payload = [name.encode(), json.dumps(arguments).encode()]
            (reply,) = self._requester.request(payload, timeout=self._timeout)
            return json.loads(reply)

        return call


def server(old: str, new: str) -> None:
    """Serve zerorpc's clients at one endpoint, and those that have moved at another."""
    inventory = Inventory()
    import zerorpc  # type: ignore

    legacy = zerorpc.Server(inventory)
    legacy.bind(old)
    gevent.spawn(legacy.run)

    responder = Responder.open(Methods(inventory, "add", "take"), bind=new, spawn=100)
    gevent.signal_handler(signal.SIGTERM, gevent.spawn, responder.stop, 30)
    responder.serve_forever()


def old_client(endpoint: str) -> None:
    import zerorpc

    remote = zerorpc.Client(endpoint)
    print(remote.add("nut", 3))
    try:
        remote.take("nut", 100)
    except zerorpc.RemoteError as error:
        print(error.name, error.msg)
    remote.close()


def new_client(endpoint: str) -> None:
    with Requester.open(endpoint) as requester:
        remote = Remote(requester)
        print(remote.add("nut", 3))
        try:
            remote.take("nut", 100)
        except RemoteError as error:
            print(error)


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {
        "server": server,
        "old_client": old_client,
        "new_client": new_client,
    }
    roles[sys.argv[1]](*sys.argv[2:])
