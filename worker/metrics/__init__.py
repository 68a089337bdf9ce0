"""What processes count and time, for Prometheus: every counter and histogram, declared once.

Labels have few values, all of them ours: never the id of a payment, an event or an operation.
"""

import contextlib
import re
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client import values as prometheus_values
from prometheus_client.registry import Collector

from worker.metrics.sharing import Value, share, shared

prometheus_values.ValueClass = Value
disable_created_metrics()  # type: ignore[no-untyped-call]  # the files of several processes hold none either

#: What this process has; `counts` has what all processes have that share.
REGISTRY = CollectorRegistry()


def _counter(name: str, told: str, *labels: str) -> Counter:
    return Counter(f"payhook_{name}", told, labels, registry=REGISTRY)


def _histogram(name: str, told: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"payhook_{name}", told, labels, buckets=buckets, registry=REGISTRY)


WEBHOOK_ANSWERS = _counter("webhook_answers_total", "Webhooks answered.", "status", "reason")
WEBHOOK_ANSWER_SECONDS = _histogram(
    "webhook_answer_seconds",
    "Time to answer a webhook, from its first byte read to the answer made.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3),
)
WEBHOOK_EVENTS = _counter("webhook_events_total", "Genuine events, delivered for the first time or again.", "delivery")
EVENT_DELAY_SECONDS = _histogram(
    "event_delay_seconds",
    "Time from an event's receipt until its payment was reconciled.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600),
)
LOOKS = _counter("looks_total", "Looks at payments that ended.", "outcome")
PLATFORM_CALLS = _counter("platform_calls_total", "Calls to the platform that ended.", "merchant", "call", "outcome")
PLATFORM_CALL_SECONDS = _histogram(
    "platform_call_seconds",
    "Time that a call to the platform took.",
    "call",
    buckets=(0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 10, 15),
)
ATTEMPTS = _counter("attempts_total", "Attempts to move money, by what was answered.", "kind", "answer")
OPERATIONS = _counter("operations_total", "Operations that came into a state.", "kind", "state")
RINGS = _counter("rings_total", "Rows rung for.", "outcome")
SWEEPS = _counter("sweeps_total", "Sweeps.", "outcome")
SWEEP_ROWS = _counter("sweep_rows_total", "Rows that a sweep found due and rang for.", "table")
CLAIMS_LOST = _counter("claims_lost_total", "Claims whose lease had ended before what came of them was written.", "of")
PARKINGS = _counter("parkings_total", "Times that a payment was parked.")
JOBS = _counter("jobs_total", "Runs of periodic jobs.", "job", "outcome")
ROWS_FAILED = _counter("rows_failed_total", "Rows whose work ended with an error; they are due again.", "reason")
DATABASE_FAILURES = _counter("database_failures_total", "Transactions and readings that were given up.", "reason")

# A series that is first seen at 1 has not grown as Prometheus sees it: what is rare is there from the start, at 0.
for _metric, _labels in (
    (WEBHOOK_EVENTS, ("first", "again")),
    (RINGS, ("sent", "failed", "dropped")),
    (SWEEPS, ("done", "failed")),
    (SWEEP_ROWS, ("events", "payments", "operations", "jobs")),
    (CLAIMS_LOST, ("payment", "operation")),
    (ROWS_FAILED, ("database", "fault")),
    (DATABASE_FAILURES, ("no_answer", "hangs", "failed")),
):
    for _label in _labels:
        _metric.labels(_label)


def counts() -> Collector:
    """What there is to show: of this process, or of all that share their counts with it."""
    return shared() or REGISTRY


@contextlib.contextmanager
def platform_call(merchant_id: str, call: str) -> Iterator[None]:
    """Count and time a call to the platform, by the name of the error it ends with."""
    began, outcome = time.perf_counter(), "answered"
    try:
        yield
    except Exception as error:
        outcome = outcome_of(error)
        raise
    finally:
        PLATFORM_CALL_SECONDS.labels(call).observe(time.perf_counter() - began)
        PLATFORM_CALLS.labels(merchant_id, call, outcome).inc()


def outcome_of(error: Exception) -> str:
    """The class of an error of ours as a label: ``try_again`` for ``TryAgain``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()


__all__ = [
    "ATTEMPTS",
    "CLAIMS_LOST",
    "DATABASE_FAILURES",
    "EVENT_DELAY_SECONDS",
    "JOBS",
    "LOOKS",
    "OPERATIONS",
    "PARKINGS",
    "PLATFORM_CALLS",
    "PLATFORM_CALL_SECONDS",
    "REGISTRY",
    "RINGS",
    "ROWS_FAILED",
    "SWEEPS",
    "SWEEP_ROWS",
    "WEBHOOK_ANSWERS",
    "WEBHOOK_ANSWER_SECONDS",
    "WEBHOOK_EVENTS",
    "counts",
    "outcome_of",
    "platform_call",
    "share",
]
