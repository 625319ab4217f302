"""Cancellation: raising in a handler for whose reply no caller waits any more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gevent import GreenletExit, getcurrent
from gevent.hub import get_hub

from gzmqsource.errors import RequestCancelled
from gzmqsource.workers._current import current
from gzmqsource.workers._jobs import Job


def strike(job: Job) -> None:
    """Raise in the handler of a job, unless it is over or shielded; called in the hub.

    A worker continues with the next job, so its greenlet alone does not show that it has this one.
    """
    if job.is_due and job.greenlet is not None and not job.shields:
        job.greenlet.throw(_cancelled(job))


def check(job: Job) -> None:
    """Raise if a job has ended or was cancelled before its handler is called."""
    if job.is_over or job.is_due:
        raise ended(job)


def ended(job: Job) -> BaseException:
    """Return the exception for the end of a job that has no reply, whatever its handler does."""
    return GreenletExit() if job.is_over else _cancelled(job)


@contextlib.contextmanager
def shield() -> Iterator[None]:
    """Hold back a cancellation of the current request in a ``with`` block.

    A `RequestCancelled` that would be raised in the block is raised at its end, even if the block
    ends with a ``return``, so that the code after the block does not run without a caller. If the
    block raises another exception, that propagates, and the handler is interrupted where it waits
    next. The end of a nested block raises nothing. The end of the responder, which kills handlers
    that take too long, is not held back.

    Outside of a handler the block does nothing. It also does nothing in a greenlet that a handler
    has spawned, which is not interrupted either.
    """
    job = current.get()
    if not isinstance(job, Job):
        yield
        return
    job.shields += 1
    try:
        yield
    except BaseException:
        job.shields -= 1
        if job.is_due:
            get_hub().loop.run_callback(strike, job)
        raise
    job.shields -= 1
    if job.is_due and not job.shields and job.greenlet is getcurrent():
        raise _cancelled(job)


def _cancelled(job: Job) -> RequestCancelled:
    """Return the exception for a handler, which is raised once."""
    job.is_due = False
    return RequestCancelled(f"the caller of {job!r} no longer waits")
