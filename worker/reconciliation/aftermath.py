"""What follows from a look for the payment's operations: settled, accepted, covered still; and what policies want."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, literal, update

from worker.database import UtcTime, least
from worker.lifecycle import MovementKind, OperationState, PaymentState
from worker.models import Payment
from worker.operations.acceptance import accept_requested, promise_wanted, refuse_requested
from worker.operations.evidence import pace_of
from worker.operations.ledger import Ledger, open_ledger
from worker.operations.linking import link
from worker.operations.requests import POLICY_SOURCE
from worker.operations.settling import settle, wake
from worker.policies import PaymentFacts, Policy, asked
from worker.reconciliation.claims import Claim
from worker.settings import Settings


def bring_forward(
    connection: Connection, claim: Claim, policies: Sequence[Policy], settings: Settings
) -> tuple[int, ...]:
    """Bring a payment's operations forward, in the transaction in which what was seen replaces the record.

    Args:
        connection: that transaction.
        claim: under which the payment was looked at.
        policies: the merchant's, in order.
        settings: the intervals.

    Returns:
        The operations to be rung for now.
    """
    payment_key = claim.payment.payment_key
    if not claim.payment.has_operations and not policies:
        return ()
    ledger = link(connection, payment_key)
    ledger = settle(connection, ledger, claim.payment.at, pace_of(settings))
    ledger = accept_requested(connection, ledger, looked_at=claim.payment.at)
    if policies:
        ledger = _ask(connection, ledger, policies)
    return wake(connection, ledger)


def refuse_requests(connection: Connection, payment: Row[Any], why: str, *, token: str | None = None) -> None:
    """Refuse the requests for a payment that cannot be looked at, if it is still held by this token (or by nobody)."""
    if not payment.has_operations:
        return
    ledger = open_ledger(connection, payment.payment_key)
    if ledger.payment.claim_token == token:
        refuse_requested(connection, ledger, why)


def _ask(connection: Connection, ledger: Ledger, policies: Sequence[Policy]) -> Ledger:
    facts = _facts(ledger)
    wanted, asks_at = asked(policies, facts)
    ledger = promise_wanted(connection, ledger, wanted)
    after = _facts(ledger)
    if after != facts:  # what was promised leaves less to ask about
        asks_at = asked(policies, replace(after, now=facts.now))[1]
    values: dict[str, Any] = {"policy_at": asks_at}
    if asks_at is not None:
        values["due_at"] = (
            asks_at if ledger.payment.due_at is None else least(Payment.due_at, literal(asks_at, UtcTime()))
        )
    problem = _problem(ledger)
    if problem is not None:
        values["problem"] = problem
    if any(getattr(ledger.payment, name) != value for name, value in values.items()):
        connection.execute(update(Payment).where(Payment.payment_key == ledger.payment.payment_key).values(**values))
    return ledger


def _facts(ledger: Ledger) -> PaymentFacts:
    payment = ledger.payment
    return PaymentFacts(
        merchant_id=payment.merchant_id,
        payment_id=payment.payment_id,
        merchant_reference=payment.merchant_reference,
        state=PaymentState(payment.state),
        status_code=payment.status_code,
        currency=payment.currency,
        amount_authorised=payment.amount_authorised,
        amount_captured=payment.amount_captured,
        amount_capture_pending=payment.amount_capture_pending,
        amount_refunded=payment.amount_refunded,
        amount_refund_pending=payment.amount_refund_pending,
        amount_cancelled=payment.amount_cancelled,
        remainder=max(ledger.remainder(), 0),
        authorised_at=payment.authorised_at,
        expires_at=payment.expires_at,
        now=payment.at,
    )


def _problem(ledger: Ledger) -> str | None:
    """What a policy wanted and the platform refused: it is not asked for again before a person does."""
    if ledger.payment.state != PaymentState.AUTHORISED:
        return None
    refused = [
        one
        for one in ledger.operations
        if one.source.startswith(POLICY_SOURCE)
        and one.state == OperationState.REFUSED
        and one.kind == MovementKind.CAPTURE
    ]
    if not refused:
        return None
    last = refused[-1]
    return f"the capture wanted by {last.source} was refused ({last.reason}); it is not asked for again by itself"
