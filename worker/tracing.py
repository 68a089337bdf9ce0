"""One trace from a webhook to the capture that follows from it, where OpenTelemetry is installed and switched on.

Rings are keys and carry no context. So an event's trace is found by the event itself: its trace and the span that all
others of it descend from have ids that are made of the body's hash, which every process knows. An operation keeps the
context it followed from in its row.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanContext

log = structlog.get_logger("payhook.tracing")

#: Either of them switches it on; the rest of OpenTelemetry's own variables say how, and can switch it off.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

#: A process that ends waits so long for a collector to take its last spans.
LAST_SPANS_SECONDS = 1.0

#: The W3C's, of version 00; what comes from outside is used in no other form.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)

#: The ids of the root that is being made.
_ROOT: ContextVar[tuple[int, int] | None] = ContextVar("payhook_root", default=None)

#: This process's provider; made when first needed, for its thread and its connection do not outlive a fork.
_provider: "TracerProvider | None" = None


def is_wanted() -> bool:
    """Whether the environment asks for traces."""
    given = os.environ.get
    switched_off = given("OTEL_SDK_DISABLED", "").lower() == "true" or given("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
    return any(given(name) for name in ENDPOINTS) and not switched_off


def is_installed() -> bool:
    """Whether the extra ``payhook[tracing]`` is."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: PLC0415
        import opentelemetry.sdk.trace  # noqa: F401, PLC0415 - an extra, and slow to import
    except ImportError:
        return False
    return True


#: Read once: what is not traced costs a look at a name.
is_on = is_wanted() and is_installed()


def webhook(body_sha256: bytes, *, is_new: bool, began: int, verified: int, **about: Any) -> None:
    """The spans of a POST that was stored just now: the root of its trace, or another delivery under it.

    Args:
        body_sha256: of the body.
        is_new: whether it was not here before.
        began: when it came, in nanoseconds since the epoch.
        verified: when its signature was found genuine, likewise.
        about: attributes of the POST.
    """
    if not is_on:
        return
    from opentelemetry import trace  # noqa: PLC0415

    tracer, root = _of_this_process().get_tracer("payhook"), _root_of(body_sha256)
    token = _ROOT.set((root.trace_id, root.span_id) if is_new else None)
    try:
        parent = _nothing() if is_new else trace.set_span_in_context(trace.NonRecordingSpan(root), _nothing())
        span = tracer.start_span("webhook", parent, trace.SpanKind.SERVER, _told(about), start_time=began)
    finally:
        _ROOT.reset(token)
    under = trace.set_span_in_context(span, _nothing())
    tracer.start_span("verify", under, start_time=began).end(verified)
    tracer.start_span("store", under, start_time=verified).end()
    span.end()


@contextmanager
def span(
    name: str, *, events: Sequence[bytes] = (), traceparent: str | None = None, began: int | None = None, **about: Any
) -> Iterator[None]:
    """A step of a trace.

    Args:
        name: what is done.
        events: the hashes of the bodies it follows from; it belongs to the first one's trace, and names the others.
        traceparent: what it follows from otherwise; without either, the step it is a part of.
        began: when it did, in nanoseconds since the epoch, if it was not now.
        about: attributes: ids and codes, never of a body.
    """
    if not is_on:
        yield
        return
    from opentelemetry import trace  # noqa: PLC0415

    origin = _root_of(events[0]) if events else _read(traceparent)
    under = None if origin is None else trace.set_span_in_context(trace.NonRecordingSpan(origin), _nothing())
    links = [trace.Link(_root_of(body_sha256)) for body_sha256 in events[1:]]
    with (
        _of_this_process()
        .get_tracer("payhook")
        .start_as_current_span(
            name,
            under,
            attributes=_told(about),
            links=links,
            start_time=began,
            record_exception=False,  # its text may quote what was received
            set_status_on_exception=False,
        ) as started
    ):
        try:
            yield
        except BaseException as error:
            started.set_attribute("error.type", type(error).__name__)
            started.set_status(trace.StatusCode.ERROR)
            raise


def done(name: str, *, began: int) -> None:
    """A part of the step that is being done, over by now; it began then, in nanoseconds since the epoch."""
    if is_on:
        _of_this_process().get_tracer("payhook").start_span(name, start_time=began).end()


def traceparent() -> str | None:
    """The step that is being done, for a row that follows from it; None when nothing is traced."""
    if not is_on:
        return None
    from opentelemetry import trace  # noqa: PLC0415

    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return None
    return f"00-{current.trace_id:032x}-{current.span_id:016x}-{int(current.trace_flags):02x}"


def well_formed(given: object) -> str | None:
    """A traceparent that somebody else sent, if it is one."""
    return given if isinstance(given, str) and _TRACEPARENT.fullmatch(given) else None


def flush() -> None:
    """Send what was not sent yet, for a moment at most: before a process ends."""
    if _provider is not None:
        _provider.force_flush(int(LAST_SPANS_SECONDS * 1000))


def use(provider: "TracerProvider | None") -> None:
    """Have this process's spans go there, for tests: made by `new_provider`, with processors of one's own."""
    global _provider, is_on
    _provider, is_on = provider, provider is not None


def new_provider() -> "TracerProvider":
    """A provider without a processor, whose roots have the ids that events give them."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            wanted = _ROOT.get()
            return super().generate_trace_id() if wanted is None else wanted[0]

        def generate_span_id(self) -> int:
            wanted = _ROOT.get()
            return super().generate_span_id() if wanted is None else wanted[1]

    ours = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "payhook"}
    return TracerProvider(resource=Resource.create(ours), id_generator=Ids())


def _of_this_process() -> "TracerProvider":
    global _provider, is_on
    if _provider is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        made = new_provider()
        try:
            made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except Exception as error:  # a variable of OpenTelemetry's that it cannot use: no reason to stop work
            is_on = False
            log.error("tracing.off", error=type(error).__name__)
        _provider = made
    return _provider


def _forget() -> None:
    global _provider
    _provider = None


os.register_at_fork(after_in_child=_forget)


def _root_of(body_sha256: bytes) -> "SpanContext":
    """The POST's span, as any process finds it."""
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import Decision  # noqa: PLC0415

    digest = hashlib.sha256(b"payhook trace " + body_sha256).digest()
    trace_id, span_id = int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1
    # A sampler that takes a share decides by the trace's id: asked again, here or elsewhere, it says the same.
    decision = _of_this_process().sampler.should_sample(None, trace_id, "webhook").decision
    is_sampled = decision is Decision.RECORD_AND_SAMPLE
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if is_sampled else trace.TraceFlags.DEFAULT)
    return trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


def _read(given: str | None) -> "SpanContext | None":
    from opentelemetry import trace  # noqa: PLC0415

    found = _TRACEPARENT.fullmatch(given or "")
    if found is None:
        return None
    flags = trace.TraceFlags(int(found[3], 16))
    return trace.SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags)


def _nothing() -> "Context":
    """No context at all: the step follows from nothing that this thread does."""
    from opentelemetry.context import Context  # noqa: PLC0415

    return Context()


def _told(about: Mapping[str, Any]) -> dict[str, Any]:
    return {f"payhook.{name}": value for name, value in about.items() if value is not None}
