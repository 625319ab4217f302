"""Request and reply for many greenlets over one socket.

A `Requester` sends requests, a `Responder` replies to them. The messages are those of ZeroMQ's own
request-reply pattern (RFC 28): an envelope, an empty delimiter, the payload. So a `Requester` can
send requests to a REP socket, and a REQ socket to a `Responder`, in any language and through any
number of proxies.
"""

from gzmqsource.errors import PeerLost, RemoteError, RequestCancelled, RequestTimeout
from gzmqsource.workers._cancelling import shield
from gzmqsource.workers._current import Request, current_request
from gzmqsource.workers._hooks import Hook
from gzmqsource.workers._stats import EndpointStats, RequesterStats, ResponderStats
from gzmqsource.workers.requester import Requester
from gzmqsource.workers.responder import Responder

__all__ = [
    "EndpointStats",
    "Hook",
    "PeerLost",
    "RemoteError",
    "Request",
    "RequestCancelled",
    "RequestTimeout",
    "Requester",
    "RequesterStats",
    "Responder",
    "ResponderStats",
    "current_request",
    "shield",
]
