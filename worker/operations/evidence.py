"""What our record knows of an operation, as the decision core asks for it."""

from typing import Any

from sqlalchemy import Connection, Row, select

from worker.lifecycle import MovementKind, MovementState, OperationState, PaymentState, lists_are_read
from worker.models import Attempt
from worker.operations.ledger import Ledger
from worker.operations.linking import could_be
from worker.settings import Settings
from worker.settlement import Answer, Evidence, Pace
from worker.settlement import Attempt as AttemptSeen


def pace_of(settings: Settings) -> Pace:
    """How long things take, by the settings."""
    return Pace(
        key_seconds=settings.key_seconds,
        settling_seconds=settings.settling_seconds,
        stale_seconds=settings.settling_seconds,
        retry_max_seconds=settings.retry_max_seconds,
        unknown_max_seconds=settings.poll_moving_seconds[1],
    )


def evidence_of(connection: Connection, ledger: Ledger, operation: Row[Any]) -> Evidence:
    """All that the record knows of an operation."""
    rows = connection.execute(
        select(Attempt.generation, Attempt.started_at, Attempt.outcome)
        .where(Attempt.operation_key == operation.operation_key)
        .order_by(Attempt.attempt_key)
    ).all()
    attempts = tuple(AttemptSeen(row.generation, row.started_at, row.outcome and Answer(row.outcome)) for row in rows)
    movement = ledger.movement_of(operation)
    sent = [one.started_at for one in attempts if one.answer is not Answer.NOT_SENT]
    # Not those from before a person had it sent again: what they moved was known then.
    since = next((at for at in sent if at >= operation.planned_at), operation.planned_at)
    return Evidence(
        kind=MovementKind(operation.kind),
        planned_at=operation.planned_at,
        generation=operation.generation,
        attempts=attempts,
        movement=MovementState(movement.state) if movement else None,
        looked_at=operation.last_looked_at,
        negative_looks=operation.negative_looks,
        candidates=sum(could_be(one, operation, since) for one in ledger.movements),
        covered=ledger.lists_room_for(operation) if sent else ledger.covers(operation),
    )


def was_searched(ledger: Ledger, operation: Row[Any]) -> bool:
    """Whether the look has read the list that the operation would stand in; what was never sent stands in none."""
    payment = ledger.payment
    if operation.first_sent_at is None and operation.generation == 0:
        return True
    if not lists_are_read(PaymentState(payment.state), payment.status_code):
        return False
    if operation.kind != MovementKind.REFUND or payment.state in (PaymentState.CAPTURED, PaymentState.REFUNDED):
        return True
    captures = (one for one in ledger.movements if one.kind == MovementKind.CAPTURE)
    return any(one.last_seen_at >= payment.refreshed_at for one in captures)  # then refunds were asked for too


def is_under_way(operation: Row[Any], ledger: Ledger) -> bool:
    """Whether its request is on its way right now: whoever sent it will say what came of it."""
    return bool(
        operation.state == OperationState.SENDING
        and operation.claimed_until is not None
        and operation.claimed_until > ledger.payment.at
    )
