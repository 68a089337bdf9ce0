"""Which of what the platform lists is which operation of ours: by our reference, or because it can be nothing else."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, update

from worker.lifecycle import MovementState, OperationState
from worker.models import Movement, Operation
from worker.operations.ledger import Ledger, open_ledger
from worker.operations.moves import note, note_anomaly


def link(connection: Connection, payment_key: int) -> Ledger:
    """Link what the platform lists to the operations of ours that it names as its reference.

    An operation has one movement. A second one of the same reference would be the same money moved twice: it stays
    unlinked, counts like anybody's, and is shown as an anomaly.
    """
    ledger = open_ledger(connection, payment_key)
    linked = {one.operation_key for one in ledger.movements}
    before = len(linked)
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
    if len(linked) > before:
        ledger = open_ledger(connection, payment_key)
    return open_ledger(connection, payment_key) if _link_unnamed(connection, ledger) else ledger


def could_be(movement: Row[Any], operation: Row[Any], since: datetime) -> bool:
    """Whether a movement that names nobody, and was not there before ``since``, could be an operation's."""
    return bool(
        movement.operation_key is None
        and movement.reference is None
        and (movement.kind, movement.amount, movement.currency)
        == (operation.kind, operation.amount, operation.currency)
        and movement.first_seen_at >= since
    )


def _link_unnamed(connection: Connection, ledger: Ledger) -> bool:
    """Link what the platform accepted without naming its operation, and lists without our reference: the one movement
    it can be, if there is one, and no other operation that it could be instead."""
    waiting = [
        one for one in ledger.operations if one.state == OperationState.ACCEPTED and ledger.movement_of(one) is None
    ]
    for operation in waiting:
        alike = [one for one in waiting if (one.kind, one.amount) == (operation.kind, operation.amount)]
        found = [one for one in ledger.movements if could_be(one, operation, operation.first_sent_at)]
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


def _again(connection: Connection, operation: Row[Any], movement: Row[Any]) -> None:
    if movement.state != MovementState.REFUSED:
        told = f"{movement.platform_operation_id} of {movement.amount} {movement.currency}"
        note_anomaly(connection, operation, f"the platform lists it more than once: {told} too")
