"""Requests as OpenTelemetry spans; this needs the extra ``tracing``."""

from __future__ import annotations

from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from gzmqsource.workers._current import Request
from gzmqsource.workers._hooks import Hook

__all__ = ["RequesterTracing", "ResponderTracing"]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class _Tracing(Hook):
    """Ends the span that `before` has started."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("gzmqsource", tracer_provider=provider)

    def after(self, request: Request, reply: list[Any]) -> None:
        """End the span."""
        self._leave(request).end()

    def error(self, request: Request, error: BaseException) -> None:
        """End the span with the error."""
        span = self._leave(request)
        span.record_exception(error)
        span.set_status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
        span.end()

    def _leave(self, request: Request) -> Span:
        """Return the span of a request, which is not the current one any more."""
        span: Span = vars(request)["span"]
        return span


class RequesterTracing(_Tracing):
    """Makes a client span for each request, linked to the span of the responder's handler.

    Parameters
    ----------
    provider : opentelemetry.trace.TracerProvider or None
        As for `ResponderTracing`.
    """

    def before(self, request: Request) -> None:
        """Start the span, within the span of the caller."""
        vars(request)["span"] = self._tracer.start_span(
            "request",
            kind=SpanKind.CLIENT,
            attributes=_attributes(request),
            links=[Link(remote_context(request.key))],
        )


class ResponderTracing(_Tracing):
    """Makes a server span for each request, which contains the handler's own spans.

    The header has no room for a trace. The trace of a handler has the request's key as its id, and
    the asker's span links to that trace, so each can be found from the other.

    Parameters
    ----------
    provider : opentelemetry.trace.TracerProvider or None
        Where the spans go; None for the global one.
    """

    def before(self, request: Request) -> None:
        """Start the span, and make it the current one."""
        parent = None
        if request.key:
            parent = trace.set_span_in_context(NonRecordingSpan(remote_context(request.key)))
        span = self._tracer.start_span(
            "handle", context=parent, kind=SpanKind.SERVER, attributes=_attributes(request)
        )
        vars(request)["span"] = span
        vars(request)["token"] = context.attach(trace.set_span_in_context(span))

    def _leave(self, request: Request) -> Span:
        context.detach(vars(request)["token"])
        return super()._leave(request)


def remote_context(key: bytes) -> SpanContext:
    """Return the span context that stands for a request between its two ends."""
    return SpanContext(
        int.from_bytes(key, "big"), int.from_bytes(key[8:], "big"), True, trace_flags=_SAMPLED
    )


def _attributes(request: Request) -> dict[str, str | int]:
    return {
        "messaging.system": "zeromq",
        "messaging.message.conversation_id": request.key.hex(),
        "network.peer.address": request.peer,
        "gzmqsource.attempt": request.attempt,
    }
