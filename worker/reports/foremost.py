"""Of each kind of trouble the row that a person should begin with. Each question lives on a partial index."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, Select, String, and_, cast, func, select

from worker.database import now, seconds_from_now
from worker.journal import ACKNOWLEDGED, ANOMALY
from worker.lifecycle import OperationState, PaymentState
from worker.models import JOB_FACT, Fact, JournalEntry, Operation, Payment, WebhookEvent


def seconds_overdue(connection: Connection) -> dict[str, float]:
    """How long ago the row that is due longest fell due, by table: operations and jobs. A sweep puts each off as it
    rings, so that none is long overdue while any sweep runs."""
    at = connection.execute(select(now())).scalar_one()
    oldest = {
        "operations": select(func.min(Operation.due_at)).where(Operation.due_at.is_not(None)),
        "jobs": select(func.min(Fact.due_at)).where(Fact.due_at.is_not(None), Fact.name.startswith(JOB_FACT)),
    }
    due = {name: connection.execute(question).scalar_one() for name, question in oldest.items()}
    return {name: max((at - since).total_seconds(), 0.0) if since else 0.0 for name, since in due.items()}


def operation_in(connection: Connection, state: OperationState) -> Row[Any] | None:
    """The oldest operation in a state that is not final."""
    ended = ("succeeded", "refused", "withdrawn")  # as the partial index has it
    chosen = select(Operation.operation_key, Operation.kind, Operation.payment_id, Operation.reason)
    chosen = chosen.where(Operation.state.not_in(ended), Operation.state == state)
    return _first(connection, chosen.order_by(Operation.operation_key))


def anomaly(connection: Connection) -> Row[Any] | None:
    """The newest operation whose end the platform contradicts, and nobody has seen to it."""
    chosen = select(Operation.operation_key, Operation.anomaly).where(unacknowledged())
    return _first(connection, chosen.order_by(Operation.operation_key.desc()))


def expiring_payment(connection: Connection, *, notice_seconds: float) -> Row[Any] | None:
    """The authorised payment whose authorisation ends first, if within the notice."""
    chosen = select(Payment.payment_id, Payment.merchant_id, Payment.expires_at)
    chosen = chosen.where(
        Payment.state == PaymentState.AUTHORISED, Payment.expires_at <= seconds_from_now(notice_seconds)
    )
    return _first(connection, chosen.order_by(Payment.expires_at))


def parked_payment(connection: Connection) -> Row[Any] | None:
    """The newest payment that is looked at no more."""
    chosen = select(Payment.payment_id, Payment.merchant_id, Payment.problem)
    chosen = chosen.where(Payment.problem.is_not(None), Payment.due_at.is_(None))
    return _first(connection, chosen.order_by(Payment.payment_key.desc()))


def quarantined_event(connection: Connection) -> Row[Any] | None:
    """The newest event that was set aside."""
    chosen = select(WebhookEvent.event_key, WebhookEvent.problem).where(WebhookEvent.outcome == "quarantined")
    return _first(connection, chosen.order_by(WebhookEvent.event_key.desc()))


def unacknowledged() -> ColumnElement[bool]:
    """Of an operation: the platform contradicts its end, and since that was noted nobody has seen to it."""
    return and_(Operation.anomaly.is_not(None), _latest(ACKNOWLEDGED) <= _latest(ANOMALY))


def _latest(beginning: str) -> ScalarSelect[Any]:
    """The newest line of the journal about an operation that begins so, 0 when there is none."""
    lines = select(func.coalesce(func.max(JournalEntry.journal_key), 0)).where(
        JournalEntry.subject == "operation",
        JournalEntry.subject_id == cast(Operation.operation_key, String),
        JournalEntry.why.startswith(beginning),
    )
    return lines.correlate(Operation).scalar_subquery()


def _first(connection: Connection, chosen: Select[*tuple[Any, ...]]) -> Row[Any] | None:
    return connection.execute(chosen.limit(1)).one_or_none()
