"""From a message to a row: what was asked for, checked and kept once, whatever else is down."""

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, Row, and_, select

from worker import journal, metrics, tracing
from worker.database import insert_into, now
from worker.lifecycle import MovementKind, OperationState, PaymentState, canonical_payment_id
from worker.models import Operation, Payment

log = structlog.get_logger("payhook.operations")

#: What any request may say, and what is said of one kind only.
ARGUMENTS = ("payment_id", "request_id", "source", "merchant_id", "amount", "currency", "is_final", "reference")
ARGUMENTS_OF = {
    MovementKind.CAPTURE: ARGUMENTS,
    MovementKind.REFUND: (*ARGUMENTS, "reason"),
    MovementKind.CANCEL: (*ARGUMENTS, "on_captured"),
}

#: Sources of our own making; from outside they would pass for a policy's.
POLICY_SOURCE = "policy:"

#: The platform's limits: references have at most 40 characters; what it takes of a reason is not told.
LONGEST_REFERENCE, LONGEST_REASON = 40, 256
LARGEST_AMOUNT = 2**63 - 1

#: The request's own words make its operation's uuid, so that a request that comes again after an old backup was
#: restored is the operation that the platform may have carried out already, and is found there by its reference.
_NAMESPACE = uuid.UUID("6f1f3a52-6f0c-4b57-9c53-0c6b8f4f5d0e")

_SOURCE = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_REQUEST_ID = re.compile(r"[!-~]([ -~]{0,126}[!-~])?", re.ASCII)
_MERCHANT = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


class NamesNoPayment(Exception):
    """A request that names no payment: there is nothing to keep it with but the journal. Says why."""


@dataclass(frozen=True)
class Request:
    """A capture, refund or cancellation that somebody asks for."""

    kind: MovementKind
    payment_id: str  # as it was given
    payment: str  # canonical
    merchant_id: str | None
    source: str
    request_id: str
    amount: int | None = None  # minor units; None: all that is left
    currency: str | None = None
    is_final: bool = False
    terms: Mapping[str, str] = field(default_factory=dict)  # reference, reason, on_captured
    problem: str | None = None  # why it cannot be accepted, whatever the payment's state

    def sha256(self) -> bytes:
        """What tells the same request from another one under the same id."""
        content = [self.kind, self.payment, self.amount, self.currency, self.is_final, sorted(self.terms.items())]
        return hashlib.sha256(json.dumps(content).encode()).digest()

    def uuid(self) -> uuid.UUID:
        """The operation's own name, by which the platform lists it."""
        named = [self.merchant_id, self.source, self.request_id, self.payment, self.kind]
        return uuid.uuid5(_NAMESPACE, json.dumps(named))


def read(
    kind: MovementKind, given: Mapping[str, Any], merchant_ids: Collection[str], *, unnamed: str, ours: bool = False
) -> Request:
    """What a message asks for; what is wrong with it is its ``problem``.

    Args:
        kind: capture, refund or cancel.
        given: the message's arguments, as they came.
        merchant_ids: our merchants; with one of them, it need not be named.
        unnamed: the request id of a request that has none: something of the message, so that it is the same again.
        ours: whether a policy asks.

    Raises:
        NamesNoPayment: there is no payment to keep it with.
    """
    payment_id = given.get("payment_id")
    canonical = canonical_payment_id(payment_id) if isinstance(payment_id, str) else None
    if canonical is None:
        raise NamesNoPayment("payment_id is not a payment's id (digits, perhaps with _ and a number after them)")
    merchant_id = given.get("merchant_id")
    if merchant_id is None and len(merchant_ids) == 1:
        (merchant_id,) = merchant_ids
    problems = list(_problems(kind, given, merchant_id, merchant_ids, ours=ours))
    request_id = given.get("request_id")
    return Request(
        kind=kind,
        payment_id=str(payment_id),
        payment=canonical,
        merchant_id=merchant_id if _is(_MERCHANT, merchant_id) else None,
        source=given["source"] if _may_be_source(given.get("source"), ours=ours) else "unnamed",
        request_id=str(request_id) if _is(_REQUEST_ID, request_id) else f"unnamed:{unnamed}"[:128],
        amount=given["amount"] if _is_amount(given.get("amount")) else None,
        currency=given["currency"] if _is(_CURRENCY, given.get("currency")) else None,
        is_final=given.get("is_final") is True,
        terms={name: given[name] for name in _TERMS if isinstance(given.get(name), str) and name in ARGUMENTS_OF[kind]}
        if not problems
        else {},
        problem="; ".join(problems) or None,
    )


