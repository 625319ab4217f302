"""A ZeroMQ socket as a gevent event source."""

from typing import TYPE_CHECKING, Any

from gzmqsource.errors import (
    InvalidThreadUseError,
    SendError,
    SourceBroken,
    SourceClosed,
    SourceForked,
)
from gzmqsource.sender import Sender
from gzmqsource.source import Source

if TYPE_CHECKING:
    from gzmqsource.stats import Stats

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


def __getattr__(name: str) -> Any:
    if name == "Stats":
        from gzmqsource.stats import Stats

        return Stats
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
