"""The timeline of an event or a payment: everything that touched it, in order of time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from worker.journal import payment_name
from worker.models import Attempt, JournalEntry, Movement, Operation, Payment, WebhookEvent
from worker.reports import lines
from worker.reports.lines import Line

#: Of each kind of row so many are told, the newest: a payment may have been sent a hundred thousand events.
MOST = 1000

#: What is told of an event; its body never is.
EVENT = (
    WebhookEvent.event_key,
    WebhookEvent.merchant_id,
    WebhookEvent.payment_id,
    WebhookEvent.type,
    WebhookEvent.key_id,
    WebhookEvent.received_at,
    WebhookEvent.deliveries,
    WebhookEvent.done_at,
    WebhookEvent.outcome,
    WebhookEvent.problem,
)


@dataclass(frozen=True)
class Timeline:
    """What happened, in order of time."""

    lines: tuple[Line, ...]
    is_cut: bool  # whether there was more of it, earlier


def timeline_of_payment(connection: Connection, payment: Mapping[str, Any]) -> Timeline:
    """What touched a payment: its events, the journal of it and of its operations, attempts and movements.

    Args:
        connection: to read with.
        payment: its columns.
    """
    merchant_id, payment_id, payment_key = payment["merchant_id"], payment["payment_id"], payment["payment_key"]
    events = _newest(connection, select(*EVENT), WebhookEvent.event_key, _is_about(merchant_id, payment_id))
    operations = {row.operation_key: row for row in _operations_of(connection, payment_key)}
    attempts = _newest(
        connection, select(Attempt.__table__), Attempt.attempt_key, Attempt.operation_key.in_(operations)
    )
    movements = _newest(
        connection, select(Movement.__table__), Movement.movement_key, Movement.payment_key == payment_key
    )
    journal = [
        *_journal(connection, "payment", [payment_name(merchant_id, payment_id)]),
        *_journal(connection, "operation", [str(key) for key in operations]),
        *_journal(connection, "event", [str(row.event_key) for row in events]),
        *_journal(connection, "request", [payment_id, f"{payment_id}_0"]),
    ]
    told = [
        *_of_events(events),
        *(lines.journalled(row, _subject(row, operations)) for row in journal),
        *(lines.attempt_sent(row, operations[row.operation_key]) for row in attempts),
        *(lines.attempt_answered(row, operations[row.operation_key]) for row in attempts if row.finished_at),
        *(lines.movement_seen(row, payment_id) for row in movements),
    ]
    return _in_order(told, is_cut=any(len(rows) == MOST for rows in (events, operations, attempts, movements)))


def timeline_of_event(connection: Connection, event: Mapping[str, Any]) -> Timeline:
    """What became of an event: its coming, what people did with it, its end, and what its payment did since it came.

    Args:
        connection: to read with.
        event: its columns.
    """
    rows: Any = connection.execute(select(*EVENT).where(WebhookEvent.event_key == event["event_key"])).all()
    journal = list(_journal(connection, "event", [str(event["event_key"])]))
    if event["payment_id"] is not None:
        subject, since = f"{event['merchant_id']}/{event['payment_id']}", JournalEntry.at >= event["received_at"]
        journal += _journal(connection, "payment", [subject], since)
    return _in_order([*_of_events(rows), *map(lines.journalled, journal)], is_cut=False)


def operations_by_key(connection: Connection, operation_keys: Iterable[int]) -> dict[int, Any]:
    """What lines tell of operations: whose they are, and what they are about."""
    chosen = _OPERATIONS.where(Operation.operation_key.in_(list(operation_keys)))
    return {row.operation_key: row for row in connection.execute(chosen)}


def _operations_of(connection: Connection, payment_key: int) -> list[Row[Any]]:
    return _newest(connection, _OPERATIONS, Operation.operation_key, Operation.payment_key == payment_key)


def _is_about(merchant_id: str, payment_id: str) -> ColumnElement[bool]:
    return (WebhookEvent.payment_id == payment_id) & (WebhookEvent.merchant_id == merchant_id)


def _newest(connection: Connection, chosen: Any, key: Any, condition: ColumnElement[bool]) -> list[Row[Any]]:
    # Sorted, not walked along the key: see newest_keys.
    return list(connection.execute(chosen.where(condition).order_by((key + 0).desc()).limit(MOST)))


def _journal(
    connection: Connection, subject: str, subject_ids: list[str], *more: ColumnElement[bool]
) -> list[Row[Any]]:
    chosen = select(JournalEntry.__table__).where(
        JournalEntry.subject == subject, JournalEntry.subject_id.in_(subject_ids), *more
    )
    return list(connection.execute(chosen.order_by((JournalEntry.journal_key + 0).desc()).limit(MOST)))


def _subject(row: Row[Any], operations: Mapping[int, Row[Any]]) -> Row[Any] | None:
    return operations.get(int(row.subject_id)) if row.subject == "operation" else None


def _of_events(rows: Iterable[Row[Any]]) -> list[Line]:
    told = []
    for row in rows:
        told.append(lines.event_received(row))
        if row.done_at is not None:
            told.append(lines.event_done(row))
    return told


def _in_order(told: list[Line], *, is_cut: bool) -> Timeline:
    return Timeline(tuple(sorted(told, key=lambda line: line.at)), is_cut)


_OPERATIONS: Any = (
    select(
        Operation.operation_key,
        Operation.merchant_id,
        Operation.payment_id,
        Operation.kind,
        Operation.amount,
        Operation.currency,
        Payment.payment_id.label("canonical_id"),
    )
    .select_from(Operation)
    .outerjoin(Payment, Payment.payment_key == Operation.payment_key)
)
