"""Who may look at a payment now: hints raised and payments claimed in one statement, so that no hint is lost.

``wanted`` counts hints, ``applied`` those a look has answered: there is work while they differ. A claim remembers
``wanted`` and the open events as they were before its look; what comes later is not answered by it. Nobody claims
before ``claimed_until``: while a claim is held that is its lease, afterwards the gap or the back-off.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Float,
    Row,
    String,
    and_,
    bindparam,
    case,
    literal,
    null,
    or_,
    select,
    update,
)

from worker.database import insert_into, least, now, seconds_from_now
from worker.lifecycle import PaymentState
from worker.models import Payment, WebhookEvent
from worker.settings import Settings

#: Claims that were never released, so their processes died of them or with them: then the row is parked.
MOST_CLAIMS = 8


@dataclass(frozen=True)
class Claim:
    """The right to look at a payment and to write what was seen."""

    payment: Row[Any]  # the payment's columns as they were when it was claimed, and ``at``, the database's time then
    token: str
    events: tuple[Row[Any], ...]  # the events this look answers, these and no others: key, when received, body's hash
    started: float  # monotonic, taken before the lease began

    @property
    def event_keys(self) -> tuple[int, ...]:
        """The keys of those events."""
        return tuple(event.event_key for event in self.events)

    def seconds_left(self, settings: Settings) -> float:
        """What is left of the time everything under this claim may take."""
        return settings.claim_seconds - (time.monotonic() - self.started)


@dataclass(frozen=True)
class Busy:
    """The payment cannot be claimed now; the hint is counted all the same."""

    payment: Row[Any]
    seconds: float | None  # until a ring is due, None when the holder of the claim will see to it
    exhausted: bool  # its claims are used up: it is to be parked


def claim_for_event(
    connection: Connection, event_key: int, merchant_ids: frozenset[str], settings: Settings
) -> Claim | Busy | None:
    """Count an open event as a hint, make its payment known, and claim the payment if it is free.

    Returns:
        None when the event is done, or of a merchant that is not ours.
    """
    token, started = uuid.uuid4().hex, time.monotonic()
    given = {
        "of_event": event_key,
        "ours": sorted(merchant_ids),
        "token": token,
        "lease_seconds": settings.lease_seconds,
        "longest_wait": settings.retry_max_seconds,
    }
    row = connection.execute(_CLAIM_FOR_EVENT[connection.dialect.name], given).one_or_none()
    if row is None:
        return None
    if row.claim_token == token:
        return _noted(connection, row, token, started, settings)
    return _busy(row)


def claim_payment(connection: Connection, payment_key: int, settings: Settings) -> Claim | Busy | None:
    """Claim a payment that has unanswered hints; a ring for any other payment does nothing."""
    token, started = uuid.uuid4().hex, time.monotonic()
    given = {"of_payment": payment_key, "token": token, "lease_seconds": settings.lease_seconds}
    claimed = connection.execute(_CLAIM_PAYMENT, given).one_or_none()
    if claimed is not None:
        return _noted(connection, claimed, token, started, settings)
    waiting = connection.execute(
        select(*_SEEN).where(Payment.payment_key == payment_key, Payment.wanted > Payment.applied)
    ).one_or_none()
    return None if waiting is None else _busy(waiting)


def raise_hint(connection: Connection, merchant_id: str, payment_id: str, gap_seconds: float) -> int:
    """Make a payment known and count a hint, with every back-off and park forgotten: a person or a system asks.

    Only the gap stays: however often it is asked for, no payment is fetched twice within it.

    Returns:
        The payment's key.
    """
    statement = insert_into(Payment, connection).values(
        merchant_id=merchant_id, payment_id=payment_id, state=PaymentState.CREATED.value, wanted=1, due_at=now()
    )
    held = and_(Payment.claim_token.is_not(None), Payment.claimed_until > now())
    soon = least(Payment.claimed_until, seconds_from_now(gap_seconds))
    statement = statement.on_conflict_do_update(
        index_elements=["merchant_id", "payment_id"],
        set_={
            "wanted": Payment.wanted + 1,
            "claims": case((held, Payment.claims), else_=0),
            "failures": 0,
            "claimed_until": case((or_(held, Payment.claimed_until.is_(None)), Payment.claimed_until), else_=soon),
            "due_at": case((held, Payment.due_at), else_=now()),
        },
    ).returning(Payment.payment_key)
    return int(connection.execute(statement).scalar_one())


def want(connection: Connection, payment_key: int) -> float | None:
    """Count a hint of our own: back-offs and parks stay as they are.

    Returns:
        Seconds until the payment can be claimed, None when whoever holds it will see to the hint.
    """
    held = and_(Payment.claim_token.is_not(None), Payment.claimed_until > now())
    free_at = case((Payment.claimed_until > now(), Payment.claimed_until), else_=now())
    row = connection.execute(
        update(Payment)
        .where(Payment.payment_key == payment_key)
        .values(
            wanted=Payment.wanted + 1,
            due_at=case((held, Payment.due_at), (Payment.due_at < free_at, Payment.due_at), else_=free_at),
        )
        .returning(Payment.claim_token, Payment.claimed_until, now().label("at"))
    ).one()
    seconds = max(_seconds(row.at, row.claimed_until), 0.0)
    return None if row.claim_token is not None and seconds > 0 else seconds


def free_every_claim(connection: Connection) -> int:
    """Give up every claim there is: for the one process that is the only worker, at its start.

    Returns:
        How many there were.
    """
    freed = connection.execute(
        update(Payment)
        .where(Payment.claim_token.is_not(None))
        .values(claim_token=None, claimed_until=null(), due_at=now())
    )
    return freed.rowcount


def _noted(connection: Connection, row: Row[Any], token: str, started: float, settings: Settings) -> Claim:
    """The claim with the open events it answers; they wait for its lease's end, no longer for their own rings."""
    given = {
        "of_merchant": row.merchant_id,
        "of_payment": row.payment_id,
        "lease_seconds": settings.lease_seconds,
    }
    noted: Sequence[Any] = connection.execute(_NOTE_EVENTS, given).all()
    return Claim(row, token, tuple(sorted(noted, key=lambda event: event.event_key)), started)


