"""Our record of a payment as it is compared: its columns, its movements, and whether anything is under way with it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Select, and_, bindparam, exists, or_, select

from worker.database import now
from worker.lifecycle import OperationState
from worker.models import Movement, Operation, Payment, WebhookEvent


@dataclass(frozen=True)
class Record:
    """A payment as our record has it, at one moment."""

    payment: Row[Any]  # with ``under_way``
    movements: list[Row[Any]]

    def stands_still(self, later: "Record | None") -> bool:
        """Whether nothing happened to it until then, and nothing is about to."""
        if later is None or later.payment.under_way:
            return False
        return all(getattr(self.payment, name) == getattr(later.payment, name) for name in ("refreshed_at", "wanted"))


def read(connection: Connection, payment_key: int) -> Record | None:
    """The record of a payment, None when it is gone."""
    payment = connection.execute(_PAYMENT, {"payment_key": payment_key}).one_or_none()
    if payment is None:
        return None
    movements: list[Row[Any]] = list(connection.execute(_MOVEMENTS, {"payment_key": payment_key}))
    return Record(payment, movements)


def _under_way() -> Any:
    """Whether a look is going on or about to, or money is on its way. A parked payment waits for nobody."""
    claimed = and_(Payment.claim_token.is_not(None), Payment.claimed_until > now())
    wanted = and_(Payment.wanted > Payment.applied, Payment.due_at.is_not(None))
    event = exists().where(
        WebhookEvent.merchant_id == Payment.merchant_id,
        WebhookEvent.payment_id == Payment.payment_id,
        WebhookEvent.due_at.is_not(None),
    )
    on_its_way = exists().where(
        Operation.payment_key == Payment.payment_key,
        Operation.state.in_([OperationState.SENDING.value, OperationState.UNKNOWN.value]),
    )
    return or_(claimed, wanted, event, on_its_way)


_OF_PAYMENT = bindparam("payment_key", type_=BigInteger)
_PAYMENT: Select[Any] = select(
    *(column for column in Payment.__table__.columns if column.name != "snapshot"), _under_way().label("under_way")
).where(Payment.payment_key == _OF_PAYMENT)
_MOVEMENTS = select(Movement.__table__).where(Movement.payment_key == _OF_PAYMENT)
