"""What a look or an answer says of a payment's open operations, carried out as `worker.settlement` decides."""

from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Row, select, update

from worker.database import now
from worker.lifecycle import ABSORBING, MovementState, OperationState
from worker.models import Operation
from worker.operations.evidence import evidence_of, is_under_way, was_searched
from worker.operations.ledger import Ledger, open_ledger
from worker.operations.moves import ids_of, move, note_anomaly
from worker.settlement import OUTCOMES, Action, Evidence, Pace, Renew, Review, Settle, decide, unseen

log = structlog.get_logger("payhook.operations")

#: When the platform is asked what became of something it accepted, in seconds after it was sent; then the payment's
#: own polling goes on.
POLLS = (5.0, 15.0, 60.0)

#: The same for what it accepted and does not list yet, after those.
UNNAMED_POLL = timedelta(minutes=15)

#: What waits for a look or for its turn is woken when that comes; should nobody do so, it asks again after this.
WAITING_SECONDS = 60.0


def settle(connection: Connection, ledger: Ledger, looked_at: datetime, pace: Pace) -> Ledger:
    """Bring every open operation of a payment forward by a clean, complete look that is recorded already.

    Args:
        connection: the transaction that records the look.
        ledger: of the payment.
        looked_at: when the look began; what it does not show may have happened since.
        pace: the intervals.
    """
    for operation in ledger.operations:
        movement = ledger.movement_of(operation)
        if operation.state in _OVER:
            _contradicted(connection, operation, movement)
            continue
        if movement is not None and not is_under_way(operation, ledger):
            _settled(connection, ledger, operation, OUTCOMES[MovementState(movement.state)], None)
        elif not was_searched(ledger, operation):
            continue
        elif operation.state in _SEARCHED or (operation.state == _SENDING and not is_under_way(operation, ledger)):
            _not_seen(connection, ledger, operation, looked_at, pace)
        else:
            continue
        ledger = open_ledger(connection, ledger.payment.payment_key)  # what this one lets go of may cover the next
    return ledger


def wake(connection: Connection, ledger: Ledger, but: int | None = None) -> tuple[int, ...]:
    """Let the operation whose turn it is now have its turn.

    Args:
        connection: the transaction in which something ended.
        ledger: as it is then.
        but: an operation that knows itself when it is due.

    Returns:
        The operations to be rung for: that one, and those in doubt that are due.
    """
    turn, at = ledger.next_planned(), ledger.payment.at
    due = [one for one in ledger.operations if one.state == OperationState.UNKNOWN and one.due_at and one.due_at <= at]
    if turn is not None and turn.operation_key != but:
        chosen = Operation.operation_key == turn.operation_key
        connection.execute(update(Operation).where(chosen).values(due_at=now(), rings=0))
        due.append(turn)
    return tuple(one.operation_key for one in due)


def advance(connection: Connection, ledger: Ledger, operation: Row[Any], pace: Pace, told: str | None = None) -> Action:
    """Decide what is next for an operation, and write it down; what is to be sent now is left to be claimed.

    Args:
        connection: a transaction.
        ledger: of its payment, as it is now.
        operation: its row, as it is now.
        pace: the intervals.
        told: what the last attempt was answered, safe to store.
    """
    return _decide(connection, ledger, operation, evidence_of(connection, ledger, operation), pace, told)


def _not_seen(connection: Connection, ledger: Ledger, operation: Row[Any], looked_at: datetime, pace: Pace) -> None:
    evidence = unseen(evidence_of(connection, ledger, operation), looked_at, pace)
    connection.execute(
        update(Operation)
        .where(Operation.operation_key == operation.operation_key)
        .values(last_looked_at=evidence.looked_at, negative_looks=evidence.negative_looks)
    )
    _decide(connection, ledger, operation, evidence, pace, operation.reason)


def _decide(
    connection: Connection, ledger: Ledger, operation: Row[Any], evidence: Evidence, pace: Pace, told: str | None
) -> Action:
    action = decide(evidence, ledger.payment.at, pace)
    if isinstance(action, Settle):
        _settled(connection, ledger, operation, action, told)
    elif isinstance(action, Renew):
        renew(connection, operation, action.reason)
    elif isinstance(action, Review):
        if operation.state != OperationState.REVIEW:
            log.error("operation.review", question=action.question, **ids_of(operation))
            move(connection, operation, OperationState.REVIEW, action.question)
    else:
        _waits(connection, operation, evidence, action.due, told)
    return action


