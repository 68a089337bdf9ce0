"""An operation's change of state: one of those there are, written with its journal line."""

from typing import Any

import structlog
from sqlalchemy import Connection, Row, null, update

from worker import journal, metrics
from worker.lifecycle import ABSORBING, OPERATION_MOVES, OperationState, canonical_payment_id
from worker.models import Operation

log = structlog.get_logger("payhook.operations")


def move(
    connection: Connection,
    operation: Row[Any],
    state: OperationState,
    why: str,
    *,
    actor: str = journal.OURSELVES,
    **values: Any,
) -> None:
    """Bring an operation into a state, under its payment's row lock.

    Args:
        connection: a transaction that holds the lock.
        operation: the row as it is.
        state: where it goes; the claim there was ends, but for `OperationState.SENDING`.
        why: for a person, and the row's reason where nothing follows or a person is asked.
        actor: who did it.
        values: further columns.

    Raises:
        ValueError: no such move.
    """
    before = OperationState(operation.state)
    if state not in OPERATION_MOVES[before]:
        raise ValueError(f"an operation that is {before} cannot become {state}")
    ends = state in ABSORBING or state is OperationState.REVIEW
    changed: dict[str, Any] = {"state": state.value, "reason": why if ends else None}
    if state is not OperationState.SENDING:
        changed |= {"claim_token": None, "claimed_until": null()}
    if ends:
        changed |= {"due_at": null()}
    connection.execute(
        update(Operation).where(Operation.operation_key == operation.operation_key).values(**{**changed, **values})
    )
    note(connection, operation, why, after=state, actor=actor)
    metrics.OPERATIONS.labels(operation.kind, state.value).inc()


def ids_of(operation: Row[Any]) -> dict[str, Any]:
    """What a line in the log says of which operation it is about."""
    return {
        "operation_key": operation.operation_key,
        "payment_key": operation.payment_key,
        "payment_id": canonical_payment_id(operation.payment_id) or operation.payment_id,
        "merchant_id": operation.merchant_id,
        "request_id": operation.request_id,
    }


def note(
    connection: Connection,
    operation: Row[Any],
    why: str,
    *,
    after: OperationState | None = None,
    actor: str = journal.OURSELVES,
) -> None:
    """A journal line of an operation, of a change or of something seen."""
    journal.write(
        connection,
        "operation",
        str(operation.operation_key),
        before=operation.state,
        after=after.value if after else operation.state,
        why=why,
        actor=actor,
    )


def note_anomaly(connection: Connection, operation: Row[Any], anomaly: str) -> None:
    """Mark an operation with what the platform shows against it, once, for a person; nothing else changes."""
    if operation.anomaly == anomaly:
        return
    log.error("operation.anomaly", state=operation.state, anomaly=anomaly, **ids_of(operation))
    connection.execute(
        update(Operation).where(Operation.operation_key == operation.operation_key).values(anomaly=anomaly)
    )
    note(connection, operation, f"{journal.ANOMALY}{anomaly}")
