"""The names of other projects that these pages may link to: what docs/inventories holds.

``python checks/inventories.py docs/inventories``. The pages are built without a network, so these
stand for the projects' own ``objects.inv``. A name is on the page that the sources of their
documentation put it on, and its anchor is its full name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

#: The addresses that names are below.
ADDRESSES = {
    "python": "https://docs.python.org/3",
    "gevent": "https://www.gevent.org",
    "pyzmq": "https://pyzmq.readthedocs.io/en/latest",
    "opentelemetry": "https://opentelemetry-python.readthedocs.io/en/latest",
}

#: By project: the domain and type, the page, and the names on it.
NAMES = {
    "python": [
        ("py:class", "library/functions", "bool float int object type"),
        ("py:class", "library/stdtypes", "bytearray bytes dict list memoryview str tuple"),
        ("py:data", "library/constants", "False None True"),
        (
            "py:exception",
            "library/exceptions",
            "AssertionError BaseException BlockingIOError ConnectionError Exception ImportError "
            "KeyboardInterrupt OSError RuntimeError SystemExit TimeoutError TypeError ValueError",
        ),
        ("py:module", "library/asyncio", "asyncio"),
        ("py:function", "library/asyncio-runner", "asyncio.run"),
        (
            "py:class",
            "library/collections.abc",
            "collections.abc.Buffer collections.abc.Callable collections.abc.Iterable "
            "collections.abc.Iterator collections.abc.Mapping collections.abc.Sequence",
        ),
        ("py:class", "library/enum", "enum.Enum"),
        ("py:module", "library/logging", "logging"),
        ("py:class", "library/logging", "logging.Filter logging.Logger logging.LogRecord"),
        ("py:function", "library/logging.config", "logging.config.dictConfig"),
        ("py:class", "library/os", "os.PathLike"),
        ("py:module", "library/queue", "queue"),
        ("py:module", "library/select", "select"),
        ("py:function", "library/select", "select.select"),
        ("py:function", "library/signal", "signal.signal"),
        ("py:module", "library/socket", "socket"),
        ("py:module", "library/threading", "threading"),
        ("py:class", "library/threading", "threading.Event threading.Thread"),
        ("py:module", "library/time", "time"),
        ("py:function", "library/time", "time.monotonic time.sleep"),
        ("py:class", "library/types", "types.TracebackType"),
        ("py:data", "library/typing", "typing.Any typing.Literal typing.Self"),
        ("py:class", "library/typing", "typing.NamedTuple"),
        ("std:term", "glossary", "callable iterable iterator mapping sequence"),
    ],
    "gevent": [
        ("py:module", "api/gevent", "gevent"),
        (
            "py:function",
            "api/gevent",
            "gevent.joinall gevent.reinit gevent.signal_handler gevent.sleep gevent.spawn "
            "gevent.spawn_later gevent.spawn_raw gevent.wait",
        ),
        ("py:class", "api/gevent.timeout", "gevent.Timeout"),
        ("py:class", "api/gevent.greenlet", "gevent.Greenlet"),
        ("py:exception", "api/gevent.greenlet", "gevent.GreenletExit"),
        ("py:module", "api/gevent.baseserver", "gevent.baseserver"),
        ("py:class", "api/gevent.baseserver", "gevent.baseserver.BaseServer"),
        ("py:method", "api/gevent.baseserver", "gevent.baseserver.BaseServer.set_handle"),
        ("py:class", "api/gevent.event", "gevent.event.AsyncResult gevent.event.Event"),
        (
            "py:exception",
            "api/gevent.exceptions",
            "gevent.exceptions.BlockingSwitchOutError gevent.exceptions.InvalidThreadUseError",
        ),
        ("py:module", "api/gevent.local", "gevent.local"),
        ("py:class", "api/gevent.local", "gevent.local.local"),
        ("py:module", "api/gevent.monkey", "gevent.monkey"),
        ("py:function", "api/gevent.monkey", "gevent.monkey.patch_all"),
        ("py:function", "api/gevent.os", "gevent.os.fork"),
        ("py:class", "api/gevent.pool", "gevent.pool.Group gevent.pool.Pool"),
        ("py:module", "api/gevent.pywsgi", "gevent.pywsgi"),
        ("py:class", "api/gevent.queue", "gevent.queue.Queue"),
        ("py:exception", "api/gevent.queue", "gevent.queue.Empty gevent.queue.Full"),
    ],
    "pyzmq": [
        ("py:module", "api/zmq", "zmq"),
        (
            "py:class",
            "api/zmq",
            "zmq.Context zmq.Event zmq.Frame zmq.MessageTracker zmq.Poller zmq.Socket",
        ),
        (
            "py:exception",
            "api/zmq",
            "zmq.Again zmq.ContextTerminated zmq.NotDone zmq.ZMQBindError zmq.ZMQError",
        ),
        (
            "py:method",
            "api/zmq",
            "zmq.Context.destroy zmq.Context.instance zmq.Context.socket zmq.Context.term "
            "zmq.MessageTracker.wait zmq.Poller.poll zmq.Poller.register zmq.Poller.unregister "
            "zmq.Socket.bind zmq.Socket.close zmq.Socket.connect zmq.Socket.disconnect "
            "zmq.Socket.get_monitor_socket zmq.Socket.monitor zmq.Socket.recv "
            "zmq.Socket.recv_into zmq.Socket.recv_multipart zmq.Socket.send "
            "zmq.Socket.send_multipart zmq.Socket.unbind",
        ),
        ("py:function", "api/zmq", "zmq.device zmq.proxy zmq.proxy_steerable zmq.select"),
        ("py:module", "api/zmq.asyncio", "zmq.asyncio"),
        ("py:module", "api/zmq.auth", "zmq.auth"),
        ("py:class", "api/zmq.auth", "zmq.auth.Authenticator"),
        ("py:function", "api/zmq.auth", "zmq.auth.create_certificates"),
        ("py:module", "api/zmq.devices", "zmq.devices"),
        (
            "py:class",
            "api/zmq.devices",
            "zmq.devices.ThreadDevice zmq.devices.ThreadMonitoredQueue zmq.devices.ThreadProxy "
            "zmq.devices.ThreadProxySteerable",
        ),
        ("py:function", "api/zmq.devices", "zmq.devices.monitored_queue"),
        ("py:class", "api/zmq.eventloop.zmqstream", "zmq.eventloop.zmqstream.ZMQStream"),
        ("py:module", "api/zmq.green", "zmq.green"),
    ],
    "opentelemetry": [
        ("py:class", "api/trace", "opentelemetry.trace.TracerProvider"),
    ],
}


class Entry(NamedTuple):
    kind: str
    name: str
    page: str
    anchor: str


def entries(project: str) -> Iterator[Entry]:
    for kind, page, names in NAMES[project]:
        for name in names.split():
            prefix = {"py:module": "module-", "std:term": "term-"}.get(kind, "")
            yield Entry(kind, name, page, prefix + name)


class _Domain:
    """What `InventoryFile.dump` takes for a domain of a built project."""

    def __init__(self, name: str, listed: list[Entry]) -> None:
        self.name = name
        self._listed = listed

    def get_objects(self) -> Iterator[tuple[str, str, str, str, str, int]]:
        for each in self._listed:
            kind = each.kind.partition(":")[2]
            yield each.name, each.name, kind, each.page, each.anchor, 1


def write(project: str, path: Path) -> None:
    from sphinx.util.inventory import InventoryFile  # tests without Sphinx read the names

    listed = [*entries(project)]
    domains: Mapping[str, Any] = {
        name: _Domain(name, [each for each in listed if each.kind.startswith(f"{name}:")])
        for name in ("py", "std")
    }
    environment: Any = SimpleNamespace(
        config=SimpleNamespace(project=project, version=""),
        domains=SimpleNamespace(sorted=domains.values),
    )
    builder: Any = SimpleNamespace(get_target_uri=lambda page: f"{page}.html")
    InventoryFile.dump(path, environment, builder)


def main() -> None:
    for project in NAMES:
        write(project, Path(sys.argv[1], f"{project}.inv"))


if __name__ == "__main__":
    main()
