"""The back of a broker: the requests that workers are given, and the messages that they send."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

from gevent.queue import Full

from gzmqsource._base.lasting import Lasting
from gzmqsource._base.reports import peer_of
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.source import Source
from gzmqsource.broker._forwarding import Forwarding
from gzmqsource.broker._roster import Roster, State, Worker
from gzmqsource.errors import SendError, SourceClosed
from gzmqsource.transfer.message import UNLIMITED
from gzmqsource.workers._askers import patience_of
from gzmqsource.workers._envelope import ERROR
from gzmqsource.workers._header import (
    ATTEMPT,
    KEY,
    KIND,
    MAGIC,
    NO_KEY,
    Detail,
    Header,
    Keys,
    Kind,
    decode,
    has_header,
    milliseconds,
    pack,
)
from gzmqsource.workers._jobs import Job
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._turns import hear_out

_log = logging.getLogger("gzmqsource.broker")

# To look up a member of an enum takes longer than anything else done with it here.
_ASK, _REPLY, _ERROR, _JOIN = int(Kind.ASK), int(Kind.REPLY), int(Kind.ERROR), int(Kind.JOIN)

_NO_CREDIT = bytes(4)
_NO_TIME = bytes(8)

# In the place of a request that was given up, until its worker reports its end: the worker may get
# the same request again, which is another one for it.
_GIVEN_UP = Job([], [])


class Back:
    """The workers, as the `gzmqsource.workers._places.Places` where requests are handled.

    Parameters
    ----------
    source : Source
        A ROUTER to which workers connect.
    forwarding : Forwarding
        The requests that have not ended.
    parts : Parts
        The parts of the broker's front.
    redeliver : bool
        Whether a request that a worker has lost is given to another worker.
    """

    #: The most workers; messages of further ones are dropped.
    max_workers = 10_000

    #: The most requests that a worker has at a time, whatever it reports: nothing else bounds the
    #: requests that are kept for it here. A `Responder` takes at most 1000.
    max_credit = 10_000

    #: The turns for which messages are read before a worker that is gone is forgotten: messages of
    #: others may keep coming.
    most_turns = 100

    #: How often a request may be given to another worker: it may be the cause of their deaths.
    max_redeliveries = 3

    #: See `Places.size`: requests that wait may go to a worker that has not joined yet.
    size = UNLIMITED

    def __init__(
        self,
        source: Source,
        forwarding: Forwarding,
        parts: Parts,
        redeliver: bool,
    ) -> None:
        #: Called in the front's greenlet with each message, one after another.
        self.spawn: int | None = None
        self.roster = Roster()
        self.source = source
        self.late = self.redelivered = 0
        #: Returns the next job of the line; None if there is none, or if it has expired.
        self.next: Callable[[], Job | None]
        #: Called when a worker has joined.
        self.watch: Callable[[], object]
        self.malformed = LimitedWarning(_log, "a message of a worker was dropped: %s")
        self._warn_lost = LimitedWarning(_log, "a worker was lost: %s")
        self._forwarding = forwarding
        self._running = forwarding.running
        self._workers = self.roster.workers
        self._line = parts.line
        self._redeliver = redeliver
        self._tick = parts.tick
        self._send = source.send
        #: Returns a new key, for a connection, or for a request that has no key of its own.
        self.new_key = Keys().next
        self._is_filling = False
        #: The workers whose connections have ended, until their messages are read.
        self._gone: dict[Worker, None] = {}
        self._forgets = Lasting(self._forget_gone)
        self._left = parts.voice.left
        self._cancel_all = Header(Kind.CANCEL, NO_KEY).encode()
        forwarding.cancel_at_worker = self._cancel
        # The probe shows a worker that its connection, which libzmq makes by itself, is new. The
        # handover gives it its routing id at once, even if the old connection has not ended here.
        source.socket.probe_router = 1
        source.socket.router_handover = 1

    # The methods of `Places`.

    def start(self, base: Context) -> None:
        """See `Places.start`."""
        self.source.start()

    def begin(self, job: Job) -> bool:
        """See `Places.begin`."""
        while (worker := self.roster.take()) is not None:
            if self.give(worker, job):
                return True
        return False

    def free(self) -> int:
        """See `Places.free`."""
        return 0

    def notify(self) -> None:
        """See `Places.notify`."""

    def resume(self) -> None:
        """See `Places.resume`."""
        self.fill()

    def close(self) -> None:
        """See `Places.close`."""

    # The messages of workers.

    def read(self, message: list[Any]) -> None:
        """Process a message of a worker."""
        name = message[0] if type(message[0]) is bytes else bytes(message[0])
        worker = self._workers.get(name)
        if len(message) < 2 or not has_header(message[1]):
            self.malformed(f"no header, {len(message)} frames, peer {peer_of(name)}")
            return
        header = bytes(message[1])
        kind = header[KIND]
        if worker is None:
            if kind == _JOIN and len(message) == 2:
                self._join(name, decode(header))
            elif kind == Kind.ASK:
                what = "a client asks here, where workers join: it asks the front"
                self.malformed(f"{what}, peer {peer_of(name)}")
            else:
                self.late += 1  # it was lost in the meantime, or has not joined yet
            return
        worker.silence = 0
        if kind == _REPLY and len(message) > 3:
            self._answered(worker, header[KEY], _REPLY, message[3:])
        elif kind == _ERROR and len(message) > 3:
            self._answered(worker, header[KEY], _ERROR, [ERROR, *message[3:]])
        elif len(message) > 2 or not self._hear(worker, decode(header)):
            self.malformed(f"a header of kind {kind}, peer {peer_of(name)}")

    def salvage(self, message: list[Any], error: BaseException) -> None:
        """Take a message again if a signal handler has raised before it had an effect.

        Else the request that it is about has left the worker, and is lost unless it has ended.
        """
        worker = self._workers.get(bytes(message[0]))
        if worker is None or len(message) < 2 or not has_header(message[1]):
            return
        key = bytes(message[1])[KEY]
        if key in worker.jobs or len(message) == 2:
            self.read(message)
        for job in [job for job, where in self._running.items() if where is worker]:
            if (job.alias or job.key) not in worker.jobs:
                self._lose(job)
        self._freed(worker)

    def be_gone(self, worker: Worker) -> None:
        """Forget a worker whose connection has ended, once all its messages are read."""
        if worker.state is not State.GONE:
            self._gone[worker] = None
            self._forgets.start()
            self.roster.withdraw(worker, State.GONE)  # last: an exception may come before

    def be_silent(self, worker: Worker) -> None:
        """Give a worker no requests until it speaks again, and give up those that it has."""
        self.roster.withdraw(worker, State.SILENT)
        for key, job in worker.jobs.items():
            if self._running.get(job) is worker:
                self._say(worker, Header(Kind.CANCEL, key).encode())
        self._give_up(worker, "is silent")

    def ping(self, worker: Worker) -> None:
        """Notify a worker that this hub is alive; that also shows whether it is connected."""
        self._say(worker, Header(Kind.PING, worker.session, left=self._left).encode())

    # Inside.

    def _forget_gone(self) -> None:
        """Read the messages that workers sent before their connections ended; then forget them."""
        while self._gone:
            gone = list(self._gone)
            if any(worker.jobs for worker in gone):
                hear_out(self.source, self.most_turns)
            for worker in gone:
                if self._workers.get(worker.name) is worker:
                    del self._workers[worker.name]
                self._give_up(worker, "is gone")
                self._gone.pop(worker, None)  # last: an exception may come before

    def _give_up(self, worker: Worker, why: str) -> None:
        """Lose the requests of a worker."""
        lost = {key: job for key, job in worker.jobs.items() if self._running.get(job) is worker}
        if lost:
            self._warn_lost(f"{peer_of(worker.name)} {why}, and had {len(lost)} requests")
        for key, job in lost.items():
            self._lose(job)
            worker.jobs[key] = _GIVEN_UP
            job.alias = self.new_key()
        self.fill()

    def give(self, worker: Worker, job: Job) -> bool:
        """Send a job to a worker; return False if the worker does not take it."""
        key = job.alias or job.key
        # The job of a plain peer has no key, 0 would mean all requests, and a request that this
        # worker has lost under the same key has not ended there yet.
        if not any(key) or key in worker.jobs:
            key = job.alias = self.new_key()
        left = _NO_TIME
        if job.deadline is not None:
            job.began = now = time.monotonic()
            left = milliseconds(job.deadline - now).to_bytes(4, "big") + _NO_CREDIT
        header = pack(MAGIC, _ASK, 0, job.attempt, job.priority, key, left)
        worker.jobs[key] = job
        self._running[job] = worker
        try:
            self._send([worker.name, header, b"", *job.payload], block=False)
        except BaseException as error:
            if not isinstance(error, (SendError, Full, SourceClosed)):  # a signal handler's
                self.put_back(worker, job)
                raise
            del worker.jobs[key], self._running[job]
            if isinstance(error, Full):
                self.roster.pause(worker)
            else:
                self.be_gone(worker)
            return False
        return True

    def put_back(self, worker: Worker, job: Job) -> None:
        """Let a job that was not sent to its worker wait again, before all others."""
        del worker.jobs[job.alias or job.key]
        self._forwarding.take_back(job)
        self.roster.freed(worker)

    def _say(self, worker: Worker, header: bytes) -> None:
        """Send a control, unless there is no room for it."""
        try:
            self._send([worker.name, header], block=False)
        except Full:
            pass
        except (SendError, SourceClosed):
            self.be_gone(worker)

    def _cancel(self, job: Job) -> None:
        self._say(self._running[job], Header(Kind.CANCEL, job.alias or job.key).encode())

    def _answered(self, worker: Worker, key: bytes, kind: int, payload: list[Any]) -> None:
        """End a request with its reply."""
        job = worker.jobs.pop(key, None)
        if job is not None and self._running.get(job) is worker:
            if job.began:
                self._forwarding.usual.note(time.monotonic() - job.began)
            self._forwarding.end(job, kind, payload)
        else:
            self.late += 1
        if job is not None:
            self._freed(worker)

    def _hear(self, worker: Worker, header: Header) -> bool:
        """Process a control; return False if no worker sends its kind."""
        kind = header.kind
        if kind == Kind.JOIN:
            self._join(worker.name, header)
        elif kind in (Kind.LOST, Kind.REFUSED):
            self._ended(worker, header)
        elif kind == Kind.LEAVING:
            self.roster.withdraw(worker, State.LEAVING)
            self._say(worker, Header(Kind.NOMORE, NO_KEY, session=header.session).encode())
        elif kind != Kind.PONG:
            return False
        return True

    def _join(self, name: bytes, header: Header) -> None:
        """Give a worker as many requests as it takes, once it has confirmed its connection."""
        worker = self._workers.get(name)
        if worker is not None and worker.state is State.GONE and worker.jobs:
            return  # there may be replies to read; the JOIN will be repeated
        if worker is None or worker.state is State.GONE:
            if len(self._workers) >= self.max_workers:
                self.malformed(f"there are {self.max_workers} workers, peer {peer_of(name)}")
                return
            self.watch()
            worker = self._meet(name)
        elif header.key == NO_KEY:
            worker = self._renew(worker)
        worker.patience = patience_of(header.left, self._tick)
        if header.key == worker.session:
            self.roster.be_ready(worker, min(header.session, self.max_credit))
        self.ping(worker)
        self.fill()

    def _meet(self, name: bytes) -> Worker:
        """Return a worker over a new connection; it gives up what it had over an old one."""
        worker = self._workers[name] = Worker(name, self.new_key())
        self._say(worker, self._cancel_all)
        return worker

    def _renew(self, worker: Worker) -> Worker:
        """Give up the requests of a worker over an old connection; messages in transit are lost."""
        self.roster.withdraw(worker, State.GONE)
        renewed = self._meet(worker.name)
        self._give_up(worker, "has a new connection")
        return renewed

    def _ended(self, worker: Worker, header: Header) -> None:
        """Process the end of a request at a worker without a reply."""
        job = worker.jobs.get(header.key)
        if job is None or _is_earlier(header, job):
            return
        del worker.jobs[header.key]
        refuses = header.detail == Detail.FULL  # it has more requests than it was given
        if self._running.get(job) is worker:
            if header.kind == Kind.LOST:
                self._lose(job)
            elif job.is_cancelled:
                self._forwarding.end_without(job)
            elif header.detail == Detail.EXPIRED:
                self._forwarding.refuse(job, Detail.EXPIRED)
            else:
                self._forwarding.take_back(job)
                refuses = True  # it would refuse this one again
        if refuses:
            self.roster.pause(worker)
            self.fill()
        else:
            self._freed(worker)

    def _lose(self, job: Job) -> None:
        """End a job that its worker has lost, or give it to another worker."""
        redeliveries = job.redeliveries
        if self._redeliver and not job.is_cancelled and redeliveries < self.max_redeliveries:
            job.redeliveries = redeliveries + 1
            self.redelivered += 1
            self._forwarding.take_back(job)
        else:
            self._forwarding.end_without(job)

    def _freed(self, worker: Worker) -> None:
        self.roster.freed(worker)
        if self._line.jobs:
            self.fill()

    def fill(self) -> None:
        """Give jobs that wait to workers that are free."""
        if self._is_filling:  # a worker is gone to which a job was just given
            return
        self._is_filling = True
        try:
            while self._line.jobs and self.roster.has_free:
                job = self.next()
                if job is not None:
                    try:
                        self.begin(job)
                    finally:  # also if a signal handler raises
                        if job not in self._running and job not in self._line.jobs:
                            self._line.append(job, first=True)
        finally:
            self._is_filling = False


def _is_earlier(header: Header, job: Job) -> bool:
    """Return whether a header is about an attempt before the first one of a job."""
    return job.asker is not None and header.attempt < bytes(job.envelope[-2])[ATTEMPT]
