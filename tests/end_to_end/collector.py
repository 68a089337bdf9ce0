"""A collector of traces on loopback: OTLP over HTTP, kept in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """What is asked of a span."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    about: dict[str, Any]


@dataclass
class Collector:
    """Where it listens, and what it was sent."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)

    def take(self, content: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(content)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [_span(span) for span in scope.spans]


def _span(span: Any) -> Span:
    about = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
    return Span(span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), about)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector for as long as a test needs it."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield collector
    server.shutdown()
    server.server_close()
