"""The statements that write what a look has seen, built once.

To build one, and to find it in SQLAlchemy's cache, costs several times what the database takes to carry it out.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Float, String, Text, and_, bindparam, case, exists, null, update

from worker.database import now, seconds_from_now
from worker.models import Movement, Payment, WebhookEvent

#: The columns that are replaced by what was seen.
SEEN = (
    "merchant_reference",
    "state",
    "status",
    "status_code",
    "status_category",
    "currency",
    "amount_authorised",
    "amount_captured",
    "amount_capture_pending",
    "amount_refunded",
    "amount_refund_pending",
    "amount_cancelled",
    "snapshot",
)


def seen_as(name: str) -> str:
    """What a column of the record is called among a statement's values; its own name is reserved."""
    return f"seen_{name}"


def _replace() -> Any:
    of_payment = bindparam("of_payment", type_=BigInteger)
    gap_ends = seconds_from_now(bindparam("gap_seconds", type_=Float))
    answered = bindparam("answered", type_=BigInteger)
    lacks_a_linked_movement = exists().where(
        Movement.payment_key == of_payment,
        Movement.operation_key.is_not(None),
        Movement.platform_operation_id.not_in(bindparam("listed", type_=String, expanding=True)),
    )
    authorised_first = and_(bindparam("is_authorised", type_=Boolean), Payment.authorised_at.is_(None))
    return (
        update(Payment)
        .where(Payment.payment_key == of_payment, Payment.claim_token == bindparam("with_token", type_=String))
        .where(~lacks_a_linked_movement)
        .values(
            **{name: bindparam(seen_as(name), type_=Payment.__table__.c[name].type) for name in SEEN},
            refreshed_at=now(),
            changed_at=case((bindparam("is_changed", type_=Boolean), now()), else_=Payment.changed_at),
            authorised_at=case((authorised_first, now()), else_=Payment.authorised_at),
            expires_at=bindparam("with_expiry", type_=Payment.__table__.c.expires_at.type),
            applied=answered,
            claims=0,
            failures=0,
            claim_token=None,
            claimed_until=gap_ends,
            turn_at=null(),
            # No calm seconds are NULL, and so is a time that is so many seconds away: never.
            due_at=case(
                (Payment.wanted > answered, gap_ends), else_=seconds_from_now(bindparam("calm_seconds", type_=Float))
            ),
            problem=bindparam("with_problem", type_=Text),
        )
        .returning(Payment.wanted)
    )


REPLACE = _replace()
FINISH_EVENTS = (
    update(WebhookEvent)
    .where(
        WebhookEvent.event_key.in_(bindparam("of_events", type_=BigInteger, expanding=True)),
        WebhookEvent.done_at.is_(None),
    )
    .values(
        done_at=now(),
        outcome=bindparam("with_outcome", type_=String),
        due_at=null(),
        problem=bindparam("with_problem", type_=Text),
    )
    .returning(WebhookEvent.received_at, WebhookEvent.done_at)
)
