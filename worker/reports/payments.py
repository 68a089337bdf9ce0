"""Questions about payments: one, and a list of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from worker.database import seconds_from_now
from worker.models import Payment
from worker.reports.pages import LONGEST_WAIT_SECONDS, UNHEARD_RINGS, merchants, newest_keys

#: Claims in a row that were not released: their processes died of it, or with it.
LOST_CLAIMS = 3

#: Snapshots are for `show`: a page of them would be megabytes.
_COLUMNS = [column for column in Payment.__table__.columns if column.name != "snapshot"]


@dataclass(frozen=True)
class WantedPayments:
    """Which payments are asked about; what is None asks for any."""

    states: tuple[str, ...] = ()
    payment_id: str | None = None  # canonical
    merchant_id: str | None = None
    reference: str | None = None  # the merchant's
    since: datetime | None = None  # changed since
    stuck: bool = False  # with a problem, or due and not looked at
    before: int | None = None  # keys below this one
    limit: int = 100


class SeveralPayments(LookupError):
    """Several merchants have a payment of this id; the message names them."""


def payment(connection: Connection, payment_id: str, merchant_id: str | None = None) -> dict[str, Any]:
    """A payment: all its columns.

    Args:
        connection: to read with.
        payment_id: canonical.
        merchant_id: whose; needed where several merchants have a payment of this id.

    Raises:
        LookupError: there is none.
        SeveralPayments: there are several.
    """
    of_merchants = merchants(connection) if merchant_id is None else [merchant_id]
    chosen = select(Payment.__table__).where(Payment.merchant_id.in_(of_merchants), Payment.payment_id == payment_id)
    rows = connection.execute(chosen.order_by(Payment.merchant_id)).all()
    if len(rows) > 1:
        raise SeveralPayments(f"payment {payment_id} is known of {', '.join(row.merchant_id for row in rows)}")
    if not rows:
        whose = "" if merchant_id is None else f" of {merchant_id}"
        raise LookupError(f"there is no payment {payment_id}{whose}")
    return dict(rows[0]._mapping)


def payment_by_key(connection: Connection, payment_key: int) -> dict[str, Any]:
    """A payment that is there: all its columns."""
    chosen = select(Payment.__table__).where(Payment.payment_key == payment_key)
    return dict(connection.execute(chosen).one()._mapping)


def payments(connection: Connection, wanted: WantedPayments) -> list[dict[str, Any]]:
    """Payments without their snapshots, those first that were first heard of last."""
    common, is_few = _common(connection, wanted)
    states: list[tuple[list[ColumnElement[bool]], bool]] = [([Payment.state == one], False) for one in wanted.states]
    states = states or [([], False)]
    if wanted.stuck:
        states = [([*one, *two], few or fewer) for one, few in states for two, fewer in _stuck()]
    branches = [([*common, *conditions], is_few or few) for conditions, few in states]
    keys = newest_keys(connection, Payment.payment_key, branches, before=wanted.before, limit=wanted.limit)
    chosen = select(*_COLUMNS).where(Payment.payment_key.in_(keys)).order_by(Payment.payment_key.desc())
    return [dict(row._mapping) for row in connection.execute(chosen)]


def _stuck() -> list[tuple[list[ColumnElement[bool]], bool]]:
    # What is rung for in vain is due again within the longest wait between two rings. What is due later need not be
    # read, and that may be nearly every payment there is.
    soon = Payment.due_at <= seconds_from_now(LONGEST_WAIT_SECONDS)
    unheard = (Payment.rings >= UNHEARD_RINGS) | (Payment.claims >= LOST_CLAIMS)
    return [([Payment.problem.is_not(None)], False), ([soon, unheard], True)]


def _common(connection: Connection, wanted: WantedPayments) -> tuple[list[ColumnElement[bool]], bool]:
    """What every payment must meet, and whether few do."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.payment_id is not None:
        conditions.append(Payment.payment_id == wanted.payment_id)
        if wanted.merchant_id is None:  # the index begins with it
            conditions.append(Payment.merchant_id.in_(merchants(connection)))
    if wanted.merchant_id is not None:
        conditions.append(Payment.merchant_id == wanted.merchant_id)
    if wanted.reference is not None:
        conditions.append(Payment.merchant_reference == wanted.reference)
    if wanted.since is not None:
        conditions.append(Payment.changed_at >= wanted.since)
    return conditions, wanted.payment_id is not None or wanted.reference is not None
