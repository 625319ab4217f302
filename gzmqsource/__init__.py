"""A ZeroMQ socket as a gevent event source."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gzmqsource._source.sender import Sender
    from gzmqsource._source.source import Source
    from gzmqsource._source.stats import Stats
    from gzmqsource.errors import (
        InvalidThreadUseError,
        SendError,
        SourceBroken,
        SourceClosed,
        SourceForked,
    )

__all__ = [
    "InvalidThreadUseError",
    "SendError",
    "Sender",
    "Source",
    "SourceBroken",
    "SourceClosed",
    "SourceForked",
    "Stats",
]

#: The one place of the version: ``setup.cfg`` reads it here, without an import.
__version__ = "0.1.0"

_MODULES = {"Sender": "_source.sender", "Source": "_source.source", "Stats": "_source.stats"}

#: The modules of classes and functions that are looked for here.
_ELSEWHERE = {
    "auth": ("AuthStats", "Authenticator"),
    "broker": ("Broker", "BrokerStats", "WorkerStats"),
    "metrics": ("SourceCollector",),
    "monitor": ("Monitor", "SocketEvent"),
    "monkey": ("get_original", "is_patched", "patch_zmq", "patch_zmq_green"),
    "proxy": ("Proxy", "ProxyStats"),
    "workers": (
        *("EndpointStats", "Hook", "PeerLost", "RemoteError", "Request", "RequestCancelled"),
        *("RequestTimeout", "Requester", "RequesterStats", "Responder", "ResponderStats"),
        *("current_request", "shield"),
    ),
}


# For a type checker, which would take any name for an attribute otherwise, there is none.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # On first use: gevent imports this package, for its plugin, in every program that patches.
        if name not in __all__:
            raise _no_attribute(name, sys._getframe(1).f_globals.get("__name__"))
        module = import_module(f"gzmqsource.{_MODULES.get(name, 'errors')}")
        value = globals()[name] = getattr(module, name)
        return value


def _no_attribute(name: str, asking: Any) -> Exception:
    """Return the error for a name that is not here, with its module if that is known."""
    text = f"module {__name__!r} has no attribute {name!r}"
    for module, names in _ELSEWHERE.items():
        if name in names:
            fix = f"it is in {__name__}.{module}"
            # An import statement replaces any AttributeError by an error without its text.
            if asking == "importlib._bootstrap":
                return ImportError(f"cannot import name {name!r} from {__name__!r}: {fix}")
            return AttributeError(f"{text}: {fix}")
    return AttributeError(text)
