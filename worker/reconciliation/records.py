"""What a look leaves behind: our record replaced by what was seen, or the reason why it could not be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import (
    Connection,
    Row,
    case,
    null,
    select,
    update,
)

from worker import journal, metrics
from worker.database import insert_into, now, seconds_from_now
from worker.gateways.gateway import PaymentView
from worker.lifecycle import MOVING_CODES, MovementState, PaymentState, amounts_of, refined
from worker.models import Movement, Payment, WebhookEvent
from worker.reconciliation import expiry, polling
from worker.reconciliation.claims import Claim
from worker.reconciliation.statements import FINISH_EVENTS, REPLACE, seen_as
from worker.settings import Settings
from worker.traffic import Turn

log = structlog.get_logger("payhook.reconciliation")

ABANDONED = "untouched for 30 days since it was created: an event or the task payhook.reconcile has it looked at again"


@dataclass(frozen=True)
class Failed:
    """A look that gave nothing to record."""

    problem: str  # why, for a person
    times: int  # looks in a row that failed, this one included


@dataclass(frozen=True)
class Replaced:
    """What our record says now."""

    state: PaymentState
    seconds: float | None  # until the look that hints of the meantime ask for, None when none came
    changes: Mapping[str, Any]  # the platform's code, and each amount that is another: from, to
    delays: tuple[float, ...] = ()  # of each event that was answered, seconds since its receipt


def replace(connection: Connection, claim: Claim, view: PaymentView, settings: Settings) -> Replaced:
    """Replace our record with what was seen, mark exactly the noted events done and release the claim.

    Raises:
        LostClaim: another holds the payment by now; nothing was written.
        StaleView: the view lacks a movement linked to an operation of ours; nothing was written.
    """
    seen = columns_of(view)
    state = PaymentState(seen["state"])
    changes = {
        name: (getattr(claim.payment, name), value) for name, value in seen.items() if name.startswith("amount_")
    }
    changed = any(getattr(claim.payment, name) != value for name, value in seen.items() if name != "snapshot")
    wanted = _write(connection, claim, view, seen, changed, settings)
    _keep_movements(connection, claim.payment, view)
    delays = finish_events(connection, claim.event_keys, "reconciled", None)
    expiry.tell(connection, claim.payment, seen, settings)
    if claim.payment.state != state or claim.payment.refreshed_at is None:
        before = claim.payment.state if claim.payment.refreshed_at else None
        why = f"the platform says {view.status_code} {view.status or ''}".rstrip()
        name = journal.payment_name(claim.payment.merchant_id, claim.payment.payment_id)
        journal.write(connection, "payment", name, before=before, after=state, why=why)
    told = {name: change for name, change in changes.items() if change[0] != change[1]}
    seconds = settings.gap_seconds if wanted > claim.payment.wanted else None
    return Replaced(state, seconds, {"status_code": view.status_code, **told}, delays)


def postpone(connection: Connection, claim: Claim, failed: Failed, seconds: float, settings: Settings) -> bool:
    """Release the claim after a look that gave no answer; the payment stays wanted and is tried again.

    Args:
        connection: a transaction.
        claim: what is released.
        failed: why.
        seconds: until the next try; nobody claims it before.
        settings: how long events are left to their rings.

    Returns:
        Whether the claim was still ours.
    """
    later = seconds_from_now(seconds)
    values = {"claimed_until": later, "due_at": later, "turn_at": null(), "failures": failed.times}
    return _put_back(connection, claim, {**values, "problem": failed.problem}, seconds + settings.ring_seconds)


def wait(connection: Connection, claim: Claim, turn: Turn, settings: Settings) -> bool:
    """Release the claim before a look, until the platform may be asked; whether it was still ours.

    With a turn of its own the payment need not ask for another one. Behind an open circuit it says what it waits for.
    """
    later = seconds_from_now(turn.seconds)
    values: dict[str, Any] = {"claimed_until": later, "due_at": later, "turn_at": null()}
    if turn.why is None:
        values["turn_at"] = later
    else:
        values["problem"] = f"the platform is not asked for now: {turn.why}"
    return _put_back(connection, claim, values, turn.seconds + settings.ring_seconds)


def _put_back(connection: Connection, claim: Claim, values: dict[str, Any], events_seconds: float) -> bool:
    released = connection.execute(_still_ours(claim).values(claim_token=None, claims=0, **values))
    if released.rowcount:
        put_off: dict[str, Any] = {"due_at": seconds_from_now(events_seconds), "claims": 1}
        if "problem" in values:
            put_off["problem"] = values["problem"]
        connection.execute(
            update(WebhookEvent)
            .where(WebhookEvent.event_key.in_(claim.event_keys), WebhookEvent.done_at.is_(None))
            .values(**put_off)
        )
    return bool(released.rowcount)


def park(connection: Connection, claim: Claim, failed: Failed, settings: Settings) -> float | None:
    """Release the claim and look no more by ourselves: the payment keeps the reason until an event or somebody asks.

    Args:
        connection: a transaction.
        claim: what is released; parked, its events are quarantined with the reason.
        failed: why.
        settings: the gap to the look that hints of the meantime ask for.

    Returns:
        Seconds until the next look when hints came during this one, None when it is parked.
    """
    gap_ends = seconds_from_now(settings.gap_seconds)
    due_at = connection.execute(
        _still_ours(claim)
        .values(
            claim_token=None,
            claimed_until=gap_ends,
            turn_at=null(),
            due_at=case((Payment.wanted > claim.payment.wanted, gap_ends), else_=null()),
            claims=0,
            failures=failed.times,
            problem=failed.problem,
        )
        .returning(Payment.due_at)
    ).one_or_none()
    if due_at is None:
        return None
    if due_at[0] is not None:
        return settings.gap_seconds
    finish_events(connection, claim.event_keys, "quarantined", _parked(failed.problem))
    _note_parked(connection, claim.payment, failed.problem)
    return None


def park_exhausted(connection: Connection, payment: Row[Any], problem: str) -> bool:
    """Park a payment whose claims are used up, with all its open events; whether nobody claimed it meanwhile."""
    parked = connection.execute(
        update(Payment)
        .where(Payment.payment_key == payment.payment_key, Payment.claims >= payment.claims)
        .values(claim_token=None, claimed_until=null(), due_at=null(), problem=problem)
    )
    if parked.rowcount:
        connection.execute(
            update(WebhookEvent)
            .where(WebhookEvent.merchant_id == payment.merchant_id, WebhookEvent.payment_id == payment.payment_id)
            .where(WebhookEvent.due_at.is_not(None))
            .values(done_at=now(), outcome="quarantined", due_at=null(), problem=_parked(problem))
        )
        if payment.problem != problem:  # said once, however many events come to it
            _note_parked(connection, payment, problem)
    return bool(parked.rowcount)


def _parked(problem: str) -> str:
    return f"its payment is parked: {problem}"


def _note_parked(connection: Connection, payment: Row[Any], problem: str) -> None:
    metrics.PARKINGS.inc()
    log.error("payment.parked", payment_key=payment.payment_key, problem=problem)
    name, state = journal.payment_name(payment.merchant_id, payment.payment_id), payment.state
    journal.write(connection, "payment", name, before=state, after=state, why=f"parked: {problem}")


def finish_events(
    connection: Connection, event_keys: tuple[int, ...], outcome: str, problem: str | None
) -> tuple[float, ...]:
    """Mark exactly these events done: one with a lower key can have been committed later.

    Returns:
        Of each, the seconds since its receipt.
    """
    if not event_keys:
        return ()
    given = {"of_events": event_keys, "with_outcome": outcome, "with_problem": problem}
    done: Any = connection.execute(FINISH_EVENTS, given)
    return tuple((done_at - received_at).total_seconds() for received_at, done_at in done)


class LostClaim(Exception):
    """Another process holds the payment: ours was paused, or slow, for longer than its lease."""


class StaleView(Exception):
    """The platform showed an older state than one we have already recorded."""


def columns_of(view: PaymentView) -> dict[str, Any]:
    """What our record says of a payment once it was seen so: the columns that a look replaces, and their values."""
    amounts = amounts_of(
        view.state,
        view.status_code,
        view.amount,
        view.acquired,
        [(movement.kind, movement.state, movement.amount) for movement in view.movements],
    )
    return {
        "merchant_reference": view.merchant_reference,
        "state": refined(view.state, amounts).value,
        "status": view.status,
        "status_code": view.status_code,
        "status_category": view.status_category,
        "currency": view.currency,
        "amount_authorised": amounts.authorised,
        "amount_captured": amounts.captured,
        "amount_capture_pending": amounts.capture_pending,
        "amount_refunded": amounts.refunded,
        "amount_refund_pending": amounts.refund_pending,
        "amount_cancelled": amounts.cancelled,
        "snapshot": dict(view.snapshot),
    }


def _write(
    connection: Connection, claim: Claim, view: PaymentView, seen: dict[str, Any], changed: bool, settings: Settings
) -> int:
    listed = any(movement.state is MovementState.PENDING for movement in view.movements)
    moving = listed or view.status_code in MOVING_CODES
    changed_at = None if changed else claim.payment.changed_at
    age = (claim.payment.at - changed_at).total_seconds() if changed_at else 0.0
    later = polling.next_look(PaymentState(seen["state"]), moving=moving, age=age, settings=settings)
    expires_at = expiry.ends_at(claim.payment, seen, settings)
    notice = expiry.seconds_to_notice(claim.payment, expires_at, settings)
    if later is not None and notice is not None:
        later = min(later, notice)
    abandoned = later is None and seen["state"] in (PaymentState.CREATED, PaymentState.PENDING)
    wanted = connection.execute(
        REPLACE,
        {
            "of_payment": claim.payment.payment_key,
            "with_token": claim.token,
            "answered": claim.payment.wanted,
            "listed": [movement.platform_operation_id for movement in view.movements],
            "is_changed": changed,
            "is_authorised": amounts_authorised(seen),
            "with_expiry": expires_at,
            "gap_seconds": settings.gap_seconds,
            "calm_seconds": later,
            "with_problem": ABANDONED if abandoned else None,
            **{seen_as(name): value for name, value in seen.items()},
        },
    ).scalar_one_or_none()
    if wanted is None:
        ours = select(Payment.claim_token == claim.token).where(Payment.payment_key == claim.payment.payment_key)
        raise StaleView() if connection.execute(ours).scalar_one_or_none() else LostClaim()
    return int(wanted)


def amounts_authorised(seen: dict[str, Any]) -> bool:
    """Whether the payment is, or was, authorised."""
    return bool(seen["amount_authorised"] > 0)


def _still_ours(claim: Claim) -> Any:
    return update(Payment).where(Payment.payment_key == claim.payment.payment_key, Payment.claim_token == claim.token)


def _keep_movements(connection: Connection, payment: Row[Any], view: PaymentView) -> None:
    """Upsert what the platform lists; nothing is ever deleted, and the link to our operation stays."""
    if not view.movements:
        return
    rows = [
        {
            "merchant_id": payment.merchant_id,
            "platform_operation_id": movement.platform_operation_id,
            "payment_key": payment.payment_key,
            "kind": movement.kind.value,
            "state": movement.state.value,
            "amount": movement.amount,
            "currency": movement.currency,
            "status": movement.status,
            "status_code": movement.status_code,
            "reference": movement.reference,
            "first_seen_at": now(),
            "last_seen_at": now(),
        }
        for movement in view.movements
    ]
    statement = insert_into(Movement, connection).values(rows)
    new = statement.excluded
    follows = ("kind", "state", "amount", "currency", "status", "status_code", "reference", "last_seen_at")
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["merchant_id", "platform_operation_id"], set_={name: new[name] for name in follows}
        )
    )
