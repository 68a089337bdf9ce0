"""What a look or an answer says of a payment's open operations, carried out as `worker.settlement` decides."""

from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Row, select, update

from worker.database import now
from worker.lifecycle import ABSORBING, MovementKind, MovementState, OperationState, PaymentState, lists_are_read
from worker.models import Attempt, Movement, Operation
from worker.operations.ledger import Ledger, open_ledger
from worker.operations.moves import move, note
from worker.settings import Settings
from worker.settlement import (
    OUTCOMES,
    Action,
    Answer,
    Evidence,
    Pace,
    Renew,
    Review,
    Settle,
    decide,
    unseen,
)
from worker.settlement import Attempt as AttemptSeen

log = structlog.get_logger("payhook.operations")

#: When the platform is asked what became of something it accepted, in seconds after it was sent; then the payment's
#: own polling goes on.
POLLS = (5.0, 15.0, 60.0)

#: The same for what it accepted and does not list yet, after those.
UNNAMED_POLL = timedelta(minutes=15)

#: What waits for a look or for its turn is woken when that comes; should nobody do so, it asks again after this.
WAITING_SECONDS = 60.0


def pace_of(settings: Settings) -> Pace:
    """How long things take, by the settings."""
    return Pace(
        key_seconds=settings.key_seconds,
        settling_seconds=settings.settling_seconds,
        stale_seconds=settings.settling_seconds,
        retry_max_seconds=settings.retry_max_seconds,
        unknown_max_seconds=settings.poll_moving_seconds[1],
    )


def link(connection: Connection, payment_key: int) -> Ledger:
    """Link what the platform lists to the operations of ours that it names as its reference.

    An operation has one movement. A second one of the same reference would be the same money moved twice: it stays
    unlinked, counts like anybody's, and is shown as an anomaly.
    """
    ledger = open_ledger(connection, payment_key)
    linked = {one.operation_key for one in ledger.movements}
    ours = {one.operation_uuid: one for one in ledger.operations}
    for movement in ledger.movements:
        operation = ours.get(movement.reference) if movement.operation_key is None else None
        if operation is None or (movement.kind != operation.kind and operation.state != OperationState.REQUESTED):
            continue
        if operation.operation_key in linked:
            _again(connection, operation, movement)
            continue
        linked.add(operation.operation_key)
        _link(connection, movement, operation)
    ledger = open_ledger(connection, payment_key)
    return open_ledger(connection, payment_key) if _link_unnamed(connection, ledger) else ledger


def _link_unnamed(connection: Connection, ledger: Ledger) -> bool:
    """Link what the platform accepted without naming its operation, and lists without our reference: the one movement
    it can be, if there is one, and no other operation that it could be instead."""
    waiting = [
        one for one in ledger.operations if one.state == OperationState.ACCEPTED and ledger.movement_of(one) is None
    ]
    for operation in waiting:
        alike = [one for one in waiting if (one.kind, one.amount) == (operation.kind, operation.amount)]
        found = [one for one in ledger.movements if _could_be(one, operation, operation.first_sent_at)]
        if len(alike) == 1 and len(found) == 1:
            _link(connection, found[0], operation)
            note(connection, operation, f"it is {found[0].platform_operation_id}: the only one that it can be")
            return True
    return False


def _link(connection: Connection, movement: Row[Any], operation: Row[Any]) -> None:
    chosen = Movement.movement_key == movement.movement_key
    connection.execute(update(Movement).where(chosen).values(operation_key=operation.operation_key))
    named = {"platform_operation_id": movement.platform_operation_id}
    connection.execute(update(Operation).where(Operation.operation_key == operation.operation_key).values(**named))


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
        elif movement is not None and not _under_way(operation, ledger):
            _settled(connection, ledger, operation, OUTCOMES[MovementState(movement.state)], None)
        elif not _was_searched(ledger, operation):
            continue
        elif operation.state in _SEARCHED or (operation.state == _SENDING and not _under_way(operation, ledger)):
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
        candidates=sum(_could_be(one, operation, since) for one in ledger.movements),
        covered=ledger.lists_room_for(operation) if sent else ledger.covers(operation),
    )


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
            log.error("operation.review", operation_key=operation.operation_key)
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
        operation_key=operation.operation_key,
        payment_key=operation.payment_key,
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
    _anomaly(
        connection,
        operation,
        f"it is {operation.state} here, and the platform lists {movement.platform_operation_id} of "
        f"{movement.amount} {movement.currency} as {movement.state} ({movement.status_code})",
    )


def _again(connection: Connection, operation: Row[Any], movement: Row[Any]) -> None:
    if movement.state != MovementState.REFUSED:
        told = f"{movement.platform_operation_id} of {movement.amount} {movement.currency}"
        _anomaly(connection, operation, f"the platform lists it more than once: {told} too")


def _anomaly(connection: Connection, operation: Row[Any], anomaly: str) -> None:
    if operation.anomaly == anomaly:
        return
    log.error("operation.anomaly", operation_key=operation.operation_key, state=operation.state)
    connection.execute(
        update(Operation).where(Operation.operation_key == operation.operation_key).values(anomaly=anomaly)
    )
    note(connection, operation, f"anomaly: {anomaly}")


def _was_searched(ledger: Ledger, operation: Row[Any]) -> bool:
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


def _under_way(operation: Row[Any], ledger: Ledger) -> bool:
    """Whether its request is on its way right now: whoever sent it will say what came of it."""
    return bool(
        operation.state == _SENDING
        and operation.claimed_until is not None
        and operation.claimed_until > ledger.payment.at
    )


def _could_be(movement: Row[Any], operation: Row[Any], since: datetime) -> bool:
    """Whether a movement that names nobody could be an operation's."""
    return bool(
        movement.operation_key is None
        and movement.reference is None
        and (movement.kind, movement.amount, movement.currency)
        == (operation.kind, operation.amount, operation.currency)
        and movement.first_seen_at >= since
    )


_SENDING = OperationState.SENDING.value
_OVER = frozenset(state.value for state in ABSORBING)
#: Looked for among what the platform lists. One that is planned can be there too: from before a backup was restored.
_SEARCHED = frozenset({OperationState.PLANNED, OperationState.UNKNOWN, OperationState.ACCEPTED})


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
