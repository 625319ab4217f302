"""Handling one request: its handler is called, its reply is sent, and the outcome is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeAlias

from gevent import GreenletExit, get_hub, getcurrent

from gzmqsource._source.failures import ENDING
from gzmqsource._source.handlers import a_type, name_of
from gzmqsource._source.source import Source
from gzmqsource.errors import RequestCancelled
from gzmqsource.transfer.message import AnyMessage, FrameT
from gzmqsource.workers._cancelling import check, ended, strike
from gzmqsource.workers._current import current
from gzmqsource.workers._envelope import error_payload, payload_of
from gzmqsource.workers._handling import Handling
from gzmqsource.workers._header import Kind
from gzmqsource.workers._hooks import Hook, call
from gzmqsource.workers._jobs import Job
from gzmqsource.workers._parts import Parts

#: Called with the frames of a request's payload; it returns or yields the frames of the reply.
Answer: TypeAlias = "Callable[[list[FrameT]], AnyMessage]"

_set_current = current.set

# To look up a member of an enum takes longer than anything else done with it here.
_REPLY, _ERROR = int(Kind.REPLY), int(Kind.ERROR)


class Calling(Handling):
    """Handles requests by a handler in this process.

    Parameters
    ----------
    source, parts
        See `Handling`.
    answer : callable
        Called with the payload of each request.
    hooks : sequence of Hook
        Called for each request.
    tracebacks : bool
        Whether a reply that reports an error also has the traceback.
    """

    def __init__(
        self,
        source: Source[Any],
        parts: Parts,
        answer: Answer[Any],
        hooks: Sequence[Hook],
        tracebacks: bool,
    ) -> None:
        super().__init__(source, parts)
        self.answer: Callable[[list[Any]], Any] = answer
        # The collector of metrics may replace `answer`.
        self._handler = answer
        self.hooks = hooks
        self._tracebacks = tracebacks

    def handle(self, job: Job) -> None:
        """Call the handler with a job, and end it; raise only exceptions that end a greenlet."""
        if job.is_over:
            return
        payload: list[Any]
        try:
            greenlet = self.running[job] = getcurrent()
            _set_current(job)
            try:
                if self.hooks:
                    call(self.hooks, "before", job)
                    check(job)
                began = 0.0 if job.deadline is None else time.monotonic()
                job.greenlet = greenlet
                try:
                    reply = self.answer(job.payload)
                    payload = [reply] if type(reply) is bytes else self.payload_of(reply)
                finally:
                    job.greenlet = None
                if began:
                    self.usual.note(time.monotonic() - began)
                # If a hook switches, the job is still known, so that its key is not handled again.
                if self.hooks:
                    if job.is_wanted:
                        call(self.hooks, "after", job, payload)
                    else:
                        call(self.hooks, "error", job, ended(job))
                kind = _REPLY
            except ENDING:
                raise
            except BaseException as error:
                payload, kind = self.failed(job, error), _ERROR
        except BaseException as error:
            if self.ends(job, error):
                raise
            return
        self.finish(job, kind, payload)

    def interrupt(self, job: Job) -> None:
        """See `Handling.interrupt`."""
        job.is_due = True
        get_hub().loop.run_callback(strike, job)

    def kill(self, job: Job) -> None:
        """See `Handling.kill`."""
        get_hub().loop.run_callback(self._kill, job)

    def payload_of(self, reply: Any) -> list[Any]:
        """Return the payload of a reply that is not just bytes; the error names the handler."""
        if type(reply) is not list and isinstance(reply, Iterator):  # which takes 0.4 us
            reply = list(reply)  # an exception in it is the handler's own error
        try:
            return payload_of(reply)
        except (TypeError, ValueError) as error:
            if isinstance(reply, Coroutine):
                reply.close()  # or Python would warn that nothing has awaited it
                fix = "use a plain function, which may wait as a greenlet does"
            elif reply is None:
                fix = "return the payload of the reply, as bytes or a list of them; b'' is empty"
            else:
                fix = f"{error}"
            text = f"the handler {name_of(self._handler)} has returned {a_type(reply)}: {fix}"
            raise type(error)(text) from None

    def failed(self, job: Job, error: BaseException) -> list[bytes]:
        """Report a handler's exception, and return the payload that reports it to the asker."""
        self._source.report(error, job.message)
        if self.hooks:
            call(self.hooks, "error", job, error)
        return error_payload(error, self._tracebacks)

    def ends(self, job: Job, error: BaseException) -> bool:
        """End a job whose handler was ended; return whether its greenlet ends with it.

        It does if that was killed, and does not if only the caller no longer waits.
        """
        try:
            if self.hooks:
                call(self.hooks, "error", job, error)
        finally:  # a hook may be killed, too
            self.end_without(job)
        return not (job.is_cancelled and isinstance(error, RequestCancelled))

    def _kill(self, job: Job) -> None:
        """Kill the handler of a job, unless it has returned by now; called in the hub."""
        handler = job.greenlet
        if handler is not None and not job.is_over:
            try:
                self.lose(job)
            finally:
                handler.throw(GreenletExit)
