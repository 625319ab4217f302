"""The reception of a responder, which gets each message that it reads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from gevent import GreenletExit, getcurrent

from gzmqsource._base.reports import peer_of
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.failures import ENDING
from gzmqsource.workers._askers import TICKS, Asker, name_of, patience_of
from gzmqsource.workers._envelope import counted, delimiter_of, has_payload, header_of
from gzmqsource.workers._handling import Handling
from gzmqsource.workers._header import ATTEMPT, KEY, KIND, Detail, Kind, unpack
from gzmqsource.workers._jobs import Job
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._places import Places

_log = logging.getLogger("gzmqsource.workers")

_ASK = int(Kind.ASK)

_OF_ASKERS = frozenset({Kind.ASK, Kind.CANCEL, Kind.PING, Kind.NOMORE})


class Reception:
    """Lets requests begin, wait, or be refused, and reads the controls of askers.

    Parameters
    ----------
    handling : Handling
        Handles them.
    parts : Parts
        The parts of the responder.
    """

    def __init__(self, handling: Handling, parts: Parts) -> None:
        self.requests = self.duplicates = 0
        self.is_leaving = False
        #: Whether the askers are brokers, which have to be notified of the end of requests that
        #: they have cancelled: they count the requests of this worker.
        self.is_worker = False
        #: Called with the routing id of a broker when the connection to it is new, and with the
        #: name that the broker's PING has for the connection.
        self.be_met: Callable[[bytes, bytes | None], object]
        #: When the last request came from a plain peer, and from an asker that is routed.
        self.last_plain = self.last_routed = float("-inf")
        self.places: Places
        self._begin: Callable[[Job], bool]
        #: Whether the ticks run; `watch` starts them.
        self.is_watched = False
        self.watch: Callable[[], object]
        self.malformed = LimitedWarning(_log, "a malformed request was dropped: %s")
        self._handling = handling
        self._voice = parts.voice
        self._askers = parts.askers
        self._asker = parts.askers.get
        self._line = parts.line
        self._gate = parts.gate
        self._kept = parts.kept
        self._at_router = parts.at_router
        self._tick = parts.tick

    def let_begin(self, places: Places) -> None:
        """Set the places where handlers run; called once."""
        self.places = places
        self._begin = places.begin

    @property
    def has_jobs(self) -> bool:
        """Whether a request of an asker waits or runs."""
        return bool(self._handling.jobs)

    def read(self, message: list[Any]) -> None:
        """Process a message."""
        delimiter = delimiter_of(message)
        header = header_of(message, delimiter, self._at_router)
        has_content = len(message) - delimiter > 1
        if header is not None:
            _, kind, flags, attempt, detail, key, left, session = unpack(header)
            if kind not in _OF_ASKERS:
                what = f"a header of kind {kind}"
                if kind == Kind.JOIN:
                    what = "a worker joins here, where clients ask: it joins the back of a broker"
                self.malformed(f"{what}{_from(message)}")
                return
            # Most come from an asker that is known and not routed.
            name = message[0] if delimiter == 2 else None
            asker = self._asker(name) if type(name) is bytes else None
            if asker is None:
                asker = self._asker_at(message[: delimiter - 1], kind)
            asker.silence = 0
            asker.is_recent = True
            if kind == _ASK and has_content:
                payload = message[delimiter + 1 :]
                job = Job(message[: delimiter + 1], payload, asker, key, attempt, flags)
                if detail:
                    job.priority = detail
                self._ask(job, asker, left)
            elif kind == _ASK or delimiter < len(message):
                self.malformed(f"a header of kind {kind}{_from(message)}")
            else:
                self._hear(asker, kind, key, left, session)
        elif has_content:
            self.requests += 1
            self.last_plain = time.monotonic()
            self._admit(Job(message[: delimiter + 1], message[delimiter + 1 :]))
        elif self.is_worker and delimiter == 1:
            self.be_met(bytes(message[0]), None)
        else:
            what = "no empty frame as a delimiter"
            if delimiter < len(message):
                what = "no payload after the delimiter"
            self.malformed(f"{what}, {len(message)} frames{_from(message)}")

    def salvage(self, message: list[Any], error: BaseException) -> None:
        """End what an exception, as of a signal handler, has left of the request in a message.

        Its asker is notified: it might wait forever for a request that is nowhere.
        """
        if isinstance(error, GreenletExit):  # a kill, in a handler, or in a send that waits
            return
        handling, here = self._handling, getcurrent()
        for job in [job for job, where in handling.running.items() if where is here]:
            handling.salvage(job)
        delimiter = delimiter_of(message)
        header = header_of(message, delimiter, self._at_router)
        if header is None or header[KIND] != _ASK or isinstance(error, ENDING):
            return
        known = handling.jobs.get(header[KEY])
        if known is not None:
            handling.salvage(known)
        else:  # it had not begun, or has ended: its asker knows which
            asker = self._asker_at(message[: delimiter - 1], _ASK)
            job = Job(message[: delimiter + 1], [], asker, header[KEY], header[ATTEMPT])
            self._voice.end(Kind.LOST, job, Detail.KILLED)

    def is_loss(self, message: list[Any]) -> bool:
        """Refuse a request that is read when the source is about to close; return if it is lost.

        On a busy machine, the last look may be longer ago than routed askers wait.
        """
        if not has_payload(message):
            return False
        header = header_of(message, delimiter_of(message), self._at_router)
        if header is None or not self.is_leaving:
            return True
        self.read(message)
        return False

    def next(self) -> Job | None:
        """Remove the next job from the line; None if there is none, or it has expired."""
        line = self._line
        if not line.jobs:
            return None
        job = line.first()
        try:
            line.remove(job)
            return job if self._may_begin(job) else None
        except BaseException:  # a signal handler's
            self._handling.salvage(job)
            raise

    def _may_begin(self, job: Job) -> bool:
        """Return whether a job that has left the line may begin; else it is rejected."""
        line = self._line
        if self._gate.full() and not (line.jobs and line.is_full()):
            self._gate.open()
        if self._handling.is_stopping:  # its source was stopped, and has killed the handlers
            self._handling.reject(job, Detail.LEAVING)
            return False
        if job.deadline is not None:
            left = job.deadline - time.monotonic()
            # If it is the only one, no other job needs its place.
            if left <= 0 or (line.jobs and left < self._handling.usual.needed):
                self._handling.reject(job, Detail.EXPIRED)
                return False
        return True

    def _asker_at(self, route: list[Any], kind: int) -> Asker:
        """Return the sender of a header; notify a new one that the hub is alive."""
        name = name_of(route)
        asker = self._asker(name)
        if asker is None:
            asker = self._askers.meet(name, route, len(route) > self._at_router)
            if kind != Kind.PING:  # a PING is answered anyway
                self._voice.pong(asker)
            if self.is_leaving:
                self._voice.leaving(asker)
        return asker

    def _ask(self, job: Job, asker: Asker, left: int) -> None:
        """Process a request of an asker."""
        handling, key = self._handling, job.key
        known = handling.jobs.get(key)
        if known is not None:
            self._ask_again(known, job, asker)
            return
        kept = self._kept.get(key) if self._kept.replies else None
        if kept is not None:
            self.duplicates += 1
            header = counted(self._voice.header(kept.kind, job, asker))
            if not handling.send([*asker.route, header, b"", *kept.payload], block=False):
                self._voice.end(Kind.LOST, job, Detail.NONE)
            return
        self.requests += 1
        if self.is_leaving:
            if asker.is_routed:
                self.last_routed = time.monotonic()
            handling.leaving += 1
            self._voice.end(Kind.REFUSED, job, Detail.LEAVING)
            return
        if left:
            job.deadline = time.monotonic() + left / 1000
        handling.jobs[key] = asker.jobs[key] = job
        self._admit(job)

    def _ask_again(self, known: Job, again: Job, asker: Asker) -> None:
        """Have the reply to a request that waits or runs sent to the asker that sent it last.

        A broker counts the requests of this worker, so it is notified if another one has the reply.
        """
        self.duplicates += 1
        is_other = known.asker is not asker
        if again.attempt < known.attempt:  # a later one came first
            if is_other and self.is_worker:
                self._voice.end(Kind.LOST, again, Detail.NONE)
        elif known.is_cancelled:
            self._voice.end(Kind.LOST, again, Detail.NONE)
        else:
            if is_other and known.asker is not None:
                if self.is_worker:
                    self._voice.end(Kind.LOST, known, Detail.NONE)
                del known.asker.jobs[known.key]
                known.asker = asker
                asker.jobs[known.key] = known
            known.attempt = again.attempt

    def _admit(self, job: Job) -> None:
        """Begin a job, or let it wait; a plain peer cannot be refused."""
        if not self.is_watched:
            self.watch()
        if not self._begin(job):
            self.wait(job)

    def wait(self, job: Job) -> None:
        """Let a job wait that cannot begin now, or refuse it.

        A job of a plain peer after which no other may wait stops the reading. The rest of its batch
        was read already.
        """
        line, free = self._line, self.places.free()
        if job.asker is not None and line.is_full(free):
            self._handling.forget(job)
            self._handling.full += 1
            self._voice.end(Kind.REFUSED, job, Detail.FULL)
            return
        line.append(job)
        if job.asker is None and line.is_full(free):
            self._gate.close()
        self.places.notify()

    def _hear(self, asker: Asker, kind: int, key: bytes, left: int, session: int) -> None:
        """Process a control."""
        if kind == Kind.PING:
            asker.patience = patience_of(left, self._tick)
            if self.is_worker:
                # A broker answers the reports of this worker, whatever its own dead_after is.
                asker.patience = max(asker.patience, TICKS + 1)
                self.be_met(bytes(asker.route[0]), key)
            else:
                self._voice.pong(asker)
        elif kind == Kind.CANCEL:
            if any(key):
                job = self._handling.jobs.get(key)
                # A broker whose request another one has made again no longer decides about it.
                if job is not None and (job.asker is asker or not self.is_worker):
                    self._handling.cancel(job, self.is_worker)
            else:
                self.abandon(asker, self.is_worker)
        elif kind == Kind.NOMORE and session == self._voice.session:
            # One for the server that was here before is sent to this one once it is connected.
            asker.has_left = True
            self._handling.note_change()

    def abandon(self, asker: Asker, may_come_back: bool = False) -> None:
        """Cancel all requests of an asker."""
        for job in list(asker.jobs.values()):
            self._handling.cancel(job, may_come_back)


def _from(message: list[Any]) -> str:
    """Return the peer, for a line of the log: behind a proxy, the proxy's connection."""
    return f", peer {peer_of(message[0])}"
