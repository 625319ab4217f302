"""The hooks that come with the workers: requests in the log, and as spans of OpenTelemetry."""

import logging
from typing import Any

import pytest
from helpers import endpoint_of
from optional import needs

from gzmqsource.workers import RemoteError, Requester, Responder
from gzmqsource.workers.logs import LoggingHook, RequestIdFilter

tracing = needs("opentelemetry", extra="test")


@pytest.fixture
def ask(context):
    """Start a responder and a requester with hooks of their own, and return how to ask."""
    ends: list[Any] = []

    def make(handler, asking, answering):
        responder = Responder.open(
            handler, bind="tcp://127.0.0.1:*", context=context, hooks=[answering]
        )
        responder.start()
        requester = Requester.open(endpoint_of(responder.source), context=context, hooks=[asking])
        ends.extend([requester, responder])
        return lambda payload: requester.request(payload, timeout=10)

    yield make
    for end in ends:
        end.close()


def fail(payload):
    raise KeyError(payload[0].decode())


def test_both_ends_log_a_request_with_the_same_id(ask, caplog):
    caplog.set_level(logging.INFO, "gzmqsource.requests")
    asked = ask(lambda payload: payload, LoggingHook(), LoggingHook())
    asked([b"a", b"b"])
    lines = [record.getMessage() for record in caplog.records if "request " in record.getMessage()]
    assert len(lines) == 2
    assert len({line.split(",")[0] for line in lines}) == 1
    assert all("2 frames" in line and line.endswith("ms") for line in lines)


def test_what_failed_is_logged_as_a_warning_with_its_error(ask, caplog):
    asked = ask(fail, LoggingHook(), LoggingHook())
    with pytest.raises(RemoteError):
        asked(b"name")
    lines = [record for record in caplog.records if record.name == "gzmqsource.requests"]
    assert [record.levelname for record in lines] == ["WARNING"] * 2
    assert ["KeyError" in record.getMessage() for record in lines] == [True, True]


def test_a_record_of_a_handler_has_the_id_of_its_request(ask):
    seen = []

    def handler(payload):
        record = logging.LogRecord("any", logging.INFO, "", 0, "", None, None)
        assert RequestIdFilter().filter(record)
        seen.append(vars(record)["request_id"])
        return payload

    class Note(LoggingHook):
        def before(self, request):
            super().before(request)
            seen.append(request.key.hex())

    asked = ask(handler, Note(), LoggingHook())
    asked(b"")
    assert len(seen) == 2
    assert seen[0] == seen[1]
    record = logging.LogRecord("any", logging.INFO, "", 0, "", None, None)
    RequestIdFilter().filter(record)
    assert vars(record)["request_id"] == "-"


@pytest.fixture
def spans():
    """A provider, and what it has finished."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter.get_finished_spans
    provider.shutdown()


@tracing
def test_a_request_is_a_span_at_each_end_and_one_links_to_the_other(ask, spans):
    from opentelemetry.trace import SpanKind

    from gzmqsource.workers.tracing import RequesterTracing, ResponderTracing

    provider, finished = spans
    tracer = provider.get_tracer("test")

    def handler(payload):
        with tracer.start_as_current_span("inside"):
            return payload

    asked = ask(handler, RequesterTracing(provider), ResponderTracing(provider))
    with tracer.start_as_current_span("outside"):
        asked(b"")
    named = {span.name: span for span in finished()}
    assert set(named) == {"outside", "request", "handle", "inside"}
    request, handle = named["request"], named["handle"]
    assert (request.kind, handle.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert request.parent.span_id == named["outside"].context.span_id
    assert named["inside"].parent.span_id == handle.context.span_id
    (link,) = request.links
    assert (link.context.trace_id, link.context.span_id) == (
        handle.context.trace_id,
        handle.parent.span_id,
    )


@tracing
def test_a_span_of_what_failed_says_so_and_the_next_one_is_not_within_it(ask, spans):
    from opentelemetry.trace import StatusCode

    from gzmqsource.workers.tracing import RequesterTracing, ResponderTracing

    provider, finished = spans
    asked = ask(fail, RequesterTracing(provider), ResponderTracing(provider))
    for _ in range(2):
        with pytest.raises(RemoteError):
            asked(b"name")
    spans = finished()
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR] * 4
    assert len({span.context.trace_id for span in spans if span.name == "handle"}) == 2
