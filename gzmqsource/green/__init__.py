"""``import gzmqsource.green as zmq``: all of `zmq`, with calls that wait in gevent's hub.

The classes and functions below replace pyzmq's; every other name is `zmq`'s own. Every public name
of `zmq.green` is here, too. Its submodules (``core``, ``poll``, ``device``) are not.
"""

import zmq as _zmq
import zmq.backend as _backend

from gzmqsource.green._context import Context as Context
from gzmqsource.green._device import (
    ThreadDevice,
    ThreadMonitoredQueue,
    ThreadProxy,
    ThreadProxySteerable,
    device,
    monitored_queue,
    proxy,
    proxy_steerable,
)
from gzmqsource.green._poll import Poller, select, zmq_poll
from gzmqsource.green._socket import Socket
from gzmqsource.green._tracker import MessageTracker

_backend_name = _backend.Socket.__module__
if _backend_name.startswith("zmq.backend.cffi"):
    # In the cffi backend, a context cannot be marked closed, monitors and polls have other errors,
    # and ``closed`` calls ``get``.
    raise ImportError(
        f"gzmqsource.green needs pyzmq's backend in Cython, and this is {_backend_name}; "
        "sources, workers and monitors work with both"
    )

#: The classes and functions that replace pyzmq's, by name.
REPLACED = {
    "Context": Context,
    "MessageTracker": MessageTracker,
    "Poller": Poller,
    "Socket": Socket,
    "ThreadDevice": ThreadDevice,
    "ThreadMonitoredQueue": ThreadMonitoredQueue,
    "ThreadProxy": ThreadProxy,
    "ThreadProxySteerable": ThreadProxySteerable,
    "device": device,
    "monitored_queue": monitored_queue,
    "proxy": proxy,
    "proxy_steerable": proxy_steerable,
    "select": select,
    "zmq_poll": zmq_poll,
}

for _name in dir(_zmq):
    if not _name.startswith("__") or _name in _zmq.__all__:
        globals().setdefault(_name, getattr(_zmq, _name))

__all__ = [*_zmq.__all__, *(name for name in REPLACED if name not in _zmq.__all__)]


def __getattr__(name: str) -> object:
    """Return a name that was added to `zmq` later, such as a submodule."""
    return getattr(_zmq, name)
