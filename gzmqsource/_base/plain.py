"""pyzmq's own classes, also after `gzmqsource.monkey` has put green ones into ``zmq``."""

from zmq.backend import proxy_steerable
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

__all__ = ["PlainContext", "PlainSocket", "proxy_steerable"]
