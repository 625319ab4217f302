"""The requests of a server that have not ended, and how each of them ends."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from gevent import getcurrent
from gevent.queue import Full

from gzmqsource._base.event import Event
from gzmqsource._base.reports import peer_of
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.core import State
from gzmqsource._source.failures import ENDING
from gzmqsource._source.source import Source
from gzmqsource.errors import SendError, SourceClosed
from gzmqsource.transfer.message import Message, as_frames
from gzmqsource.workers._askers import Asker
from gzmqsource.workers._envelope import counted, is_reply
from gzmqsource.workers._header import Detail, Flag, Kind
from gzmqsource.workers._jobs import Job, Usual
from gzmqsource.workers._parts import Parts

# To look up a member of an enum takes longer than anything else done with it here.
_ERROR = int(Kind.ERROR)

_KEEP = int(Flag.KEEP)

_log = logging.getLogger("gzmqsource.workers")


class Handling(ABC):
    """All requests of a server that have not ended, and the counts of those that have.

    Parameters
    ----------
    source : Source
        It sends the replies.
    parts : Parts
        The parts of the server.
    """

    #: Whether a reply waits for room, if its lane blocks.
    waits = True

    def __init__(self, source: Source, parts: Parts) -> None:
        self.usual = Usual()
        #: The jobs that wait or run, by their keys.
        self.jobs: dict[bytes, Job] = {}
        #: The jobs that have begun, or whose reply waits for room in the outbox, each with its
        #: greenlet, which also runs the hooks and ``on_error``, or with its worker.
        self.running: dict[Job, Any] = {}
        #: Set when something changes for which the end of the responder waits, once that has begun.
        self.changed: Event | None = None
        self.replies = self.errors = self.cancelled = self.lost = self.expired = 0
        self.leaving = self.full = 0
        #: Requests that got no reply at all, and replies that were queued and then lost.
        self.unanswered = self.dropped = 0
        #: Called with a reply, as `end`.
        self.finish: Callable[[Job, int, list[Any]], object] = self.end
        self._source = source
        self._voice = parts.voice
        self._line = parts.line
        self._kept = parts.kept
        self._at_router = parts.at_router
        self._undeliverable = LimitedWarning(_log, "a reply could not be delivered: %s")

    def forget(self, job: Job) -> None:
        """Note that a job does not wait or run any more: the next one with its key is a new one.

        A signal handler may have raised in the middle of this, so it can be done again, as can all
        that ends a job. Its asker is notified first: a job that has not ended by then is salvaged.
        """
        if job.asker is not None:
            if self.jobs.get(job.key) is job:
                del self.jobs[job.key]
            job.asker.jobs.pop(job.key, None)

    @property
    def is_stopping(self) -> bool:
        """Whether the source does not read any more."""
        return self._source._core.state in (State.STOPPING, State.CLOSED)

    def reject(self, job: Job, detail: Detail) -> None:
        """End a job that waits, and count the end of which its asker is notified."""
        self._voice.end(job.end_of_wait, job, detail)
        job.is_over = True
        self.forget(job)
        if job.end_of_wait is Kind.LOST:
            self.lost += 1
        elif detail is Detail.EXPIRED:
            self.expired += 1
        elif job.asker is None:
            self.unanswered += 1
        else:
            self.leaving += 1

    def cancel(self, job: Job, may_be_wanted: bool = False) -> None:
        """End a job for whose reply no caller waits; if it runs, interrupt its handler.

        With *may_be_wanted* that is a guess, and the asker is notified how the job ends.
        """
        if job.is_cancelled or job.is_over:
            return
        job.is_cancelled = True
        job.may_be_wanted = may_be_wanted
        if job in self.running:
            self.interrupt(job)
        else:
            job.is_over = True
            self._line.remove(job)
            self.forget(job)
            self.cancelled += 1
            if may_be_wanted:
                self._voice.end(job.end_of_wait, job, Detail.NONE)
            self.note_change()

    def lose(self, job: Job) -> None:
        """End a job whose handler takes too long, and has no reply whatever it does."""
        self._voice.end(Kind.LOST, job, Detail.KILLED)
        job.is_over = True
        self.running.pop(job, None)
        self.lost += 1

    def salvage(self, job: Job) -> None:
        """End a job as lost that a signal handler's exception has left, unless it waits or runs."""
        asker, line, where = job.asker, self._line, self.running.get(job)
        if job in line.jobs or job in line.beginning or where not in (None, getcurrent()):
            return
        is_left = where is not None or (asker is not None and self.jobs.get(job.key) is job)
        self.forget(job)
        if is_left and not job.is_over:
            self.lose(job)
            self.note_change()

    def drop(self, job: Job) -> None:
        """End a job whose handler does not run, and whose reply could not be sent in time."""
        is_wanted = job.is_wanted
        job.is_over = True
        self.running.pop(job, None)
        if job.is_cancelled:
            self.cancelled += 1
        else:
            self.unanswered += 1
        if is_wanted:
            self._voice.end(Kind.LOST, job, Detail.NONE)

    @abstractmethod
    def interrupt(self, job: Job) -> None:
        """Notify the handler of a job, soon, that its caller no longer waits."""

    @abstractmethod
    def kill(self, job: Job) -> None:
        """End the handling of a job, soon; it is lost unless it has ended by then."""

    def note_change(self) -> None:
        """Note that a job has ended, or an asker has left."""
        if self.changed is not None:
            self.changed.set()

    def reply_lost(self, messages: Sequence[Message]) -> None:
        """Count replies that were queued and will not be sent, unless they report an error."""
        self.dropped += sum(is_reply(as_frames(message), self._at_router) for message in messages)

    def end(self, job: Job, kind: int, payload: list[Any]) -> None:
        """Send a reply, and count the outcome of the job."""
        asker = job.asker
        self.forget(job)
        is_sent = False
        was_cancelled = job.is_cancelled
        try:
            if job.is_wanted:
                if asker is None:
                    reply = job.envelope + payload
                else:
                    reply = self._reply_to(asker, job, kind, payload)
                is_sent = self.send(reply, self.waits)
                if is_sent and job.is_over:  # it was given up while this waited
                    self._source.withdraw(reply)
        finally:
            if not job.is_over:
                if not is_sent and job.is_wanted:
                    self._voice.end(Kind.LOST, job, Detail.NONE)
                self.running.pop(job, None)
                if was_cancelled:
                    self.cancelled += 1
                elif kind == _ERROR:
                    self.errors += 1
                elif is_sent:
                    self.replies += 1
                elif job.is_cancelled:
                    self.cancelled += 1
                else:
                    self.unanswered += 1
            if self.changed is not None:
                self.changed.set()

    def end_without(self, job: Job) -> None:
        """End a job that has begun and has no reply."""
        if job.is_wanted:
            self._voice.end(Kind.LOST, job, Detail.KILLED)
        self.forget(job)
        if not job.is_over:
            self.running.pop(job, None)
            if job.is_cancelled:
                self.cancelled += 1
            else:
                self.lost += 1
        self.note_change()

    def _reply_to(self, asker: Asker, job: Job, kind: int, payload: list[Any]) -> list[Any]:
        """Return a reply to an asker, and keep it if the request may come again."""
        if kind == _ERROR:
            payload = payload[1:]
        if job.flags & _KEEP:
            self._kept.add(job.key, kind, payload)
        header: Any = self._voice.header(kind, job, asker)
        if job.is_cancelled:
            header = counted(header)
        return [*asker.route, header, b"", *payload]

    def send(self, reply: list[Any], block: bool = True) -> bool:
        """Send a reply; return whether libzmq or the outbox has taken it."""
        try:
            self._source.send(reply, block)
        except SendError as error:
            self._undeliverable(f"{error.strerror}, peer {peer_of(reply[0])}")
        except Full:
            self._undeliverable(f"the peer does not read, peer {peer_of(reply[0])}")
        except SourceClosed:
            self._undeliverable(f"the source was closed meanwhile, peer {peer_of(reply[0])}")
        except ENDING:
            raise
        except BaseException as error:  # as a gevent.Timeout that some handler has left running
            if not block:
                raise
            self._source.report(error)
            return self.send(reply, block=False)
        else:
            return True
        return False