def _settled(connection: Connection, ledger: Ledger, operation: Row[Any], action: Settle, told: str | None) -> None:
    movement = ledger.movement_of(operation)
    named: dict[str, Any] = {} if movement is None else {"platform_operation_id": movement.platform_operation_id}
    if action.state == operation.state:
        _polled(connection, ledger, operation)
        return
    why = ": ".join(filter(None, (action.reason, told)))
    if movement is not None:
        why = f"the platform says {movement.status_code} {movement.status or ''}".rstrip()
        if action.state is OperationState.REFUSED:
            why += f"; the {movement.amount} {movement.currency} it held are free again"
    if operation.state == OperationState.REQUESTED and movement is not None:
        # Asked for once more after an old backup was restored: it was made in the time that the backup does not know.
        named |= {"kind": movement.kind, "amount": movement.amount, "currency": movement.currency, "planned_at": now()}
    if action.state is OperationState.ACCEPTED:
        why = why or "the platform has it, and names no operation"
        named["due_at"] = _poll_at(ledger, operation)
    log.info(
        "operation.settled",
        **ids_of(operation),
        kind=operation.kind,
        state=action.state.value,
        amount=operation.amount,
        currency=operation.currency,
    )
    move(connection, operation, action.state, why, claims=0, **named)


def _polled(connection: Connection, ledger: Ledger, operation: Row[Any]) -> None:
    """Accepted still: the next of its polls, then the payment's own."""
    connection.execute(
        update(Operation)
        .where(Operation.operation_key == operation.operation_key)
        .values(due_at=_poll_at(ledger, operation), rings=0)
    )


def _poll_at(ledger: Ledger, operation: Row[Any]) -> datetime | None:
    at: datetime = ledger.payment.at
    sent = operation.last_sent_at or at
    later = (sent + timedelta(seconds=seconds) for seconds in POLLS)
    soon = next((moment for moment in later if moment > at), None)
    if soon is None and ledger.movement_of(operation) is None:
        return at + UNNAMED_POLL  # the payment's own polling does not know that something is under way
    return soon


def renew(connection: Connection, operation: Row[Any], why: str, **values: Any) -> None:
    """Plan an operation again, a generation on: with another idempotence key.

    Args:
        connection: a transaction that holds its payment's row.
        operation: its row.
        why: for a person.
        values: as `worker.operations.moves.move` has them.
    """
    anew: dict[str, Any] = {"idempotence_key": None, "first_sent_at": None, "due_at": now()}
    anew |= {"generation": operation.generation + 1, **dict.fromkeys(("replayed_5xx", "negative_looks", "claims"), 0)}
    move(connection, operation, OperationState.PLANNED, why, **{**anew, **values})


def _waits(connection: Connection, operation: Row[Any], evidence: Evidence, due: datetime, told: str | None) -> None:
    """To be looked up or sent at a time: planned as long as nothing of it can have left, else unknown."""
    state = OperationState.UNKNOWN if evidence.sent_with_this_key else OperationState.PLANNED
    if state == operation.state:
        connection.execute(
            update(Operation).where(Operation.operation_key == operation.operation_key).values(due_at=due, rings=0)
        )
        return
    why = told or ("nobody saw the answer" if state is OperationState.UNKNOWN else "nothing of it was sent")
    move(connection, operation, state, why, reason=why, due_at=due, rings=0)


def _contradicted(connection: Connection, operation: Row[Any], movement: Row[Any] | None) -> None:
    """What is final stays so; that the platform shows otherwise is noted once, for a person."""
    if movement is None or (movement.state == MovementState.REFUSED) == (operation.state != OperationState.SUCCEEDED):
        return
    note_anomaly(
        connection,
        operation,
        f"it is {operation.state} here, and the platform lists {movement.platform_operation_id} of "
        f"{movement.amount} {movement.currency} as {movement.state} ({movement.status_code})",
    )


def free_every_claim(connection: Connection) -> int:
    """Call unknown what was being sent: for the one process that is the only worker, at its start.

    Returns:
        How many there were.
    """
    sending = connection.execute(select(Operation.__table__).where(Operation.state == _SENDING)).all()
    for operation in sending:
        why = "its worker ended before it saw the answer"
        move(connection, operation, OperationState.UNKNOWN, why, reason=why, due_at=now())
    return len(sending)


_SENDING = OperationState.SENDING.value
_OVER = frozenset(state.value for state in ABSORBING)
#: Looked for among what the platform lists. One that is planned can be there too: from before a backup was restored.
_SEARCHED = frozenset({OperationState.PLANNED, OperationState.UNKNOWN, OperationState.ACCEPTED})
