"""Questions about operations: one, a list of them, and the story of one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, text

from worker.database import seconds_from_now
from worker.lifecycle import ABSORBING, OperationState
from worker.models import Attempt, JournalEntry, Movement, Operation, Payment
from worker.reports.pages import UNHEARD_RINGS, last_key_before, merchants, newest_keys

#: An operation that is in one of these states for longer than this waits for somebody. What is accepted is settled
#: over night, or after a weekend; what is planned may wait for a capture that is.
USUAL_SECONDS = {
    OperationState.REQUESTED: 600.0,
    OperationState.SENDING: 600.0,
    OperationState.PLANNED: 3 * 86400.0,
    OperationState.ACCEPTED: 3 * 86400.0,
}

#: As the partial index has it, word for word, or SQLite does not use it.
_OPEN: Any = text("state NOT IN ('succeeded', 'refused', 'withdrawn')")


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
    reference: str | None = None  # the merchant's, of the payment
    stuck: bool = False  # unknown, in review, or open for longer than usual
    before: int | None = None  # keys below this one
    limit: int = 100


def operation(connection: Connection, operation_key: int) -> dict[str, Any]:
    """An operation: all its columns, and the request's body as the text it is.

    Raises:
        LookupError: there is none.
    """
    chosen = select(Operation.__table__).where(Operation.operation_key == operation_key)
    row = connection.execute(chosen).one_or_none()
    if row is None:
        raise LookupError(f"there is no operation {operation_key}")
    return _told(row)


def operations(connection: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    """Operations, the newest first."""
    states = [_in_state(state) for state in wanted.states] or [[]]
    if wanted.stuck:
        states = [[*one, *_stuck()] for one in states]
    whose, is_few = _of_payments(connection, wanted)
    common = _common(connection, wanted)
    branches = [([*common, *one, *two], is_few or wanted.stuck) for one in states for two in whose]
    keys = newest_keys(connection, Operation.operation_key, branches, before=wanted.before, limit=wanted.limit)
    chosen = select(Operation.__table__).where(Operation.operation_key.in_(keys))
    return [_told(row) for row in connection.execute(chosen.order_by(Operation.operation_key.desc()))]


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


def _in_state(state: str) -> list[ColumnElement[bool]]:
    conditions: list[Any] = [Operation.state == state]
    return conditions if state in ABSORBING else [*conditions, _OPEN]


def _stuck() -> list[Any]:
    late = Operation.state.in_([OperationState.UNKNOWN, OperationState.REVIEW]) | (Operation.rings >= UNHEARD_RINGS)
    for state, seconds in USUAL_SECONDS.items():
        late |= (Operation.state == state) & (Operation.created_at < seconds_from_now(-seconds))
    return [_OPEN, late]


def _of_payments(connection: Connection, wanted: Wanted) -> tuple[list[list[ColumnElement[bool]]], bool]:
    """The operations of the payments asked about, by each way in which they are found; and whether those are few."""
    if wanted.payment_id is None and wanted.reference is None:
        return [[]], False
    chosen = select(Payment.payment_key)
    if wanted.payment_id is not None:
        chosen = chosen.where(Payment.merchant_id.in_(merchants(connection)), Payment.payment_id == wanted.payment_id)
    if wanted.reference is not None:
        chosen = chosen.where(Payment.merchant_reference == wanted.reference)
    found: list[ColumnElement[bool]] = [Operation.payment_key.in_(list(connection.execute(chosen).scalars()))]
    if wanted.payment_id is None or wanted.reference is not None:
        return [found], True
    as_asked = Operation.payment_id.startswith(f"{wanted.payment_id}_", autoescape=True)
    as_asked |= Operation.payment_id == wanted.payment_id
    # What was wrong as it was asked for has no payment.
    return [found, [Operation.payment_key.is_(None), as_asked]], True


def _common(connection: Connection, wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for column in (Operation.merchant_id, Operation.source, Operation.request_id):
        value = getattr(wanted, column.key)
        if value is not None:
            conditions.append(column == value)
    if wanted.since is not None:
        last = last_key_before(connection, Operation.operation_key, Operation.created_at, wanted.since)
        conditions += [Operation.operation_key > last, Operation.created_at >= wanted.since]
    if wanted.anomalies:
        conditions.append(Operation.anomaly.is_not(None))
    return conditions


def _told(row: Row[Any]) -> dict[str, Any]:
    body = row.request_body
    return {**row._mapping, "request_body": None if body is None else body.decode()}
