"""What a payment's money is spent on: its movements and our operations, read under its row lock."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from worker.database import now
from worker.lifecycle import HOLDING, MovementKind, MovementState, OperationState, PaymentState
from worker.models import Movement, Operation, Payment

#: What takes from the money authorised; refunds take from what was captured.
AUTHORISATION = frozenset({MovementKind.CAPTURE.value, MovementKind.CANCEL.value})

#: Sent, perhaps: before the next of the payment is sent, its end must be known.
UNSETTLED = frozenset({OperationState.SENDING.value, OperationState.UNKNOWN.value, OperationState.REVIEW.value})

#: Nothing of such a payment can be captured or released any more.
_OVER = frozenset({PaymentState.REFUNDED.value, PaymentState.CANCELLED.value, PaymentState.REJECTED.value})

_HOLDING = frozenset(state.value for state in HOLDING)
_PAYMENT = tuple(column for column in Payment.__table__.columns if column.name != "snapshot")


@dataclass(frozen=True)
class Ledger:
    """A payment, what the platform lists of it, and what of our operations is not over."""

    payment: Row[Any]  # with ``at``, the database's time
    movements: tuple[Row[Any], ...]
    operations: tuple[Row[Any], ...]  # every one of the payment, in the order of their promises

    def operation(self, operation_key: int) -> Row[Any]:
        """One of the payment's operations, as it is now."""
        return next(one for one in self.operations if one.operation_key == operation_key)

    def movement_of(self, operation: Row[Any]) -> Row[Any] | None:
        """What the platform lists for an operation of ours, once the two are linked."""
        return next((one for one in self.movements if one.operation_key == operation.operation_key), None)

    def remainder(self, but: Row[Any] | None = None) -> int:
        """What could still be captured or cancelled.

        Args:
            but: an operation that is to be covered itself: it and those promised after it are left out.
        """
        if self._closed(but):
            return 0
        spent = sum(one.amount for one in self.movements if one.kind in AUTHORISATION and _counts(one))
        if not self._lists_captures():
            spent += self.payment.amount_captured  # a sale need not list its capture
        left: int = self.payment.amount_authorised - spent - self._held(AUTHORISATION, but)
        return left

    def refundable(self, but: Row[Any] | None = None, *, pending: bool) -> int:
        """What could still be refunded.

        Args:
            but: as above.
            pending: whether captures that the platform has not confirmed yet count too.
        """
        captures = [one for one in self.movements if one.kind == MovementKind.CAPTURE and _counts(one)]
        captured = sum(one.amount for one in captures if pending or one.state == MovementState.DONE)
        if not self._lists_captures():
            captured = int(self.payment.amount_captured)  # as above
        refunded = sum(one.amount for one in self.movements if one.kind == MovementKind.REFUND and _counts(one))
        left: int = captured - refunded - self._held({MovementKind.REFUND.value}, but)
        return left

    def covers(self, operation: Row[Any]) -> bool:
        """Whether an operation that was promised is still covered, before those promised after it."""
        if operation.kind == MovementKind.REFUND:
            return bool(self.refundable(operation, pending=True) >= operation.amount)
        return bool(self.payment.state not in _OVER and self.remainder(operation) >= operation.amount)

    def lists_room_for(self, operation: Row[Any]) -> bool:
        """Whether what the platform lists leaves room for an operation that may have been sent.

        Neither what is only promised here counts, nor what the payment's status says: our own request can have brought
        that about before it is listed, and must not be taken for the reason why there is no room for it.
        """
        if operation.kind == MovementKind.REFUND:
            return replace(self, operations=(operation,)).covers(operation)
        spent = sum(one.amount for one in self.movements if one.kind in AUTHORISATION and _counts(one))
        authorised = self.payment.amount_authorised  # 0 while the status says that it is not: that says nothing either
        return not (spent and authorised) or bool(authorised - spent >= operation.amount)

    def sendable(self, operation: Row[Any]) -> bool:
        """Whether it may leave now: the platform refunds captures that are final, so a refund may have to wait."""
        if operation.kind == MovementKind.REFUND:
            return bool(self.refundable(operation, pending=False) >= operation.amount)
        return self.is_open()

    def is_open(self) -> bool:
        """Whether the payment's state lets money be captured or released; after a part of it was captured, the
        platform may call the payment captured already."""
        if self.payment.state == PaymentState.CAPTURED:
            return self._lists_captures()
        return bool(self.payment.state == PaymentState.AUTHORISED)

    def next_planned(self) -> Row[Any] | None:
        """The operation whose turn it is; None while another's end is not known, or there is none to send."""
        if any(one.state in UNSETTLED for one in self.operations):
            return None
        planned = (one for one in self.operations if one.state == OperationState.PLANNED)
        return next((one for one in planned if self.sendable(one)), None)

    def _lists_captures(self) -> bool:
        return any(one.kind == MovementKind.CAPTURE for one in self.movements)

    def _closed(self, but: Row[Any] | None) -> bool:
        """Whether a capture of ours was the last one its caller wanted, so that what is left was released."""
        refused = {one.operation_key for one in self.movements if not _counts(one)}
        return any(
            one.is_final and one.kind == MovementKind.CAPTURE and one.state in _HOLDING and _before(one, but)
            for one in self.operations
            if one.operation_key not in refused
        )

    def _held(self, kinds: Iterable[str], but: Row[Any] | None) -> int:
        """What our operations take for which the platform lists nothing yet."""
        listed = {one.operation_key for one in self.movements}
        return sum(
            one.amount
            for one in self.operations
            if one.kind in kinds and one.state in _HOLDING and one.operation_key not in listed and _before(one, but)
        )


def open_ledger(connection: Connection, payment_key: int) -> Ledger:
    """Lock a payment's row and read what stands beside it. Whoever promises, sends or settles holds this lock.

    On SQLite a transaction that writes is the only one there is.
    """
    payment = connection.execute(_of_payment(payment_key).with_for_update()).one()
    movements = connection.execute(
        select(Movement.__table__).where(Movement.payment_key == payment_key).order_by(Movement.movement_key)
    ).all()
    return Ledger(payment, tuple(movements), operations_of(connection, payment_key))


def operations_of(connection: Connection, payment_key: int) -> tuple[Row[Any], ...]:
    """Every operation of a payment, in the order of their promises."""
    chosen = select(Operation.__table__).where(Operation.payment_key == payment_key)
    rows = connection.execute(chosen.order_by(Operation.planned_at, Operation.operation_key)).all()
    return tuple(rows)


def _of_payment(payment_key: int) -> Select[Any]:
    return select(*_PAYMENT, now().label("at")).where(Payment.payment_key == payment_key)


def _counts(movement: Row[Any]) -> bool:
    return bool(movement.state != MovementState.REFUSED)


def _before(one: Row[Any], but: Row[Any] | None) -> bool:
    """Whether an operation goes before another: it was promised sooner, or it may have left already."""
    if but is None:
        return True
    if one.operation_key == but.operation_key:
        return False
    if one.state != OperationState.PLANNED:
        return True
    if but.state != OperationState.PLANNED:
        return False
    return bool((one.planned_at, one.operation_key) < (but.planned_at, but.operation_key))
