"""A ZeroMQ socket as a gevent event source."""

from gzmqsource.errors import (
    InvalidThreadUseError,
    SendError,
    SourceBroken,
    SourceClosed,
    SourceForked,
)
from gzmqsource.sender import Sender
from gzmqsource.source import Source
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
