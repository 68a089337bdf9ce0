"""Which requests are promised: requested → planned or refused, under the payment's row lock.

Nothing here looks before it locks: what is left of a payment's money is read after its row was locked, and promised
in the same transaction, so that two requests at once cannot both have the same money.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Row, update

from worker.database import now, seconds_from_now
from worker.lifecycle import MovementKind, OperationState, decimals
from worker.models import Operation
from worker.operations.ledger import Ledger, open_ledger
from worker.operations.moves import ids_of, move, note
from worker.operations.requests import POLICY_SOURCE, Request, keep
from worker.operations.settling import WAITING_SECONDS
from worker.policies.policy import Wanted

log = structlog.get_logger("payhook.operations")

#: States of a capture of ours whose end a cancellation with ``on_captured=refund`` waits for.
_CAPTURING = frozenset({OperationState.PLANNED.value, OperationState.SENDING.value, OperationState.UNKNOWN.value})


class No(Exception):
    """Why a request is refused."""


class NotYet(Exception):
    """Why a request can be neither promised nor refused before something else has ended."""


def accept_requested(connection: Connection, ledger: Ledger, *, looked_at: datetime | None = None) -> Ledger:
    """Promise or refuse every request of a payment, in the order in which they came.

    Args:
        connection: a transaction.
        ledger: of the payment.
        looked_at: when the look began that the record is from, None for a look of some time ago. Of requests that came
            later one that fits is promised, and one that does not waits for another look, and all after it too: what
            has come about since may be why.

    Returns:
        The ledger as it is then.
    """
    requested = [one for one in ledger.operations if one.state == OperationState.REQUESTED]
    for operation in sorted(requested, key=lambda one: one.operation_key):
        is_later = looked_at is None or operation.created_at > looked_at
        if _is_listed(ledger, operation) or (is_later and not _fits(ledger, operation)):
            break
        _accept(connection, ledger, operation)
        ledger = open_ledger(connection, ledger.payment.payment_key)
    return ledger


def refuse_requested(connection: Connection, ledger: Ledger, why: str) -> None:
    """Refuse every request of a payment that cannot be looked at."""
    for operation in ledger.operations:
        if operation.state == OperationState.REQUESTED:
            move(connection, operation, OperationState.REFUSED, why)


def promise_wanted(connection: Connection, ledger: Ledger, wanted: Iterable[tuple[str, Wanted]]) -> Ledger:
    """Promise what policies want, as far as it is covered.

    Each has one request id for each kind, for good: what the platform refused is never asked for again by itself.
    """
    payment = ledger.payment
    for name, want in wanted:
        request = Request(
            kind=want.kind,
            payment_id=payment.payment_id,
            payment=payment.payment_id,
            merchant_id=payment.merchant_id,
            source=f"{POLICY_SOURCE}{name}",
            request_id=f"{payment.payment_id}:{want.kind}:1",
            amount=want.amount,
            is_final=want.is_final,
            terms={} if want.reason is None else {"reason": want.reason},
        )
        if any((one.source, one.request_id) == (request.source, request.request_id) for one in ledger.operations):
            continue
        try:
            _amount_of(ledger, want.kind, want.amount, None)
        except No:
            continue  # an earlier policy, or somebody else, has the money
        operation = keep(connection, request)
        if not _is_listed(ledger, operation):
            _accept(connection, ledger, operation)
        ledger = open_ledger(connection, payment.payment_key)
    return ledger


def _is_listed(ledger: Ledger, operation: Row[Any]) -> bool:
    """Whether the platform lists a request already, from before a backup was restored: a look finds out what it was."""
    return any(one.reference == operation.operation_uuid for one in ledger.movements)


def _fits(ledger: Ledger, operation: Row[Any]) -> bool:
    try:
        _amount_of(ledger, MovementKind(operation.kind), operation.amount, operation.currency)
    except No:
        return False
    return True


def _accept(connection: Connection, ledger: Ledger, operation: Row[Any]) -> None:
    kind = MovementKind(operation.kind)
    try:
        try:
            amount = _amount_of(ledger, kind, operation.amount, operation.currency)
        except No as no:
            if kind is not MovementKind.CANCEL or (operation.terms or {}).get("on_captured") != "refund":
                raise
            kind, amount = MovementKind.REFUND, _amount_of_refund_instead(ledger, operation, no)
    except No as no:
        log.info("operation.refused", kind=operation.kind, why=str(no), **ids_of(operation))
        move(connection, operation, OperationState.REFUSED, str(no))
        return
    except NotYet as wait:
        _put_off(connection, operation, str(wait))
        return
    why = f"{kind} of {amount} {ledger.payment.currency} promised"
    if kind != operation.kind:
        why += ": it was captured, so the cancellation becomes a refund"
    log.info(
        "operation.promised", kind=kind.value, amount=amount, currency=ledger.payment.currency, **ids_of(operation)
    )
    move(
        connection,
        operation,
        OperationState.PLANNED,
        why,
        kind=kind.value,
        amount=amount,
        currency=ledger.payment.currency,
        planned_at=now(),
        due_at=now(),
    )


def _amount_of(ledger: Ledger, kind: MovementKind, amount: int | None, currency: str | None) -> int:
    """The amount to be promised: the one asked for, or all that is left.

    Raises:
        No: it does not fit.
    """
    payment = ledger.payment
    if currency is not None and currency != payment.currency:
        raise No(f"the payment is in {payment.currency}, not in {currency}")
    if kind is MovementKind.REFUND:
        left, of = ledger.refundable(pending=True), "was captured and is not refunded or promised"
    else:
        if not ledger.is_open():
            raise No(f"the payment is {payment.state}: a {kind} needs one that is authorised")
        left, of = ledger.remainder(), "is authorised and not captured, cancelled or promised"
    if left <= 0:
        raise No(f"nothing of the payment {of}")
    if amount is not None and amount > left:
        raise No(f"{amount} {payment.currency} asked for, and {left} of the payment {of}")
    amount = left if amount is None else amount
    if kind is MovementKind.CAPTURE and amount != payment.amount_authorised and decimals(payment.currency) != 2:
        raise No(
            f"a part of a payment in {payment.currency} cannot be captured: the platform takes a capture's amount to "
            "have two decimals, which this currency has not; capture all of it"
        )
    return amount


def _amount_of_refund_instead(ledger: Ledger, operation: Row[Any], no: No) -> int:
    """What a cancellation refunds that came too late.

    Raises:
        No: there is no capture, or it does not fit.
        NotYet: a capture of ours may or may not come about.
    """
    captures = (one for one in ledger.operations if one.kind == MovementKind.CAPTURE and one.state in _CAPTURING)
    if any(ledger.movement_of(one) is None for one in captures):
        raise NotYet("waits for what becomes of a capture that is on its way")
    if ledger.refundable(pending=True) <= 0:
        raise no
    return _amount_of(ledger, MovementKind.REFUND, operation.amount, operation.currency)


def _put_off(connection: Connection, operation: Row[Any], why: str) -> None:
    later = {"due_at": seconds_from_now(WAITING_SECONDS), "reason": why}
    connection.execute(update(Operation).where(Operation.operation_key == operation.operation_key).values(**later))
    if operation.reason != why:
        note(connection, operation, why)
