"""Questions about operations: one, a list of them, and the story of one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from worker.models import Attempt, JournalEntry, Movement, Operation, Payment


@dataclass(frozen=True)
class Wanted:
    """Which operations are asked about; what is None asks for any."""

    states: tuple[str, ...] = ()
    payment_id: str | None = None  # canonical
    merchant_id: str | None = None
    source: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    anomalies: bool = False
    limit: int = 100


def operation(connection: Connection, operation_key: int) -> dict[str, Any]:
    """An operation: all its columns, and the request's body as the text it is.

    Raises:
        LookupError: there is none.
    """
    row = connection.execute(_operations().where(Operation.operation_key == operation_key)).one_or_none()
    if row is None:
        raise LookupError(f"there is no operation {operation_key}")
    return _told(row)


def operations(connection: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    """Operations, the newest first."""
    chosen = _operations().order_by(Operation.operation_key.desc()).limit(wanted.limit)
    if wanted.states:
        chosen = chosen.where(Operation.state.in_(wanted.states))
    if wanted.payment_id is not None:
        refused_unread = Operation.payment_id.startswith(f"{wanted.payment_id}_", autoescape=True)
        refused_unread |= Operation.payment_id == wanted.payment_id
        unknown = Operation.payment_key.is_(None) & refused_unread  # what was wrong as it was asked for has no payment
        chosen = chosen.where((Payment.payment_id == wanted.payment_id) | unknown)
    for column in (Operation.merchant_id, Operation.source, Operation.request_id):
        value = getattr(wanted, column.key)
        if value is not None:
            chosen = chosen.where(column == value)
    if wanted.since is not None:
        chosen = chosen.where(Operation.created_at >= wanted.since)
    if wanted.anomalies:
        chosen = chosen.where(Operation.anomaly.is_not(None))
    return [_told(row) for row in connection.execute(chosen)]


def story(connection: Connection, operation_key: int) -> dict[str, Any]:
    """An operation with all that was done about it: attempts, the journal, and what moved on its payment.

    Not its own movement alone: whoever asks what became of it has to see what else it could be.

    Raises:
        LookupError: there is none.
    """
    told = operation(connection, operation_key)
    beside = {
        "attempts": select(Attempt.__table__).where(Attempt.operation_key == operation_key),
        "movements": select(Movement.__table__).where(Movement.payment_key == told["payment_key"]),
        "journal": select(JournalEntry.__table__).where(
            JournalEntry.subject == "operation", JournalEntry.subject_id == str(operation_key)
        ),
    }
    for name, chosen in beside.items():
        told[name] = [dict(row._mapping) for row in connection.execute(chosen.order_by(chosen.selected_columns[0]))]
    return told


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON takes it, for who asked: times in ISO 8601, and nothing that only our own processes go by."""
    told = {name: value for name, value in row.items() if name not in ("request_sha256", "request_body", "claim_token")}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in told.items()}


def _operations() -> Select[Any]:
    with_payment = Operation.__table__.outerjoin(Payment.__table__, Payment.payment_key == Operation.payment_key)
    return select(*Operation.__table__.columns).select_from(with_payment)


def _told(row: Row[Any]) -> dict[str, Any]:
    body = row.request_body
    return {**row._mapping, "request_body": None if body is None else body.decode()}
