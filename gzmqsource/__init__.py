"""A ZeroMQ socket as a gevent event source."""

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


def __getattr__(name: str) -> Any:
    # On first use: gevent imports this package, for its plugin, in every program that patches.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"gzmqsource.{_MODULES.get(name, 'errors')}")
    value = globals()[name] = getattr(module, name)
    return value
