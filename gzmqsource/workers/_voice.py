"""The messages that a responder makes itself: controls, and the headers of its replies."""

from __future__ import annotations

import random
import struct
from collections import deque

import zmq
from gevent.queue import Full

from gzmqsource._socket.budget import yield_to_io
from gzmqsource._source.source import Source
from gzmqsource.errors import SendError, SourceClosed
from gzmqsource.workers._askers import Asker
from gzmqsource.workers._header import MAGIC, NO_KEY, Detail, Flag, Header, Kind, pack
from gzmqsource.workers._jobs import Job

_TAIL = struct.Struct(">II")

#: How many controls are sent between two polls of the hub; each takes some 3 us.
TURN = 128

_KEEP = int(Flag.KEEP)


class Voice:
    """Sends controls through the source of a responder, and never waits.

    Parameters
    ----------
    source : Source
        The source.
    dead_after : float
        The seconds that a PONG contains.
    """

    #: The most controls that are owed to peers that do not read, of 100 bytes each. A requester has
    #: as many outstanding requests by default, and one whose end is not reported would wait
    #: forever. Beyond that, controls for the peer that has not read for longest are forgotten.
    most_owed = 100_000

    def __init__(self, source: Source, dead_after: float) -> None:
        self._source = source
        self._hub = source._core.hub
        self._is_router = source._core.kind == zmq.ROUTER
        # Controls that had no room and are sent later, by the peers of the socket; their number.
        self._owed: dict[bytes, deque[tuple[Asker, bytes]]] = {}
        self._owed_count = 0
        #: The session of this responder: it shows askers that it was started again.
        self.session = random.SystemRandom().randrange(1, 1 << 32)
        self._tail = _TAIL.pack(0, self.session)
        #: The milliseconds of *dead_after* in a header.
        self.left = left = max(1, round(dead_after * 1000))
        # By the flags of an asker.
        self._pongs = [self._of_no_request(Kind.PONG, flags, left) for flags in (0, Flag.ROUTED)]
        self._leaving = [self._of_no_request(Kind.LEAVING, flags, 0) for flags in (0, Flag.ROUTED)]

    def header(self, kind: int, job: Job, asker: Asker, detail: int = 0) -> bytes:
        """Return the header of a reply, or of a control about a request."""
        flags = asker.flags | (job.flags & _KEEP)
        return pack(MAGIC, kind, flags, job.attempt, detail, job.key, self._tail)

    def pong(self, asker: Asker) -> None:
        """Notify an asker that this hub is alive."""
        is_said = self._say(asker, self._pongs[asker.is_routed])
        asker.was_told = is_said is not None
        if is_said is False and not (asker.is_unreachable or asker.patience):
            asker.silence = 0  # it may have had nothing to say for long, and may come back
        asker.is_unreachable = is_said is False

    def leaving(self, asker: Asker) -> None:
        """Notify an asker to use other servers."""
        if self._say_or_owe(asker, self._leaving[asker.is_routed]) is False:
            asker.has_left = True

    def join(self, broker: Asker, session: bytes, credit: int) -> bool | None:
        """Notify a broker that this hub is alive, and how many requests it takes; see `_say`."""
        header = Header(Kind.JOIN, session, left=self.left, session=credit)
        return self._say(broker, header.encode())

    def end(self, kind: Kind, job: Job, detail: Detail) -> None:
        """Notify an asker, unless it is plain, that an attempt has ended without a reply."""
        if job.asker is not None:
            self._say_or_owe(job.asker, self.header(kind, job, job.asker, detail))

    @property
    def owes(self) -> bool:
        """Whether controls are owed: the ticks go on."""
        return bool(self._owed)

    def pay(self) -> None:
        """Send owed controls to peers that have room by now, in turns."""
        said = 0
        for peer, owed in list(self._owed.items()):
            while owed:
                said += 1
                if not said % TURN:
                    yield_to_io(self._hub)
                if not owed or self._say(*owed[0]) is None:
                    break
                owed.popleft()
                self._owed_count -= 1
            if not owed and self._owed.get(peer) is owed:
                del self._owed[peer]

    def _say_or_owe(self, asker: Asker, header: bytes) -> bool | None:
        """Send a control now, or later if there is no room."""
        peer = bytes(asker.route[0]) if self._is_router else b""
        is_said = None if peer in self._owed else self._say(asker, header)
        if is_said is None:
            self._owed.setdefault(peer, deque()).append((asker, header))
            self._owed_count += 1
            if self._owed_count > self.most_owed:
                self._forget_one()
        return is_said

    def _forget_one(self) -> None:
        peer, owed = next(iter(self._owed.items()))
        owed.popleft()
        self._owed_count -= 1
        if not owed:
            del self._owed[peer]

    def _say(self, asker: Asker, header: bytes) -> bool | None:
        """Send a control; return None if there is no room for it, False if there is no peer."""
        try:
            self._source.send([*asker.route, header], block=False)
        except Full:
            return None
        except (SendError, SourceClosed):
            return False
        return True

    def _of_no_request(self, kind: Kind, flags: int, left: int) -> bytes:
        return Header(kind, NO_KEY, flags, left=left, session=self.session).encode()
