"""Whose turn it is: how many requests a look takes, and whether its payment has waited for them already."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from worker.lifecycle import PaymentState, lists_are_read
from worker.models import Operation

#: A turn that comes so soon is waited for with the claim in hand: to release it would cost more.
SOON = 0.2

#: A turn is kept for so long after it has come; later, others have had it.
KEPT = timedelta(seconds=10)


#: What a look takes at most.
MOST_CALLS = 4


def calls_of(payment: Row[Any]) -> int:
    """How many requests a look at a payment will take, going by how it stood at the last one.

    A first look is given the most: what it does not need it gives back, but thousands that wait for their turns could
    not be put off any more if each then took more than was thought.
    """
    state = PaymentState(payment.state)
    if payment.refreshed_at is None:
        return MOST_CALLS
    if not lists_are_read(state, payment.status_code):
        return 1
    return 3 if state is PaymentState.AUTHORISED else MOST_CALLS


def has_come(payment: Row[Any]) -> bool:
    """Whether the payment's turn has come, for which it was put off."""
    return payment.turn_at is not None and payment.turn_at <= payment.at <= payment.turn_at + KEPT


def serves_operation(connection: Connection, payment: Row[Any]) -> bool:
    """Whether an operation that has not ended waits for a look at the payment."""
    if not payment.has_operations:
        return False
    waits = exists().where(Operation.payment_key == payment.payment_key, Operation.due_at.is_not(None))
    return bool(connection.execute(select(waits)).scalar_one())
