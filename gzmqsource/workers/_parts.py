"""Objects that the parts of one responder share."""

from __future__ import annotations

from typing import NamedTuple

from gzmqsource.workers._askers import Askers
from gzmqsource.workers._jobs import Gate, Line
from gzmqsource.workers._kept import Kept
from gzmqsource.workers._voice import Voice


class Parts(NamedTuple):
    """The objects that the parts of one responder share."""

    #: Sends messages that are not replies.
    voice: Voice
    #: The peers that ask.
    askers: Askers
    #: The jobs that wait.
    line: Line
    #: Holds up the intake.
    gate: Gate
    #: The replies that are kept.
    kept: Kept
    #: Whether the source is a ROUTER.
    at_router: bool
    #: Seconds of a tick, by which silence is counted.
    tick: float