def keep(connection: Connection, request: Request, actor: str | None = None) -> Row[Any]:
    """Keep a request as an operation, once: the same request again is the operation there is.

    Args:
        connection: a transaction.
        request: from `read`, or a policy's.
        actor: who asks, for the journal, if it is more than the source says.

    Returns:
        The operation's row, with ``is_other`` true when its id was used for other content before: then nothing has
        changed.
    """
    state = OperationState.REFUSED if request.problem else OperationState.REQUESTED
    payment_key = None
    if request.merchant_id is not None and not request.problem:
        payment_key = make_known(connection, request.merchant_id, request.payment)
    statement = insert_into(Operation, connection).values(
        operation_uuid=str(request.uuid()),
        merchant_id=request.merchant_id,
        payment_id=request.payment_id,
        payment_key=payment_key,
        kind=request.kind.value,
        amount=request.amount,
        currency=request.currency,
        is_final=request.is_final,
        source=request.source,
        request_id=request.request_id,
        request_sha256=request.sha256(),
        terms=dict(request.terms) or None,
        state=state.value,
        reason=request.problem,
        due_at=None if request.problem else now(),
        trace=tracing.traceparent(),
        created_at=now(),
    )
    key = connection.execute(statement.on_conflict_do_nothing().returning(Operation.operation_key)).scalar_one_or_none()
    if key is not None:
        why = request.problem or f"asked for by {request.source} as {request.request_id}"
        who = actor or request.source
        journal.write(connection, "operation", str(key), before=None, after=state.value, why=why, actor=who)
        _tell(request, key, payment_key)
        metrics.OPERATIONS.labels(request.kind.value, state.value).inc()
    other = (Operation.request_sha256 != request.sha256()).label("is_other")
    chosen = Operation.operation_key == key if key is not None else _same_id(request)
    columns: Any = (*Operation.__table__.columns, other)
    return connection.execute(select(*columns).where(chosen)).one()


def _tell(request: Request, operation_key: int, payment_key: int | None) -> None:
    about: dict[str, Any] = {
        "operation_key": operation_key,
        "payment_key": payment_key,
        "payment_id": request.payment,
        "merchant_id": request.merchant_id,
        "request_id": request.request_id,
        "source": request.source,
        "kind": request.kind.value,
        "amount": request.amount,
        "currency": request.currency,
    }
    if request.problem:
        log.info("operation.refused", why=request.problem, **about)
    else:
        log.info("operation.requested", **about)


def make_known(connection: Connection, merchant_id: str, payment_id: str) -> int:
    """The key of a payment that has operations; its row is made if there is none, and nothing is hinted at."""
    made = insert_into(Payment, connection).values(
        merchant_id=merchant_id, payment_id=payment_id, state=PaymentState.CREATED.value, has_operations=True
    )
    marked = made.on_conflict_do_update(
        index_elements=["merchant_id", "payment_id"], set_={"has_operations": True}
    ).returning(Payment.payment_key)
    return int(connection.execute(marked).scalar_one())


def _same_id(request: Request) -> ColumnElement[bool]:
    """What the constraints took it for; without a merchant they go by the uuid alone, for NULL equals nothing."""
    by_id = and_(
        Operation.merchant_id == request.merchant_id,
        Operation.source == request.source,
        Operation.request_id == request.request_id,
    )
    return by_id if request.merchant_id is not None else Operation.operation_uuid == str(request.uuid())


def _problems(
    kind: MovementKind, given: Mapping[str, Any], merchant_id: Any, merchant_ids: Collection[str], *, ours: bool
) -> Any:
    """What is wrong with a request's words, one sentence each."""
    if unknown := sorted(set(given) - set(ARGUMENTS_OF[kind])):
        names = ", ".join(name if _is(_SOURCE, name) else "?" for name in unknown[:5])
        yield f"unknown arguments: {names}; a {kind} knows {', '.join(ARGUMENTS_OF[kind])}"
    source = given.get("source")
    if not _is(_SOURCE, source):
        yield "source is missing or malformed (1 to 64 of A-Z a-z 0-9 . _ : -)"
    elif not _may_be_source(source, ours=ours):
        yield f"source begins with {POLICY_SOURCE}, which only payhook's own policies may"
    if not _is(_REQUEST_ID, given.get("request_id")):
        yield "request_id is missing or malformed (1 to 128 printable ASCII characters)"
    if merchant_id is None:
        yield "merchant_id is missing, and there are several merchants"
    elif not isinstance(merchant_id, str) or merchant_id not in merchant_ids:
        yield "merchant_id is not one of ours"
    if given.get("amount") is not None and not _is_amount(given["amount"]):
        yield "amount is not a whole number above 0, in the currency's minor unit"
    if given.get("currency") is not None and not _is(_CURRENCY, given["currency"]):
        yield "currency is not three capital letters"
    if not isinstance(given.get("is_final"), bool | None):
        yield "is_final is neither true nor false"
    for name, longest in (("reference", LONGEST_REFERENCE), ("reason", LONGEST_REASON)):
        value = given.get(name)
        if value is not None and not (isinstance(value, str) and value.isprintable() and 0 < len(value) <= longest):
            yield f"{name} is not text of 1 to {longest} printable characters"
    if given.get("on_captured") not in (None, "refuse", "refund"):
        yield "on_captured is neither refuse nor refund"


_TERMS = ("reference", "reason", "on_captured")


def _is(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _may_be_source(value: Any, *, ours: bool) -> bool:
    return _is(_SOURCE, value) and (ours or not value.startswith(POLICY_SOURCE))


def _is_amount(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST_AMOUNT
