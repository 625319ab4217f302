"""pyzmq's own classes, for modules that may be imported after `gzmqsource.monkey` has patched.

pyzmq's modules show the green ones from then on. The patch imports this module before.
"""

from zmq.backend import proxy_steerable
from zmq.sugar.context import Context as PlainContext
from zmq.sugar.socket import Socket as PlainSocket

__all__ = ["PlainContext", "PlainSocket", "proxy_steerable"]