def _busy(row: Row[Any]) -> Busy:
    remaining = _seconds(row.at, row.claimed_until)
    exhausted = row.claims >= MOST_CLAIMS and remaining <= 0
    held = row.claim_token is not None and remaining > 0
    return Busy(row, None if held or exhausted else max(remaining, 0.0), exhausted)


def _seconds(start: datetime, end: datetime | None) -> float:
    return 0.0 if end is None else (end - start).total_seconds()


_FREE = and_(or_(Payment.claimed_until.is_(None), Payment.claimed_until <= now()), Payment.claims < MOST_CLAIMS)
_SEEN = (*(column for column in Payment.__table__.columns if column.name != "snapshot"), now().label("at"))

_LEASE = seconds_from_now(bindparam("lease_seconds", type_=Float))


def _claim_for_event(dialect: str) -> Any:
    event = select(
        WebhookEvent.merchant_id,
        WebhookEvent.payment_id,
        # An event that an unfinished claim has noted is answered by that claim's look: no second hint.
        case((WebhookEvent.claims == 0, 1), else_=0).label("wanted"),
        literal(PaymentState.CREATED.value),
        literal(1),
        bindparam("token", type_=String),
        _LEASE.label("lease"),
        _LEASE.label("due"),
    ).where(
        WebhookEvent.event_key == bindparam("of_event", type_=BigInteger),
        WebhookEvent.done_at.is_(None),
        WebhookEvent.merchant_id.in_(bindparam("ours", type_=String, expanding=True)),
    )
    statement = insert_into(Payment, dialect).from_select(
        ["merchant_id", "payment_id", "wanted", "state", "claims", "claim_token", "claimed_until", "due_at"], event
    )
    new = statement.excluded
    closed = Payment.claimed_until > now()
    fresh = and_(closed, new.wanted > 0)
    # A fresh event is the best sign that a payment unknown so far is known by now: it waits for no longer back-off
    # than the one after a failure, which it does not shorten.
    waited_for = and_(fresh, Payment.claim_token.is_(None))
    until = least(Payment.claimed_until, seconds_from_now(bindparam("longest_wait", type_=Float)))
    # One statement that waits for the row. Raising first and claiming afterwards, or skipping a locked row, loses
    # the hint that comes between another's look and its release.
    return statement.on_conflict_do_update(
        index_elements=["merchant_id", "payment_id"],
        set_={
            "wanted": Payment.wanted + case((closed, new.wanted), else_=1),
            "claims": case((_FREE, Payment.claims + 1), else_=Payment.claims),
            "claim_token": case((_FREE, new.claim_token), else_=Payment.claim_token),
            "claimed_until": case((_FREE, new.claimed_until), (waited_for, until), else_=Payment.claimed_until),
            "due_at": case(
                (_FREE, new.claimed_until),
                (waited_for, until),
                (fresh, Payment.claimed_until),
                else_=Payment.due_at,
            ),
            "rings": case((_FREE, 0), else_=Payment.rings),
        },
    ).returning(*_SEEN)


# Built once: to build a statement and to find it in the cache costs several times what PostgreSQL takes for it.
_CLAIM_FOR_EVENT = {dialect: _claim_for_event(dialect) for dialect in ("postgresql", "sqlite")}
_CLAIM_PAYMENT = (
    update(Payment)
    .where(Payment.payment_key == bindparam("of_payment", type_=BigInteger), Payment.wanted > Payment.applied, _FREE)
    .values(
        claim_token=bindparam("token", type_=String),
        claimed_until=_LEASE,
        due_at=_LEASE,
        claims=Payment.claims + 1,
        rings=0,
    )
    .returning(*_SEEN)
)
_NOTE_EVENTS = (
    update(WebhookEvent)
    .where(
        WebhookEvent.merchant_id == bindparam("of_merchant", type_=String),
        WebhookEvent.payment_id == bindparam("of_payment", type_=String),
        WebhookEvent.due_at.is_not(None),
    )
    .values(claims=WebhookEvent.claims + 1, rings=0, due_at=_LEASE)
    .returning(WebhookEvent.event_key, WebhookEvent.received_at, WebhookEvent.body_sha256)
)

__all__ = [
    "Busy",
    "Claim",
    "claim_for_event",
    "claim_payment",
    "free_every_claim",
    "raise_hint",
    "want",
]
