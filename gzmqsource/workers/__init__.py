"""Request and reply for many greenlets over one socket.

A `Requester` asks, a `Responder` answers. What goes over the wire is ZeroMQ's own request and reply
(RFC 28): an envelope, an empty delimiter, the payload. So a `Requester` may ask a REP socket, and
a REQ socket may ask a `Responder`, in any language, with any number of proxies between.
"""

from gzmqsource.errors import PeerLost, RemoteError, RequestTimeout
from gzmqsource.workers.requester import Requester, RequesterStats
from gzmqsource.workers.responder import Responder, ResponderStats

__all__ = [
    "PeerLost",
    "RemoteError",
    "RequestTimeout",
    "Requester",
    "RequesterStats",
    "Responder",
    "ResponderStats",
]
