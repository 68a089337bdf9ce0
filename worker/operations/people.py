"""What a person decides about an operation: taken back before it was sent, or settled where evidence does not tell."""

from typing import Any, Literal

from sqlalchemy import Connection, Row, select

from worker.database import now
from worker.journal import ACKNOWLEDGED
from worker.lifecycle import OperationState
from worker.models import Attempt, Operation
from worker.operations.ledger import open_ledger
from worker.operations.moves import move, note
from worker.operations.settling import renew, wake

Verdict = Literal["succeeded", "refused", "resend"]


class CannotDecide(Exception):
    """An operation is not where this can be decided about it; says where it is, and what can."""


def withdraw(connection: Connection, operation_key: int, *, actor: str, why: str) -> tuple[int, ...]:
    """Take back an operation that was never sent.

    Returns:
        The operations of its payment whose turn it is now, to be rung for.

    Raises:
        CannotDecide: there is none, or it may have been sent.
    """
    operation = _locked(connection, operation_key)
    if operation.state == OperationState.REQUESTED:
        move(connection, operation, OperationState.REFUSED, f"withdrawn before it was accepted: {why}", actor=actor)
    elif operation.state == OperationState.PLANNED and not _may_have_left(connection, operation):
        move(connection, operation, OperationState.WITHDRAWN, f"withdrawn: {why}", actor=actor)
    else:
        raise CannotDecide(
            f"operation {operation_key} is {operation.state} and may have been sent: only what was never sent can be "
            "withdrawn; what was captured can be refunded"
        )
    return _woken(connection, operation)


def resolve(connection: Connection, operation_key: int, verdict: Verdict, *, actor: str, why: str) -> tuple[int, ...]:
    """Settle an operation that is in review, by what a person has found out.

    Args:
        connection: a transaction.
        operation_key: which.
        verdict: ``succeeded`` and ``refused`` say what happened; ``resend`` plans it again, under a new idempotence
            key, which moves the money a second time if the first request did move it.
        actor: who says so.
        why: how they know.

    Returns:
        As `withdraw`.

    Raises:
        CannotDecide: there is none, or it is not in review.
    """
    operation = _locked(connection, operation_key)
    if operation.state != OperationState.REVIEW:
        raise CannotDecide(f"operation {operation_key} is {operation.state}: only what is in review can be resolved")
    if verdict != "resend":
        move(connection, operation, OperationState(verdict), f"resolved as {verdict}: {why}", actor=actor)
        return _woken(connection, operation)
    renew(connection, operation, f"to be sent again: {why}", actor=actor, planned_at=now())
    return _woken(connection, operation)


def acknowledge(connection: Connection, operation_key: int, *, actor: str, why: str) -> tuple[int, ...]:
    """Note that somebody has seen to what the platform shows against an operation. It stays as it is; a new
    contradiction is shown anew.

    Returns:
        As `withdraw`; nobody has waited for this.

    Raises:
        CannotDecide: there is none, or nothing contradicts it.
    """
    operation = _locked(connection, operation_key)
    if operation.anomaly is None:
        raise CannotDecide(f"operation {operation_key} is {operation.state}, and nothing contradicts that")
    note(connection, operation, f"{ACKNOWLEDGED}{why}", actor=actor)
    return ()


def _woken(connection: Connection, operation: Row[Any]) -> tuple[int, ...]:
    """Whoever waited for this one waits no longer."""
    return () if operation.payment_key is None else wake(connection, open_ledger(connection, operation.payment_key))


def _locked(connection: Connection, operation_key: int) -> Row[Any]:
    """The operation's row under its payment's lock, as everyone who changes one holds it."""
    chosen = select(Operation.__table__).where(Operation.operation_key == operation_key)
    operation = connection.execute(chosen).one_or_none()
    if operation is None:
        raise CannotDecide(f"there is no operation {operation_key}")
    if operation.payment_key is None:
        return operation
    open_ledger(connection, operation.payment_key)
    return connection.execute(chosen).one()


def _may_have_left(connection: Connection, operation: Row[Any]) -> bool:
    sent = select(Attempt.attempt_key).where(Attempt.operation_key == operation.operation_key)
    sent = sent.where(Attempt.outcome.is_distinct_from("not_sent")).limit(1)
    return connection.execute(sent).one_or_none() is not None
