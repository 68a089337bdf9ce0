"""What happened, a line each: as a timeline tells it of one payment, and `payhook tail` of all of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker import journal
from worker.lifecycle import canonical_payment_id


@dataclass(frozen=True)
class Line:
    """Something that happened."""

    at: datetime
    what: str  # event received, event done, payment, operation, sent, answered, movement, …
    state: str | None  # what it is in since then
    detail: str
    subject: str  # whose line it is: event, payment, operation, movement, request, …
    key: str  # which one, as the commands take it
    merchant_id: str | None = None
    payment_id: str | None = None  # canonical
    type: str | None = None  # an event's type, or an operation's kind


def event_received(row: Any) -> Line:
    """An event's coming."""
    parts = [row.type or "of no type that is known", f"key {row.key_id}"]
    if row.deliveries > 1:
        parts.append(f"{row.deliveries} deliveries")
    return _of_event(row, row.received_at, "event received", "waiting", ", ".join(parts))


def event_done(row: Any) -> Line:
    """What became of an event that is done."""
    what = "event quarantined" if row.outcome == "quarantined" else "event done"
    parts = [row.type or "of no type that is known", *([row.problem] if row.problem else [])]
    return _of_event(row, row.done_at, what, row.outcome, ": ".join(parts))


def journalled(row: Any, operation: Any = None) -> Line:
    """A line of the journal.

    Args:
        row: of the journal.
        operation: the operation's row, where it is the subject.
    """
    subject, key = row.subject, row.subject_id
    merchant_id = payment_id = kind = None
    parts = [row.why if row.actor == journal.OURSELVES else f"{row.why} ({row.actor})"]
    if row.from_state not in (None, row.to_state):
        parts.insert(0, f"{row.from_state} to {row.to_state or 'gone'}")
    if subject == "payment":
        merchant_id, _, payment_id = key.rpartition("/")
        key = payment_id
    elif subject == "operation" and operation is not None:
        merchant_id, payment_id, kind = operation.merchant_id, _payment_of(operation), operation.kind
        parts.insert(0, asked(operation))
    return Line(row.at, subject, row.to_state, ": ".join(parts), subject, key, merchant_id, payment_id, kind)


def attempt_sent(row: Any, operation: Any) -> Line:
    """A request that may have left."""
    key = f", with key {row.generation}" if row.generation > 1 else ""
    return _of_operation(operation, row.started_at, "sent", "sending", f"{asked(operation)}{key}")


def attempt_answered(row: Any, operation: Any) -> Line:
    """A request's end: what it says of the money, the HTTP status, and how long it took."""
    status = f", HTTP {row.http_status}" if row.http_status is not None else ""
    error = f" {row.error_id}" if row.error_id else ""
    detail = f"{asked(operation)}{status}{error}, {row.duration_ms} ms"
    return _of_operation(operation, row.finished_at, "answered", row.outcome, detail)


def movement_seen(row: Any, payment_id: str) -> Line:
    """When the platform first listed a movement; its state and amount are of the last look."""
    whose = "foreign" if row.operation_key is None else f"operation {row.operation_key}"
    detail = f"{row.kind} of {row.amount} {row.currency}, {whose}"
    return Line(
        row.first_seen_at,
        "movement",
        row.state,
        detail,
        "movement",
        row.platform_operation_id,
        row.merchant_id,
        payment_id,
        row.kind,
    )


def asked(operation: Any) -> str:
    """What an operation is about."""
    return f"{operation.kind} of {operation.amount or 'all'} {operation.currency or ''}".rstrip()


def _of_event(row: Any, at: datetime, what: str, state: str, detail: str) -> Line:
    return Line(at, what, state, detail, "event", str(row.event_key), row.merchant_id, row.payment_id, row.type)


def _of_operation(operation: Any, at: datetime, what: str, state: str, detail: str) -> Line:
    key, kind = str(operation.operation_key), operation.kind
    return Line(at, what, state, detail, "operation", key, operation.merchant_id, _payment_of(operation), kind)


def _payment_of(operation: Any) -> str:
    """Its payment's canonical id; what was refused as it was asked for may have none."""
    known: str | None = operation.canonical_id or canonical_payment_id(operation.payment_id)
    return known or str(operation.payment_id)
