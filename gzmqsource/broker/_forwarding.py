"""The requests of a broker that have not ended: they wait, or a worker has them."""

from __future__ import annotations

from collections.abc import Callable

from gzmqsource.workers._handling import Handling
from gzmqsource.workers._header import Detail
from gzmqsource.workers._jobs import Job


class Forwarding(Handling):
    """Has workers handle the requests."""

    # An asker that does not read must not hold up the replies to all others.
    waits = False

    #: Called with a job, to notify its worker that the caller no longer waits.
    cancel_at_worker: Callable[[Job], object]

    def interrupt(self, job: Job) -> None:
        """See `Handling.interrupt`."""
        self.cancel_at_worker(job)

    def kill(self, job: Job) -> None:
        """See `Handling.kill`; messages of its worker about it come too late."""
        self.cancel_at_worker(job)
        self.forget(job)
        self.lose(job)

    def take_back(self, job: Job) -> None:
        """Let a job that no worker has any more wait again, before all others."""
        del self.running[job]
        self._line.append(job, first=True)

    def refuse(self, job: Job, detail: Detail) -> None:
        """End a job that its worker has not begun, and that no other worker will get."""
        del self.running[job]
        self.reject(job, detail)
        self.note_change()
