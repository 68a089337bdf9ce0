"""One trace from a webhook to what follows from it, found by the event itself; and nothing at all when it is off."""

import hashlib
import os
import subprocess
import sys
import time

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.worker.conftest import TRACEPARENT
from tests.worker.logs.test_logs import THIS_TREE
from worker import tracing

BODY, OTHER = hashlib.sha256(b"an event").digest(), hashlib.sha256(b"another").digest()


def webhook(body_sha256: bytes, *, is_new: bool = True) -> None:
    began = time.time_ns()
    tracing.webhook(body_sha256, is_new=is_new, began=began, verified=began + 1000, payment_id="3254564310", type=None)


def by_name(exported: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exported.get_finished_spans()}


def test_a_look_anywhere_is_in_the_trace_of_its_event(exported: InMemorySpanExporter) -> None:
    """The POST's span is the root; the look's parent is that very span, though nobody told it."""
    with tracing.span("look", events=[BODY], payment_id="3254564310"), tracing.span("get_payment"):
        pass
    webhook(BODY)

    spans = by_name(exported)
    root = spans["webhook"]
    assert root.parent is None
    assert {name: span.parent and span.parent.span_id for name, span in spans.items() if name != "webhook"} == {
        "verify": root.context.span_id,
        "store": root.context.span_id,
        "look": root.context.span_id,
        "get_payment": spans["look"].context.span_id,
    }
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert root.attributes == {"payhook.payment_id": "3254564310"}


def test_a_redelivery_is_a_span_of_its_own_under_the_first(exported: InMemorySpanExporter) -> None:
    """No span has the id of another."""
    webhook(BODY)
    webhook(BODY, is_new=False)

    first, again = [span for span in exported.get_finished_spans() if span.name == "webhook"]
    assert again.parent is not None
    assert (again.context.trace_id, again.parent.span_id) == (first.context.trace_id, first.context.span_id)
    ids = [span.context.span_id for span in exported.get_finished_spans()]
    assert len(set(ids)) == len(ids)


def test_a_look_that_answers_several_events_names_them_all(exported: InMemorySpanExporter) -> None:
    """It belongs to the first one's trace, and is linked to the others'."""
    webhook(BODY)
    webhook(OTHER)
    with tracing.span("look", events=[BODY, OTHER]):
        pass

    roots = [span for span in exported.get_finished_spans() if span.name == "webhook"]
    look = by_name(exported)["look"]
    assert look.context.trace_id == roots[0].context.trace_id
    assert [link.context.span_id for link in look.links] == [roots[1].context.span_id]


def test_what_was_kept_in_a_row_is_followed(exported: InMemorySpanExporter) -> None:
    """An operation is sent in the trace that it was promised in, whichever process does it."""
    webhook(BODY)
    with tracing.span("look", events=[BODY]):
        kept = tracing.traceparent()
    with tracing.span("send", traceparent=kept):
        pass

    spans = by_name(exported)
    assert spans["send"].context.trace_id == spans["webhook"].context.trace_id
    assert spans["send"].parent is not None
    assert spans["send"].parent.span_id == spans["look"].context.span_id


def test_a_poll_begins_a_trace_of_its_own(exported: InMemorySpanExporter) -> None:
    """It follows from no event; and nothing that was done before on its thread is its parent."""
    for _ in range(2):
        with tracing.span("look"):
            pass

    first, second = exported.get_finished_spans()
    assert (first.parent, second.parent) == (None, None)
    assert first.context.trace_id != second.context.trace_id
    assert tracing.traceparent() is None


def test_an_error_is_told_by_its_kind(exported: InMemorySpanExporter) -> None:
    """Its text may quote what was received."""
    with pytest.raises(ValueError, match="canary"), tracing.span("look"):
        raise ValueError("canary")

    (span,) = exported.get_finished_spans()
    assert span.attributes == {"error.type": "ValueError"}
    assert "canary" not in span.to_json()


@pytest.mark.parametrize(
    "given",
    [TRACEPARENT, None, 7, "", TRACEPARENT.upper(), TRACEPARENT + "-x", f"01{TRACEPARENT[2:]}", "00-" + "0" * 51],
)
def test_only_what_is_well_formed_is_taken_from_others(given: object) -> None:
    """Of a request's header; anything else is as if there were none."""
    assert tracing.well_formed(given) == (TRACEPARENT if given == TRACEPARENT else None)


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_usual_variables_switch_it_on(environment: dict[str, str], is_on: bool) -> None:
    """Off, nothing of OpenTelemetry is even imported."""
    program = (
        "import sys, hashlib\nfrom worker import tracing\n"
        "with tracing.span('look', events=[b'x'], payment_id='1'): parent = tracing.traceparent()\n"
        "tracing.webhook(b'x', is_new=True, began=1, verified=2)\n"
        "print(tracing.is_on, parent is not None, any(name.startswith('opentelemetry') for name in sys.modules))\n"
        "sys.stdout.flush()\nimport os\nos._exit(0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**THIS_TREE, **environment}, capture_output=True, text=True
    )

    assert ended.stdout.split() == [str(is_on)] * 3, ended.stderr


def test_without_the_extra_nothing_is_traced_and_nothing_fails() -> None:
    """Though the environment asks for it."""
    program = (
        "import sys\nsys.modules['opentelemetry'] = None\nfrom worker import tracing\n"
        "with tracing.span('look'): print(tracing.is_on, tracing.is_wanted())"
    )
    given = {**THIS_TREE, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    ended = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True)

    assert ended.stdout.split() == ["False", "True"], ended.stderr


def test_a_forked_child_has_a_provider_of_its_own(exported: InMemorySpanExporter) -> None:
    """The thread and the connection of its parent's are not there."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, b"forgotten" if tracing._provider is None else b"kept")
        os._exit(0)
    os.wait()

    assert os.read(reading, 16) == b"forgotten"
    assert tracing._provider is not None
