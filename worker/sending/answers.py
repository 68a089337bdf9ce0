"""What came of a request, written down: the attempt completed, the claim over, the movement kept."""

from typing import Any

import structlog
from sqlalchemy import Connection, func, update

from worker.database import insert_into, now
from worker.gateways.gateway import (
    CredentialsRefused,
    GatewayError,
    InProgress,
    Movement,
    NotAllowed,
    NotSent,
    PaymentUnknown,
    Receipt,
    Refused,
)
from worker.models import Attempt, Operation
from worker.models import Movement as MovementRow
from worker.sending.claim import Claim
from worker.settlement import Answer

log = structlog.get_logger("payhook.sending")

#: A movement, when the answer names one; a receipt, when it does not; else why there is no usable answer.
Outcome = Movement | Receipt | GatewayError


def answer_of(outcome: Outcome) -> Answer:
    """What an attempt's end says of the money."""
    if isinstance(outcome, Movement):
        return Answer.DONE
    if isinstance(outcome, Receipt):
        return Answer.ACCEPTED
    if isinstance(outcome, NotSent | CredentialsRefused):
        return Answer.NOT_SENT
    if isinstance(outcome, NotAllowed):
        return Answer.NOT_ALLOWED
    if isinstance(outcome, Refused | PaymentUnknown):
        return Answer.REFUSED
    if isinstance(outcome, InProgress):
        return Answer.IN_PROGRESS
    return Answer.REPLAYED_ERROR if outcome.replayed and (outcome.http_status or 0) >= 500 else Answer.UNCLEAR


def complete(connection: Connection, claim: Claim, answer: Answer, outcome: Outcome, milliseconds: int) -> None:
    """The attempt's end, whoever holds the operation by now."""
    error = outcome if isinstance(outcome, GatewayError) else None
    connection.execute(
        update(Attempt)
        .where(Attempt.attempt_key == claim.attempt_key)
        .values(
            finished_at=now(),
            outcome=answer.value,
            http_status=error.http_status if error else None,
            error_id=error.error_id if error else None,
            duration_ms=milliseconds,
        )
    )


def release(connection: Connection, claim: Claim, answer: Answer) -> None:
    """The claim is over: what did not leave was not sent, and what was answered did not kill its worker."""
    values: dict[str, Any] = {"claims": 0, "claimed_until": None, "claim_token": None}
    if answer is Answer.NOT_SENT:
        values |= {"first_sent_at": claim.operation.first_sent_at, "last_sent_at": claim.operation.last_sent_at}
    if answer is Answer.REPLAYED_ERROR:
        values["replayed_5xx"] = Operation.replayed_5xx + 1
    key = claim.operation.operation_key
    connection.execute(update(Operation).where(Operation.operation_key == key).values(**values))


def keep_movement(connection: Connection, claim: Claim, movement: Movement, *, is_linked: bool) -> None:
    """The movement that the answer names. One that a look has kept meanwhile is linked, and is no older than this."""
    operation_key = None if is_linked else claim.operation.operation_key
    statement = insert_into(MovementRow, connection).values(
        merchant_id=claim.operation.merchant_id,
        platform_operation_id=movement.platform_operation_id,
        payment_key=claim.payment_key,
        operation_key=operation_key,
        kind=movement.kind.value,
        state=movement.state.value,
        amount=movement.amount,
        currency=movement.currency,
        status=movement.status,
        status_code=movement.status_code,
        reference=movement.reference,
        first_seen_at=now(),
        last_seen_at=now(),
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["merchant_id", "platform_operation_id"],
            set_={"operation_key": func.coalesce(MovementRow.operation_key, statement.excluded.operation_key)},
        )
    )


def log_answer(claim: Claim, outcome: Outcome, milliseconds: int) -> None:
    """One line a request that left: ids, codes, amounts and how long it took."""
    said: dict[str, Any] = {}
    if isinstance(outcome, GatewayError):
        said = {"told": outcome.told, "http_status": outcome.http_status, "error_id": outcome.error_id}
    else:
        said = {"status_code": outcome.status_code}
    log.info(
        "operation.sent",
        operation_key=claim.operation.operation_key,
        payment_key=claim.payment_key,
        kind=claim.order.kind.value,
        amount=claim.order.amount,
        currency=claim.order.currency,
        answer=answer_of(outcome).value,
        duration_ms=milliseconds,
        **said,
    )
